/* hook: asking somebody outside before a certificate is issued.
 *
 * An enrolment or a renewal of an account that asks writes down what it asks and is told to come again (EST: 202, POST /devices: 503, both with
 * Retry-After): nothing waits in the gateway, and no loop is held.  Control reads what waits, has the courier send it (admin/hook_run.c), and writes the
 * answer down; an allowance also into the account's log, with its seal.  Who comes again finds the answer: it is of this device ID, this credential and this
 * public key alone, is good for a while, and is used up in the transaction that issues.  No answer, an answer that cannot be read, and nobody to ask
 * are denials.
 *
 * An account that only tries it (tried.h, or HOOK_TRY) issues at once and asks behind that; what would have been refused stands among the refusals, as
 * MUSTER_ESHADOW.  Rows of such questions hold up none of the others: they are counted, read and sent by themselves. */
#ifndef MUSTER_REGISTRY_HOOK_H
#define MUSTER_REGISTRY_HOOK_H

#include "registry/row.h"

#define HOOK_AGAIN 2              /* seconds until who asked comes again */
#define HOOK_WAITS 60             /* seconds in which control has to answer; then it is asked anew */
#define HOOK_ALLOWED_FOR 600      /* seconds that an allowance is good for */
#define HOOK_DENIED_FOR 60        /* until it is asked again */
#define HOOK_FAILED_FOR 10
#define HOOK_LATER_FOR 60         /* where the one who was asked does not say */
#define HOOK_LATER_MAX CLOCK_DAY
#define HOOK_ASKS_MAX 1000        /* rows of one account; and again so many on trial */
#define HOOK_REASON_MAX 160

enum hook_state { HOOK_WAITING = 1, HOOK_ALLOWED = 2, HOOK_DENIED = 3, HOOK_FAILED = 4, HOOK_LATER = 5 };

/* Whether something hangs on the answer; a number in rows.  On trial the webhook for certificate.try is asked, or else that for certificate.ask; BESIDE: not the latter, which
 * has said yes to this very certificate. */
enum hook_trial { HOOK_DECIDES = 0, HOOK_TRIAL = 1, HOOK_TRIAL_BESIDE = 2 };
bool hook_asks(enum hook_rule rule, bool renews); /* by what holds; HOOK_TRY: nobody */
enum hook_trial hook_trial_of(const struct account *a, bool renews); /* HOOK_DECIDES: nobody is asked on trial */

/* What is asked. */
struct hook_ask {
    struct hash what;        /* device, credential and key, by hook_what() */
    struct span device_id;
    bool renews;
    const char *by;          /* the provisioning key's name, or "invitation", or "" */
    struct span spki;        /* of the device's own key; empty: Muster makes it */
    const char *address;
};
void hook_what(bool renews, int64_t key, int64_t invitation, const struct hash *certificate, struct span device_id, const struct hash *spki, struct hash *out);

struct hook_answer {
    int64_t row;             /* 0: it was not asked */
    struct uuid uuid;
    enum hook_state state;
    int64_t until;
    char reason[HOOK_REASON_MAX + 1];
};
int hook_find(struct store_tx *tx, int64_t account, const struct hash *what, struct hook_answer *out, struct err *err) MUSTER_MUST_CHECK;
/* The rule, pure.  0: go on.  Else the code of *why; *ask: it has to be written down. */
int hook_judge(const struct hook_answer *a, int64_t now, struct err *why, bool *ask);
/* Writes it down, in the place of an answer that is over.  MUSTER_EBUSY: the account waits for too many. */
int hook_write(struct store_tx *tx, int64_t account, const struct hook_ask *ask, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* Likewise, of a certificate that is issued whatever is answered; where too many wait it is not asked. */
int hook_try(struct store_tx *tx, int64_t account, const struct hook_ask *ask, enum hook_trial trial, int64_t now, struct err *err) MUSTER_MUST_CHECK;
int hook_use(struct store_tx *tx, const struct hook_answer *a, struct err *err) MUSTER_MUST_CHECK;

/* --- for control ----------------------------------------------------------------------------------------------------------------------- */

#define HOOK_BATCH 32
struct hook_waiting {
    bool trial;    /* those on trial, and not the others; set within where none of the others waits at all */
    int64_t after; /* row */
    size_t n;
    struct {
        int64_t row;
        struct uuid uuid;
        char account[ACCOUNT_NAME_MAX + 1], device_id[DEVICE_ID_MAX + 1], by[NAME_MAX_BYTES + 1], address[64];
        bool renews, has_spki;
        enum hook_trial trial;
        struct hash spki;
    } at[HOOK_BATCH];
};
int hook_waiting_run(struct store_tx *tx, void *arg, struct err *err);

struct hook_settle {
    int64_t row;
    enum hook_state state;   /* not HOOK_WAITING */
    int64_t seconds;         /* of HOOK_LATER: until it is asked again; 0: not said */
    char reason[HOOK_REASON_MAX + 1];
    bool shadow;             /* out: it was on trial, and would have been a no */
};
/* One that is not there any more, or was answered, is let be. */
int hook_settle_run(struct store_tx *tx, void *arg, struct err *err);

#endif
