/* event: the outbox.  What webhooks are told of is written down in the transaction that does it, so that nothing is announced that did
 * not happen and nothing that happened is forgotten; control takes it from there (admin/webhook_run.c).
 *
 * A row is written only where an account has a webhook that wants this kind (the table event_wanted, which control keeps): without
 * webhooks nothing is spent but the look at a table that is empty. */
#ifndef MUSTER_REGISTRY_EVENT_H
#define MUSTER_REGISTRY_EVENT_H

#include "registry/registry.h"
#include "registry/row.h"

enum event_kind {
#define V(NAME, number, type, about, when, data) EVENT_##NAME = number,
#include "registry/events.def"
#undef V
};

#define EVENT_PAYLOAD_MAX 16384  /* bytes */
#define EVENT_OUTBOX_MAX 1000000 /* rows that wait for control; beyond, events are lost, and counted */

struct event_type {
    enum event_kind kind;
    const char *type, *when, *data;
    char about; /* 'd' device, 'k' key, 'r' root, 'n' nothing */
};
extern const struct event_type EVENT_TYPES[];
extern const size_t EVENT_TYPES_N;
const char *event_name(int64_t kind);                      /* "?" where there is none */
int event_parse(const char *type);                         /* 0: none */
static inline int64_t event_bit(enum event_kind kind) { return INT64_C(1) << kind; }

/* `more`, an object or NULL, is taken over; its members stand behind the device, key or root.  device: as it was before; now: its state
 * after the change.  A reading transaction writes nothing. */
int event_device(struct store_tx *tx, const struct account *a, const struct device *d, enum device_state now, enum event_kind kind, json_t *more, struct err *err) MUSTER_MUST_CHECK;
int event_key(struct store_tx *tx, const struct account *a, const struct prov_key *k, enum event_kind kind, json_t *more, struct err *err) MUSTER_MUST_CHECK;
/* What a key may still enrol went down, by an enrolment or by an operator: key.nearly_exhausted or key.exhausted where `now` is the first to be it. */
int event_key_budget(struct store_tx *tx, const struct account *a, const struct prov_key *before, const struct prov_key *now, struct err *err) MUSTER_MUST_CHECK;
int event_root(struct store_tx *tx, const struct account *a, const struct root *r, enum root_state now, enum event_kind kind, json_t *more, struct err *err) MUSTER_MUST_CHECK;
/* About neither; account NULL: the server's own. */
int event_plain(struct store_tx *tx, const struct account *a, enum event_kind kind, json_t *more, struct err *err) MUSTER_MUST_CHECK;
/* Whether one more refusal of somebody who is not registered is worth an event: where one is wanted, once an hour for an account (0: none) and
 * code; remembered. */
int event_refused_due(struct store_tx *tx, int64_t account, int code, bool *due, struct err *err) MUSTER_MUST_CHECK;
/* Whether any webhook wants it of this account. */
int event_is_wanted(struct store_tx *tx, int64_t account, enum event_kind kind, bool *wanted, struct err *err) MUSTER_MUST_CHECK;
/* The payload, without a transaction, for `webhook test`. */
int event_payload(const struct uuid *id, const char *account, enum event_kind kind, json_t *parts, struct buf *out) MUSTER_MUST_CHECK;

/* --- for control ------------------------------------------------------------------------------------------------------------------ */

#define EVENT_BATCH 128
struct event_row {
    int64_t row;
    struct uuid id, subject; /* subject: the device, key or root; nil: none */
    char account[ACCOUNT_NAME_MAX + 1];
    enum event_kind kind;
    struct buf payload;
};
/* The oldest rows of the outbox. */
struct event_take {
    struct event_row at[EVENT_BATCH];
    size_t n;
    int64_t lost; /* events that found the outbox full, ever */
};
int event_take_run(struct store_tx *registry, void *arg /* struct event_take */, struct err *err);
void event_take_fini(struct event_take *t);
/* Forgets rows up to this one. */
int event_forget_run(struct store_tx *registry, void *arg /* int64_t */, struct err *err);

/* What every webhook together wants: replaces the table. */
#define EVENT_WANTS_MAX 1024
struct event_wants {
    struct {
        char account[ACCOUNT_NAME_MAX + 1]; /* "" the whole server */
        int64_t events;
    } at[EVENT_WANTS_MAX];
    size_t n;
};
int event_wants_run(struct store_tx *registry, void *arg /* struct event_wants */, struct err *err);

#endif
