/* credentials: what an image or a factory has given this device: a provisioning key, in credentials.zip or as the files that are in it; or a certificate of
 * its own, as files; its key may be in a token or a TPM, as pkey.uri or the options say. */
#ifndef MUSTER_AGENT_CREDENTIALS_H
#define MUSTER_AGENT_CREDENTIALS_H

#include "agent/certs.h"
#include "agent/options.h"
#include "keyring/keyring.h"

enum credentials_kind { CREDENTIALS_NONE, CREDENTIALS_SHARED, CREDENTIALS_DEVICE };

struct credentials {
    enum credentials_kind kind;
    char path[OPTIONS_VALUE_MAX];
    char gateway[OPTIONS_VALUE_MAX]; /* without a slash at the end; "" where they do not name it */
    EVP_PKEY *key;
    char where[KEYRING_URI_MAX]; /* its URI, where it lies in a token or a TPM; "": in a file */
    struct cert *cert;
    struct certs above; /* CA certificates behind it */
    struct certs anchors;
};
#define CREDENTIALS_INIT ((struct credentials){0})

/* Reads those at that path, or those that the options name, or the first of the usual places that has any.  MUSTER_ENOTFOUND: there are none, or the provisioning key was
 * removed from them; MUSTER_EINVALID: they are damaged, or open to others on this device. */
int credentials_at(const char *path, struct credentials *out, struct err *err) MUSTER_MUST_CHECK;
int credentials_find(const struct options *o, struct credentials *out, struct err *err) MUSTER_MUST_CHECK;
void credentials_fini(struct credentials *c);
/* Removes the provisioning key from where it was read, and what a publisher needs with it, as a stock client does; what else is there stays.  Nothing to
 * remove: 0.  A power cut leaves the archive as it was, or as it will be. */
int credentials_strip(const char *path, struct err *err) MUSTER_MUST_CHECK;
/* Whether there is something to remove. */
bool credentials_unstripped(const char *path);

DEFINE_CLEANUP_FINI(credentials_fini, struct credentials)

#endif
