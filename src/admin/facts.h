/* facts: what control knows of the whole server at one moment, for `muster status` and /metrics alike. */
#ifndef MUSTER_ADMIN_FACTS_H
#define MUSTER_ADMIN_FACTS_H

#include "admin/crl.h"
#include "admin/internal.h"
#include "registry/audit.h"
#include "registry/overview.h"

enum { FACTS_VAULT, FACTS_CONTROL, FACTS_GATEWAY, FACTS_COURIER, FACTS_TOKEN, FACTS_PROCESSES };
extern const char *const FACTS_PROCESS[FACTS_PROCESSES];

struct facts_store {
    int code;                   /* 0, or MUSTER_E…: what is wrong */
    int64_t bytes, wal_bytes;
};
struct facts {
    int64_t now;
    struct overview registry;   /* of the accounts that may be seen; empty where registry_db.code is not 0 */
    struct crls_tally *crls;    /* of registry.at, one each; NULL: out of memory */
    struct facts_store registry_db, control_db;
    int64_t disk_free;          /* bytes; -1: not known */
    int64_t head_age;           /* seconds since a head of the server's log was signed; -1: none yet */
    enum pulse_state vault;
    int64_t vault_took_us;      /* -1: no answer yet */
    bool token_configured, token_answers; /* the security module (settings, pkcs11_module), as the vault last heard of it */
    size_t processes;           /* of FACTS_PROCESS: without the token's where none is configured */
    bool confined[FACTS_PROCESSES];
    int64_t landlock[FACTS_PROCESSES];
    int64_t crl_life;           /* the setting */
    int64_t open;               /* connections of the gateway */
    int64_t server_end, server_ca_end; /* of certificates; 0: not known */
    struct facts_server_ca {
        int64_t number, end;
    } former_server_ca[SERVER_CAS_MAX]; /* that are in use besides, the oldest first */
    size_t former_server_cas;
    struct recent_numbers recent;
    const struct forecast *forecast; /* the newest; NULL: none yet */
    int64_t forecast_age;       /* seconds since it was whole, or since control began */
};

/* Asks the stores, then calls then(x, facts), which owes the answer; facts live until it returns.  only: "" every account; refused: with
 * the refusals that are kept. */
typedef void (*facts_fn)(struct http_exchange *x, const struct facts *f);
void facts_collect(struct http_exchange *x, const char *only, bool refused, facts_fn then);

/* What an operator should look at, the worst first: an array of {level, what, account, object, text, command}. server: with what concerns the
 * server.  *critical: whether one of them is. */
json_t *attention_of(const struct facts *f, bool server, bool *critical);
/* How many of those are the account's and more than notices: who has most comes first. */
int attention_weight(const struct facts *f, const struct overview_account *a);

#endif
