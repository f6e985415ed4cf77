/* muster-agent.h: the identity that muster-agent keeps for this device, for programs in C.  libmuster-agent(3)
 *
 *     muster_agent *a = muster_agent_new();
 *     struct muster_agent_identity id;
 *     if (muster_agent_identity(a, &id) == MUSTER_AGENT_DONE)
 *         muster_agent_use(a, ssl_ctx);               // certificate, key and anchors of a TLS client
 *     else
 *         fprintf(stderr, "%s\n", muster_agent_error(a));
 *     muster_agent_free(a);
 *
 * A handle is for one thread at a time; several handles are independent of one another.  Nothing is printed.  Times are seconds since 1970 in 64 bits. */
#ifndef MUSTER_AGENT_H
#define MUSTER_AGENT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct muster_agent muster_agent;
struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

/* What every call returns that can fail: the exit statuses of the program. */
enum muster_agent_result {
    MUSTER_AGENT_DONE = 0,
    MUSTER_AGENT_FAILED = 1,  /* refused or failed */
    MUSTER_AGENT_USAGE = 2,   /* the caller's mistake */
    MUSTER_AGENT_NOT_YET = 75 /* the gateway asked to wait or could not be reached, or another agent is at work */
};

/* A handle with the configuration of this device (/etc/muster-agent.conf, where that is there); NULL: out of memory. */
muster_agent *muster_agent_new(void);
void muster_agent_free(muster_agent *a); /* NULL accepted */
/* One setting, by the name and value that a line of the configuration has: ("dir", "/var/lib/muster-agent"). */
int muster_agent_set(muster_agent *a, const char *name, const char *value);

/* Of the last call that did not return MUSTER_AGENT_DONE: a sentence for people, the stable code, and the seconds after which the gateway wants to be asked again (0:
 * it named none).  Valid until the next call. */
const char *muster_agent_error(const muster_agent *a);
const char *muster_agent_error_code(const muster_agent *a);
int64_t muster_agent_retry_after(const muster_agent *a);

/* `muster-agent provision` and `muster-agent run`: one pass, which may take minutes; hooks are run. */
int muster_agent_provision(muster_agent *a);
int muster_agent_run(muster_agent *a);

/* The identity in use.  Texts are valid until the next call with this handle.  Whoever keeps it longer asks again after `not_after`, or when a hook says so. */
struct muster_agent_identity {
    const char *device_id;
    const char *gateway;                        /* URL, without a slash at its end */
    const char *cert_file, *key_file, *ca_file; /* PEM; key_file is NULL where the key lies in a token or a TPM */
    int64_t not_before, not_after;
    const char *key_uri; /* and this names it then: pkcs11:… (RFC 7512) or tpm2:0x81…;…; NULL for a file */
};
int muster_agent_identity(muster_agent *a, struct muster_agent_identity *out);
/* Gives a TLS client this device's certificate and key (wherever that lies; a token or a TPM is asked for each signature, by whatever thread, for as long as the SSL_CTX lives), and the gateway's anchors in the place of all others; peers are verified, dates with 64 bits. */
int muster_agent_use(muster_agent *a, struct ssl_ctx_st *ctx);
/* What `status --json` and `explain --json` print; the second asks the gateway, and is MUSTER_AGENT_DONE whatever it says.  *json is the caller's, for free(3). */
int muster_agent_status(muster_agent *a, char **json);
int muster_agent_explain(muster_agent *a, char **json);

#ifdef __cplusplus
}
#endif

#endif
