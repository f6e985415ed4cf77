/* internal: what control's files share. */
#ifndef MUSTER_ADMIN_INTERNAL_H
#define MUSTER_ADMIN_INTERNAL_H

#include "admin/control.h"
#include "base/log.h"
#include "http/server.h"
#include "json/json.h"
#include "loop/parent.h"
#include "registry/report.h"
#include "registry/token.h"
#include "vault/vault.h"

struct audit_signed;
struct change;
struct account_settings;
struct vault_account;
struct pulse;
struct recent;
struct forecast;
struct forecasting;
struct crls;
struct clock_watch;
struct ocsp_desk;
struct server_cas;
struct server_change;
struct control {
    struct report_sweep sweep; /* first: what the operation is given */
    bool sweeping;
    const struct control_options *o;
    struct loop *loop;
    struct parent *parent;
    struct store *registry, *store; /* store: DIR/control.db */
    struct vault_client *vault;
    bool greeted;                   /* the vault answers */
    struct tls_server *tls;
    struct http_router *router;
    struct http_route *routes;      /* made of routes.def */
    struct http_server *server;
    struct certificates *certificates;
    struct anchoring *anchoring;
    struct webhooks *webhooks;
    struct hooks *hooks;
    struct ocsp_desk *ocsp;
    struct pulse *pulse;
    struct recent *recent;
    struct forecasting *forecasting;
    struct crls *crls;
    struct clock_watch *clock;
    int crls_dir;                   /* DIR/crl; owned by crls */
    char **hosts;                   /* NULL-terminated */
    size_t n_hosts;
    struct buf server_ca;           /* PEM: the anchors of the gateway; with what an operator has added */
    struct server_cas *server_cas;  /* what the vault says of Muster's own */
    struct server_change *server_change; /* server_ca.c: the one under way; NULL: none */
    struct buf openapi;             /* openapi.c: "" until somebody asks */
    struct change *change; /* accounts.c: the one under way, and those that wait */
    struct checking *checks; /* audit_check.c: verifications under way */
    struct log_budget strangers; /* access.c */
    bool ready, draining;
};

/* --- routes and who may take them: authorise.c --------------------------------------------------------------------------------------- */

enum route_scope { SCOPE_OPEN, SCOPE_SERVER, SCOPE_ACCOUNT, SCOPE_ANY };
struct admin_route {
    const char *name, *method, *path, *summary;
    enum route_scope scope;
    unsigned roles; /* enum role */
    size_t body_max;
};
extern const struct admin_route ADMIN_ROUTES[];
extern const size_t ADMIN_ROUTES_COUNT;
int routes_new(struct control *c, struct err *err) MUSTER_MUST_CHECK; /* c->routes, c->router */
extern const struct peer_ops AUTHORISE_OPS;
/* query.c: 0, or MUSTER_EINVALID where a parameter has no Q row, no value, or stands there twice. */
int query_check(struct http_exchange *x, const struct admin_route *r, struct err *err) MUSTER_MUST_CHECK;

/* What the authorisation of a request found.  Handlers take their account from here and from nowhere else. */
struct grant {
    struct token token;
    struct actor actor;
    char account[ACCOUNT_NAME_MAX + 1]; /* SCOPE_ACCOUNT: the one acted on; SCOPE_ANY: the token's own, "" the whole server */
};
const struct grant *grant_of(const struct http_exchange *x);
static inline struct span grant_account(const struct http_exchange *x) { return span_str(grant_of(x)->account); }

/* --- asking a store, then answering: job.c --------------------------------------------------------------------------------------------- */

enum job_kind { JOB_READ, JOB_WRITE, JOB_CONTROL_READ, JOB_CONTROL_WRITE };
/* op is freed after it returns; it owes the answer. */
typedef void (*job_fn)(struct http_exchange *x, int rc, const struct err *err, void *op);
/* Copies op (size bytes); spans in it have to live as long as the exchange. */
void job_start(struct http_exchange *x, enum job_kind kind, store_run_fn run, const void *op, size_t size, job_fn then);
/* The same after a rest: JOB_REST_MS, in which other processes that write get their turn, for the steps of something long. */
#define JOB_REST_MS 15
void job_later(struct http_exchange *x, int rest_ms, enum job_kind kind, store_run_fn run, const void *op, size_t size, job_fn then);
/* Takes over `doc` (NULL where rc is not 0): 200, or the error. */
void reply_json(struct http_exchange *x, int status, json_t *doc);
void reply_done(struct http_exchange *x, int rc, const struct err *err, json_t *doc);
void reply_code(struct http_exchange *x, int code, const char *text);
/* 409 with the number that has to be confirmed. */
void reply_confirm(struct http_exchange *x, const struct err *err, int64_t count);
/* The body as an object; an empty one counts as {}.  NULL: answered already. */
json_t *body_object(struct http_exchange *x);
json_t *body_read(struct span body, struct err *err); /* the same, on any thread; NULL: *err says why */
/* ?cursor= and ?limit=; false: answered already. */
bool page_of(struct http_exchange *x, struct page *page);
bool page_limit(struct http_exchange *x, struct page *page); /* ?limit= alone: for lists with cursors of their own */
/* A time, or a length of time that counts back from now. */
int read_when(struct span text, const char *name, int64_t *out, struct err *err) MUSTER_MUST_CHECK;
bool when_of(struct http_exchange *x, const char *name, int64_t *out); /* a query parameter that is one, where it is there; false: answered already */
/* The same of what lies ahead: a length of time counts on from now. */
int read_ahead(struct span text, const char *name, int64_t *out, struct err *err) MUSTER_MUST_CHECK;
bool ahead_of(struct http_exchange *x, const char *name, int64_t *out);
/* The query parameter spki, the SHA-256 of a public key, where it is there; false: answered already. */
bool spki_of(struct http_exchange *x, struct hash *out, bool *there);
struct span param_of(struct http_exchange *x, const char *name);

/* control.c: the certificates were renewed: the listener's own is one of them, and the gateway has to look. */
void control_certificates_changed(struct control *c);

/* pulse.c: whether the vault answers. */
/* health.c: whether the registry takes writes, control's and the gateway's: 0, or the code of what is wrong. */
int control_registry_health(const struct control *c);

enum pulse_state { PULSE_ALIVE, PULSE_AWAY, PULSE_SILENT /* it is there, and does not answer */ };
struct pulse *pulse_new(struct control *c, struct err *err);
void pulse_free(struct pulse *p);
enum pulse_state pulse_state(const struct control *c);
const char *pulse_word(enum pulse_state s);
int64_t pulse_took_us(const struct control *c); /* of its last answer; -1: none */

/* recent.c: what the gateway counted in the last hour, or since control was started. */
#define RECENT_TOP 8
struct recent_numbers {
    int64_t enrolled_hour, enrolled_minute, requests_hour, refused_hour, since_s;
    struct {
        int code;
        int64_t n;
    } top[RECENT_TOP + 1]; /* the most frequent refusals first; n 0 ends them */
};
struct recent *recent_new(struct control *c, struct err *err);
void recent_free(struct recent *r);
void recent_read(const struct control *c, struct recent_numbers *out);

/* forecast.c: what is going to end, looked at every hour. */
struct forecasting *forecasting_new(struct control *c, struct err *err);
void forecasting_free(struct forecasting *g);
void forecast_soon(struct control *c); /* something has changed that it rests on */
const struct forecast *forecast_newest(const struct control *c); /* FORECAST_DAYS ahead, of every account; NULL: none yet */
int64_t forecast_overdue(const struct control *c); /* seconds since one was whole, or since control began */

/* access.c: a line of the log for a request that was answered, where the setting log_requests wants it. */
void admin_answered(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal);

/* --- work that needs no request ------------------------------------------------------------------------------------------------------------ */

/* certificates.c: server certificates under DIR/tls and issuing CAs, looked after now and then every hour. */
struct certificates *certificates_new(struct control *c, loop_fn first_done, void *arg, struct err *err);
void certificates_free(struct certificates *k);
void certificates_look(struct certificates *k); /* soon: an account was made, or the vault is back */
/* A look and a change of an account never run at once: what one of them reads the other one changes. */
bool certificates_looking(const struct certificates *k);
void certificates_go_on(struct certificates *k); /* no change is under way any more */
void accounts_go_on(struct control *c);          /* the look is over */
int certificate_default(struct control *c, struct buf *pem, struct err *err) MUSTER_MUST_CHECK;
/* certificate_file.c */
struct server_names {
    const char *account;      /* "" the default certificate */
    char text[600];           /* the account's name under the gateway */
    struct span names[VAULT_NAMES_MAX];
    size_t n;
};
bool server_names_of(struct control *c, const char *account, struct server_names *out); /* false: the gateway has no host name under which accounts could have theirs */
/* MISSING: the gateway has none that its clients would take; DUE: it has one, and it is time for another. */
enum certificate_state { CERTIFICATE_GOOD, CERTIFICATE_DUE, CERTIFICATE_MISSING };
enum certificate_state certificate_look(struct control *c, const struct server_names *names);
/* The public keys of Muster's own CAs in server-ca.pem; an operator's root beside them is not Muster's.  The number of them. */
size_t server_ca_keys(struct control *c, struct hash *out, size_t max);
int certificate_store(struct control *c, const struct server_names *names, struct span der, EVP_PKEY *key, struct err *err) MUSTER_MUST_CHECK;
int certificate_read(struct span pem, struct cert **out) MUSTER_MUST_CHECK; /* the first of a PEM file */
int certificate_remove(struct control *c, const char *account, struct err *err) MUSTER_MUST_CHECK;
/* "https://<account>.<host>:port", or the gateway's own URL where accounts have no names. */
void account_url(struct control *c, const char *account, struct buf *out);
const char *account_host(struct control *c, const char *account, char out[600]);

/* accounts.c: what the vault is told of an account. name stays the caller's. */
/* A change of the issuing profile, as the API takes it, into settings (profile.c). */
int profile_change(json_t *body, struct account_settings *s, struct err *err) MUSTER_MUST_CHECK;
void vault_account_of(const char *name, enum account_kind kind, enum account_method method, const struct account_settings *s, struct vault_account *out);

/* anchor.c: heads of the audit chains, signed by the vault. */
struct anchoring *anchoring_new(struct control *c, struct err *err);
void anchoring_free(struct anchoring *a);
/* Signs the newest head of one chain now. */
typedef void (*anchor_fn)(void *arg, int rc, const struct err *err, const struct audit_signed *head);
void anchor_now(struct control *c, int64_t chain, const char *name, anchor_fn done, void *arg);

/* sweep.c: removes what deleted accounts left of their devices' reports, now; harmless where there is nothing. */
void sweep_start(struct control *c);

void clock_compare(struct control *c); /* with the logs; says so where it is behind */

/* clock_watch.c: whether the clock was set. */
int64_t clock_watch_boot(void); /* which start of the machine it is; before the process is confined */
struct clock_watch *clock_watch_new(struct control *c, int64_t boot, struct err *err);
void clock_watch_free(struct clock_watch *w);

/* vault_log.c: the vault's version in control's log; greeting it. */
void vault_greet(struct control *c, loop_fn done, void *arg);
struct vault_version {
    struct actor actor;
    uint64_t version;
    char account[ACCOUNT_NAME_MAX + 1];
    char what[32];
};
int vault_version_run(struct store_tx *control, void *arg, struct err *err);

/* export.c */
void export_listen(struct control *c);

/* One handler a route. */
#define R(NAME, method, path, scope, roles, body_max, summary) void admin_##NAME(struct http_exchange *x, void *arg);
#include "admin/routes.def"
#undef R

#endif
