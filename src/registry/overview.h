/* overview: what stands in the registry, in numbers: for `muster status` and /metrics. Every number is found by an index, in bounded steps. */
#ifndef MUSTER_REGISTRY_OVERVIEW_H
#define MUSTER_REGISTRY_OVERVIEW_H

#include "registry/clock_set.h"
#include "registry/recovery.h"
#include "registry/refusal_tally.h"
#include "registry/renewable.h"

#define OVERVIEW_ACCOUNTS_MAX 1000
#define OVERVIEW_COUNT_MAX 100000 /* of devices whose certificates end, and of those registered lately: counted no further */
#define OVERVIEW_KEYS_MAX 10000   /* of an account */
#define OVERVIEW_REFUSED CLOCK_DAY /* how far back refusals are counted */

enum overview_within { WITHIN_ENDED, WITHIN_WEEK, WITHIN_MONTH, WITHIN_QUARTER, WITHIN_COUNT };
extern const int OVERVIEW_DAYS[WITHIN_COUNT]; /* 0, 7, 30, 90 */

struct overview_account {
    char name[ACCOUNT_NAME_MAX + 1];
    enum account_kind kind;
    enum account_method method;
    int64_t devices[DEVICE_DELETED + 1];    /* by state */
    int64_t ends[WITHIN_COUNT];             /* of those that are neither revoked nor deleted; each is part of the next */
    struct renewable late;                  /* of those that have ended */
    int64_t registered_hour;                /* devices that came to be in the last hour */
    int64_t keys[KEY_EXHAUSTED + 1];        /* by state, but for blacklisted ones */
    int64_t keys_ending, keys_nearly;       /* of the active ones: their end is within a week; nine tenths are spent */
    char key_ending[NAME_MAX_BYTES + 1], key_nearly[NAME_MAX_BYTES + 1], key_exhausted[NAME_MAX_BYTES + 1]; /* one of them */
    int64_t key_end;                        /* the first end of an active one; 0: none */
    int64_t roots[ROOT_REVOKED + 1];        /* by state */
    int64_t root_end;                       /* the first end of an active or known-only one; 0: none */
    struct uuid root_ending, root_unproved; /* nil: none */
    enum root_state own_root;               /* of the one that it issues under; 0: it has none */
    struct uuid own_root_id;
    int64_t own_root_begin;
    int64_t root_crl_due;                   /* the first next update of an imported revocation list (root_crl.h); 0: none */
    struct uuid root_crl_root;              /* whose that is */
    int64_t ca_end[CA_PROVISIONING + 1];    /* of the newest one of each kind; 0: none */
};

struct overview {
    const char *only; /* name of the one account that may be seen; "" all */
    int64_t now;
    bool with_refused;
    /* out */
    struct overview_account *at; /* the caller frees it */
    size_t n;
    int64_t total, kinds[ACCOUNT_PRODUCTION + 1]; /* of accounts, those beyond OVERVIEW_ACCOUNTS_MAX included */
    struct refusal_tally refused; /* with_refused: of the one account, or of the whole server */
    struct recovery recovery;
    int64_t clock_behind; /* seconds behind the newest entry of the log; 0: it is not */
    struct clock_set clock_set;
};
int overview_run(struct store_tx *tx, void *arg /* struct overview */, struct err *err);

#endif
