/* webhook: where events are sent, and what waits to be sent, in DIR/control.db.
 *
 * Signing secrets stand there as they are, because control signs with them at each delivery; the file is control's alone, and no
 * operation here but webhook_load_run hands one out. */
#ifndef MUSTER_REGISTRY_WEBHOOK_H
#define MUSTER_REGISTRY_WEBHOOK_H

#include "registry/event.h"

#define WEBHOOK_URL_MAX 1024
#define WEBHOOK_CA_MAX 16384      /* bytes of PEM */
#define WEBHOOK_SECRET_PREFIX "whsec_"
#define WEBHOOK_SECRET_LEN 49     /* prefix and 43 characters of base64url */
#define WEBHOOKS_ACCOUNT_MAX 16
#define WEBHOOKS_MAX 256          /* on one server */
#define WEBHOOK_DEAD_MAX 10000    /* dead letters of one webhook; beyond, the oldest are dropped and counted */
#define WEBHOOK_ERROR_MAX 200

enum webhook_state { WEBHOOK_ACTIVE = 1, WEBHOOK_DISABLED = 2 };
extern const struct words WORDS_WEBHOOK_STATE;

struct webhook {
    int64_t row;
    struct uuid uuid;
    char account[ACCOUNT_NAME_MAX + 1]; /* "" the whole server */
    char url[WEBHOOK_URL_MAX + 1];
    int64_t events;                     /* bits; 0: all of them, those of later versions too */
    enum webhook_state state;
    char why[WEBHOOK_ERROR_MAX];        /* it is disabled; "" an operator */
    bool own_ca;
    int64_t secret_before_until, created, delivered, dropped, failures, failing_since, next_at, last_success;
    char last_error[WEBHOOK_ERROR_MAX];
};
static inline bool webhook_wants(const struct webhook *w, enum event_kind kind) { return !w->events || (w->events & event_bit(kind)); }

/* "whsec_…", 256 random bits. */
void webhook_secret_make(char out[WEBHOOK_SECRET_LEN + 1]);

/* `account` in the operations below: the scope of who asks, "" the whole server; another one's is MUSTER_ENOTFOUND. */
struct webhook_create {
    struct actor actor;
    char account[ACCOUNT_NAME_MAX + 1];
    char url[WEBHOOK_URL_MAX + 1];
    int64_t events;
    struct span ca; /* PEM, the caller's; empty: the system's */
    char secret[WEBHOOK_SECRET_LEN + 1];
    bool owner;     /* certificate.ask, whose answers decide, is the owners' to say; so in the next ones */
    json_t *out;    /* without the secret */
};
int webhook_create_run(struct store_tx *control, void *arg, struct err *err); /* MUSTER_ELIMIT… see errors.def */

struct webhook_list {
    struct page page;
    const char *account; /* "" all */
};
int webhook_list_run(struct store_tx *control, void *arg, struct err *err);

struct webhook_show {
    struct uuid id;
    const char *account;
    json_t *out; /* with the queue */
};
int webhook_show_run(struct store_tx *control, void *arg, struct err *err);

struct webhook_set {
    struct actor actor;
    struct uuid id;
    const char *account;
    const char *url;          /* NULL: as it is; like the next three */
    int64_t events;           /* -1: as it is */
    enum webhook_state state; /* 0: as it is */
    struct span ca;           /* .p NULL: as it is; empty: the system's */
    bool owner;
    json_t *out;
};
int webhook_set_run(struct store_tx *control, void *arg, struct err *err);

struct webhook_delete {
    struct actor actor;
    struct uuid id;
    const char *account;
    int64_t confirm; /* what waits and dead letters together; -1: not said */
    int64_t count;   /* out */
    json_t *out;
};
int webhook_delete_run(struct store_tx *control, void *arg, struct err *err); /* MUSTER_ECONFIRM */

struct webhook_rotate {
    struct actor actor;
    struct uuid id;
    const char *account;
    char secret[WEBHOOK_SECRET_LEN + 1];
    bool owner;
    int64_t overlap; /* seconds for which the secret before goes on signing too */
    json_t *out;
};
int webhook_rotate_run(struct store_tx *control, void *arg, struct err *err);

/* --- dead letters: webhook_dead.c ------------------------------------------------------------------------------------------------------- */

struct webhook_dead {
    struct actor actor;
    struct uuid id, event; /* event nil: all of them (not for show) */
    const char *account;
    struct page page;      /* list */
    int64_t confirm;       /* drop: their number; -1: not said */
    int64_t count;         /* out */
    json_t *out;
};
int webhook_dead_list_run(struct store_tx *control, void *arg, struct err *err);
int webhook_dead_show_run(struct store_tx *control, void *arg, struct err *err);  /* with the payload */
int webhook_dead_retry_run(struct store_tx *control, void *arg, struct err *err);
int webhook_dead_drop_run(struct store_tx *control, void *arg, struct err *err);  /* MUSTER_ECONFIRM */

/* --- for other operations ------------------------------------------------------------------------------------------------------------------ */

int webhook_need(struct store_tx *control, const struct uuid *id, const char *account, struct webhook *out, struct err *err) MUSTER_MUST_CHECK;
int webhook_audit(struct store_tx *control, const struct actor *actor, const char *action, const struct webhook *w, json_t *detail, struct err *err) MUSTER_MUST_CHECK;
int row_webhook(struct store_row *row, struct webhook *out, struct err *err) MUSTER_MUST_CHECK;

#endif
