/* line: factory lines.  A line makes devices offline, with a CA of its own below one of the account's fleet roots, and the registry says what it may
 * bring in: so many devices, of such IDs, until then.  The certificate of the line's CA says nothing of that: whoever copies a line's key can certify as
 * many devices as he likes, and those outside the bounds wait for an operator.
 *
 * Lines are made, changed and closed by control alone.  What a line has spent is written by the gateway, in the transaction that registers a device, so that
 * the number is exact however many come at once and whatever ends the process. */
#ifndef MUSTER_REGISTRY_LINE_H
#define MUSTER_REGISTRY_LINE_H

#include "registry/admit.h"
#include "registry/row.h"

#define LINE_DEVICES_MAX 100000000
#define LINE_HELD_MORE 1000 /* devices outside its bounds that are registered besides as many as it may bring in: beyond, they are refused and nothing is written */
#define LINE_BACKDATE (2 * CLOCK_DAY) /* how long before the line's beginning its certificates may begin: clocks of factories, and CAs that backdate */

/* Of a closed line what comes waits; of a revoked one, whose CA is in somebody's hands, nothing comes in or waits any more, for ever. */
enum line_state { LINE_OPEN = 1, LINE_CLOSED = 2, LINE_REVOKED = 3 };
extern const struct words WORDS_LINE_STATE;

struct line {
    int64_t row, account, root;
    struct uuid uuid;
    char name[64];
    enum line_state state;
    struct hash spki;
    int64_t not_after, max_devices, spent, held, begins, expires, created;
    char id_pattern[DEVICE_ID_MAX + 1];
};
int row_line(struct store_row *row, struct line *out, struct err *err) MUSTER_MUST_CHECK;
int line_find_row(struct store_tx *tx, int64_t row, struct line *out, struct err *err) MUSTER_MUST_CHECK;
/* By its id or name.  MUSTER_ENOTFOUND. */
int line_need(struct store_tx *tx, const struct account *a, struct span name, struct line *out, struct err *err) MUSTER_MUST_CHECK;

/* The line of the account by which the certificate came, if by one: its CA stands on the path.  1 there is one, 0 not, <0 error. */
int line_of(struct store_tx *tx, const struct admit *a, int64_t account, struct line *out, struct err *err) MUSTER_MUST_CHECK;
/* What keeps a new device out of the line's bounds at that time, as a person reads it; NULL: nothing.  Pure. */
const char *line_objection(const struct line *l, struct span device_id, const struct cert *leaf, int64_t now);
/* One more that came in, or that is held. */
int line_spend(struct store_tx *tx, const struct line *l, bool held, struct err *err) MUSTER_MUST_CHECK;

/* --- for operators ------------------------------------------------------------------------------------------------------------------ */

struct line_bounds {
    int64_t max_devices, expires; /* 0: as it is */
    const char *id_pattern;       /* NULL: as it is */
    enum line_state state;        /* 0: as it is */
};

/* Before the vault signs: whether the registry would take it.  MUSTER_EINVALID, _EEXISTS, _EMETHODOFF, _ENOTFOUND, _ECLOCK. */
struct line_look {
    struct span account, name;
    struct hash spki;
    struct line_bounds bounds;
    bool own; /* under the fleet root that the account issues under, else under one of the customer's */
};
int line_look_run(struct store_tx *tx, void *arg, struct err *err);

/* cert: the line's CA, path length 0 and constrained to O=account,OU=name; the vault's, or brought: then one of the account's proved fleet roots has
 * signed it.  MUSTER_EROOTUNFIT, and what line_look_run() says. */
struct line_create {
    struct actor actor;
    struct span account, name;
    struct uuid id;
    const struct cert *cert; /* the caller's */
    struct line_bounds bounds;
    json_t *out;             /* with "certificate" and "root_certificate" */
};
int line_create_run(struct store_tx *tx, void *arg, struct err *err);

struct line_list {
    struct span account;
    struct page page;
};
int line_list_run(struct store_tx *tx, void *arg, struct err *err);

struct line_show {
    struct span account, line; /* by id or name */
    json_t *out;               /* as line_create's */
};
int line_show_run(struct store_tx *tx, void *arg, struct err *err);

/* MUSTER_EINVALID: less than it has spent already; _ESTATE: it is revoked. */
struct line_set {
    struct actor actor;
    struct span account, line;
    struct line_bounds bounds;
    json_t *out;
};
int line_set_run(struct store_tx *tx, void *arg, struct err *err);

/* For good.  Devices that it has brought in stay as they are (line_act_run).  Once more: nothing is changed, and nothing told. */
struct line_revoke {
    struct actor actor;
    struct span account, line;
    char reason[256];
    json_t *out;
};
int line_revoke_run(struct store_tx *tx, void *arg, struct err *err);

/* Takes devices that a line brought back out, all in one transaction: HOLD has those that are in wait for an operator again, QUARANTINE cuts off those that are in or
 * wait.  Those in another state are passed over.  MUSTER_ENOTFOUND: one is not the line's, and nothing is done. */
enum line_action { LINE_HOLD_DEVICES = 1, LINE_QUARANTINE_DEVICES = 2 };
#define LINE_ACT_MAX 1000
struct line_act {
    struct actor actor;
    struct span account, line;
    enum line_action action;
    json_t *devices; /* array of device IDs; the caller's */
    char reason[256];
    int64_t acted, passed; /* out */
};
int line_act_run(struct store_tx *tx, void *arg, struct err *err);

/* The devices that a line brought, held ones too, oldest first. */
struct line_devices {
    struct span account, line;
    struct page page;
};
int line_devices_run(struct store_tx *tx, void *arg, struct err *err);

#endif
