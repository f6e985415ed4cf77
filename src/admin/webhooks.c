/* webhooks: webhooks over the API.  A token of one account sees and makes webhooks of that account alone; one of the server any, those of
 * the whole server among them.  A change is answered once control and registry both go by it. */
#include "admin/webhook_run.h"
#include "base/secret.h"
#include "courier/url.h"
#include "registry/account.h"

#define OVERLAP_DEFAULT CLOCK_DAY
#define OVERLAP_MAX (30 * CLOCK_DAY)

/* --- answering once the change is in force ------------------------------------------------------------------------------------------- */

struct change_done {
    struct http_exchange *x; /* held */
    int status;
    json_t *doc;
    bool secret;
};

static void in_force(void *arg) {
    struct change_done *d = arg;
    CLEANUP_JSON json_t *doc = d->doc;
    struct buf body = BUF_INIT(65536);
    if (json_write(&body, doc)) {
        buf_wipe(&body);
        reply_code(d->x, MUSTER_ENOMEM, NULL);
    } else {
        http_reply_buf(d->x, d->status, "application/json", &body, d->secret);
    }
    http_exchange_unref(d->x);
    free(d);
}

static void answer_in_force(struct http_exchange *x, int status, json_t *doc, bool secret) {
    struct control *c = http_exchange_arg(x);
    struct change_done *d = malloc(sizeof *d);
    if (!d) {
        json_decref(doc);
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *d = (struct change_done){x, status, doc, secret};
    http_exchange_ref(x);
    webhooks_reload(c->webhooks, in_force, d);
}

/* --- what requests say ------------------------------------------------------------------------------------------------------------------ */

static bool id_of(struct http_exchange *x, struct uuid *out) {
    if (!uuid_parse(param_of(x, "webhook"), out))
        return true;
    reply_code(x, MUSTER_ENOTFOUND, "There is no such webhook.");
    return false;
}

static int take_events(json_t *list, int64_t *out, struct err *err) {
    size_t i;
    json_t *item;
    *out = 0;
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list) || !json_array_size(list))
        return err_set(err, MUSTER_EINVALID, "events is a list of types, or null for all of them.");
    json_array_foreach(list, i, item) {
        int kind = json_is_string(item) ? event_parse(json_string_value(item)) : 0;
        if (!kind)
            return err_set(err, MUSTER_EINVALID, "There is no event \"%.60s\"; `muster webhook events` lists them.", json_is_string(item) ? json_string_value(item) : "?");
        *out |= event_bit((enum event_kind)kind);
    }
    return 0;
}

static int check_ca(const char *pem, struct err *err) {
    struct cert *certs[8];
    size_t n = 0;
    if (strlen(pem) > WEBHOOK_CA_MAX)
        return err_set(err, MUSTER_EINVALID, "ca has at most %d bytes.", WEBHOOK_CA_MAX);
    int rc = cert_chain_from_file(span_str(pem), certs, sizeof certs / sizeof *certs, &n, err);
    for (size_t i = 0; !rc && i < n; i++)
        cert_free(certs[i]);
    if (rc)
        return err_set(err, MUSTER_EINVALID, "ca is one to 8 certificates in PEM.");
    return 0;
}

static int check_url(struct http_exchange *x, const char *url, struct err *err) {
    struct control *c = http_exchange_arg(x);
    return courier_url_check(span_str(url), c->o->settings->webhook_networks, err);
}

/* --- the list ------------------------------------------------------------------------------------------------------------------------------ */

void admin_WEBHOOK_EVENTS(struct http_exchange *x, void *arg) {
    static const char *const about[] = {['d'] = "device", ['k'] = "key", ['r'] = "root", ['n'] = NULL};
    json_t *items = json_array();
    for (size_t i = 0; i < EVENT_TYPES_N; i++) {
        json_t *o = json_object();
        json_set_str(o, "id", EVENT_TYPES[i].type);
        json_set_str(o, "about", about[(unsigned char)EVENT_TYPES[i].about]);
        json_set_str(o, "when", EVENT_TYPES[i].when);
        json_set_str(o, "data", EVENT_TYPES[i].data);
        json_array_append_new(items, o);
    }
    json_t *page = json_object();
    json_set(page, "items", items);
    json_set_str(page, "next", NULL);
    reply_json(x, 200, page);
}

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct webhook_list *)op)->page.out)); }

void admin_WEBHOOK_LIST(struct http_exchange *x, void *arg) {
    struct webhook_list l = {.account = grant_of(x)->account};
    struct span account = SPAN_NONE;
    if (!page_of(x, &l.page))
        return;
    if (http_query_param(x, "account", &account) && !*l.account) {
        if (account_name_check(account, NULL) || !(l.account = arena_strdup(http_exchange_arena(x), account))) {
            reply_code(x, MUSTER_EINVALID, "account is the name of one.");
            return;
        }
    } else if (account.n && !span_eq_str(account, l.account)) {
        reply_code(x, MUSTER_ENOTFOUND, NULL);
        return;
    }
    job_start(x, JOB_CONTROL_READ, webhook_list_run, &l, sizeof l, listed);
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct webhook_show *)op)->out)); }

void admin_WEBHOOK_SHOW(struct http_exchange *x, void *arg) {
    struct webhook_show s = {.account = grant_of(x)->account};
    if (id_of(x, &s.id))
        job_start(x, JOB_CONTROL_READ, webhook_show_run, &s, sizeof s, shown);
}

/* --- making ---------------------------------------------------------------------------------------------------------------------------------- */

static void created(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct webhook_create *c = op;
    json_t *out = TAKE(c->out);
    if (rc) {
        http_reply_err(x, err);
    } else {
        json_set_str(out, "secret", c->secret);
        answer_in_force(x, 201, out, true);
    }
    secret_wipe(c->secret, sizeof c->secret);
}

/* The CA's text lives in the arena from here on. */
static int take_creation(struct http_exchange *x, json_t *body, struct webhook_create *c, struct err *err) {
    const char *url = NULL, *account = NULL, *ca = NULL;
    json_t *events = NULL;
    const struct grant *g = grant_of(x);
    int rc = json_take(body, err, "{s:s, s?s, s?o, s?s}", "url", &url, "account", &account, "events", &events, "ca", &ca);
    if (!rc)
        rc = check_url(x, url, err);
    if (!rc)
        rc = take_events(events, &c->events, err);
    if (!rc && ca && *ca)
        rc = check_ca(ca, err);
    if (rc)
        return rc;
    if (!account)
        account = g->account;
    if (*account && account_name_check(span_str(account), err))
        return MUSTER_EINVALID;
    if (g->token.account[0] && strcmp(account, g->token.account) != 0)
        return err_set(err, MUSTER_EROLE, "A token of one account makes webhooks of that account only.");
    c->actor = g->actor;
    snprintf(c->url, sizeof c->url, "%s", url);
    snprintf(c->account, sizeof c->account, "%s", account);
    if (ca && *ca) {
        const char *copy = arena_strdup(http_exchange_arena(x), span_str(ca));
        if (!copy)
            return err_set(err, MUSTER_ENOMEM, NULL);
        c->ca = span_str(copy);
    }
    return 0;
}

static void create(struct http_exchange *x, struct webhook_create *c) {
    webhook_secret_make(c->secret);
    job_start(x, JOB_CONTROL_WRITE, webhook_create_run, c, sizeof *c, created);
    secret_wipe(c->secret, sizeof c->secret);
}

static bool creation_of(struct http_exchange *x, struct webhook_create *c) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct err err = ERR_INIT;
    if (body && take_creation(x, body, c, &err))
        http_reply_err(x, &err);
    return body && !err.code;
}

static void account_known(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct webhook_create c = {.owner = grant_of(x)->token.role == ROLE_OWNER};
    json_decref(TAKE(((struct account_show *)op)->out));
    if (rc)
        http_reply_err(x, err);
    else if (creation_of(x, &c))
        create(x, &c);
}

void admin_WEBHOOK_CREATE(struct http_exchange *x, void *arg) {
    struct webhook_create c = {.owner = grant_of(x)->token.role == ROLE_OWNER};
    if (!creation_of(x, &c))
        return;
    if (!c.account[0]) {
        create(x, &c);
        return;
    }
    const char *name = arena_strdup(http_exchange_arena(x), span_str(c.account)); /* has to be there */
    const struct account_show s = {.name = name ? span_str(name) : SPAN_NONE};
    job_start(x, JOB_READ, account_show_run, &s, sizeof s, account_known);
}

/* --- changing ---------------------------------------------------------------------------------------------------------------------------------- */

static void changed(struct http_exchange *x, int rc, const struct err *err, void *op) {
    json_t *out = TAKE(((struct webhook_set *)op)->out);
    if (rc)
        http_reply_err(x, err);
    else
        answer_in_force(x, 200, out, false);
}

static int take_change(struct http_exchange *x, json_t *body, struct webhook_set *s, struct err *err) {
    const char *url = NULL, *ca = NULL, *state = NULL;
    json_t *events = NULL;
    int all = 0, system_ca = 0;
    int rc = json_take(body, err, "{s?s, s?o, s?b, s?s, s?s, s?b}", "url", &url, "events", &events, "all_events", &all, "state", &state, "ca", &ca, "system_ca", &system_ca);
    if (!rc && url)
        rc = check_url(x, url, err);
    s->events = -1;
    if (!rc && (events || all))
        rc = take_events(all ? NULL : events, &s->events, err);
    if (!rc && ca && *ca && !system_ca)
        rc = check_ca(ca, err);
    if (rc)
        return rc;
    if (state && !(s->state = (enum webhook_state)word_parse(&WORDS_WEBHOOK_STATE, state)))
        return err_set(err, MUSTER_EINVALID, "state is active or disabled.");
    s->url = url ? arena_strdup(http_exchange_arena(x), span_str(url)) : NULL;
    const char *pem = system_ca ? "" : ca ? arena_strdup(http_exchange_arena(x), span_str(ca)) : NULL;
    s->ca = pem ? (*pem ? span_str(pem) : SPAN_LIT("")) : SPAN_NONE;
    return (url && !s->url) || (ca && !pem) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

void admin_WEBHOOK_SET(struct http_exchange *x, void *arg) {
    struct webhook_set s = {.owner = grant_of(x)->token.role == ROLE_OWNER, .actor = grant_of(x)->actor, .account = grant_of(x)->account};
    struct err err = ERR_INIT;
    if (!id_of(x, &s.id))
        return;
    CLEANUP_JSON json_t *body = body_object(x);
    if (body && take_change(x, body, &s, &err))
        http_reply_err(x, &err);
    else if (body)
        job_start(x, JOB_CONTROL_WRITE, webhook_set_run, &s, sizeof s, changed);
}

static void deleted(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct webhook_delete *d = op;
    json_t *out = TAKE(d->out);
    if (rc == MUSTER_ECONFIRM)
        reply_confirm(x, err, d->count);
    else if (rc)
        http_reply_err(x, err);
    else
        answer_in_force(x, 200, out, false);
}

static bool confirm_of(struct http_exchange *x, int64_t *out) {
    struct span value;
    uint64_t number;
    *out = -1;
    if (!http_query_param(x, "confirm", &value))
        return true;
    if (span_to_u64(value, &number) && number <= INT64_MAX) {
        *out = (int64_t)number;
        return true;
    }
    reply_code(x, MUSTER_EINVALID, "confirm is a number.");
    return false;
}

void admin_WEBHOOK_DELETE(struct http_exchange *x, void *arg) {
    struct webhook_delete d = {.actor = grant_of(x)->actor, .account = grant_of(x)->account};
    if (id_of(x, &d.id) && confirm_of(x, &d.confirm))
        job_start(x, JOB_CONTROL_WRITE, webhook_delete_run, &d, sizeof d, deleted);
}

static void rotated(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct webhook_rotate *r = op;
    json_t *out = TAKE(r->out);
    if (rc) {
        http_reply_err(x, err);
    } else {
        json_set_str(out, "secret", r->secret);
        answer_in_force(x, 200, out, true);
    }
    secret_wipe(r->secret, sizeof r->secret);
}

void admin_WEBHOOK_ROTATE(struct http_exchange *x, void *arg) {
    struct webhook_rotate r = {.owner = grant_of(x)->token.role == ROLE_OWNER, .actor = grant_of(x)->actor, .account = grant_of(x)->account, .overlap = OVERLAP_DEFAULT};
    const char *overlap = NULL;
    struct err err = ERR_INIT;
    if (!id_of(x, &r.id))
        return;
    CLEANUP_JSON json_t *body = body_object(x);
    if (!body)
        return;
    int rc = json_take(body, &err, "{s?s}", "overlap", &overlap);
    if (!rc && overlap && (clock_parse_span(span_str(overlap), &r.overlap) || r.overlap > OVERLAP_MAX))
        rc = err_set(&err, MUSTER_EINVALID, "overlap is a length of time up to 30d, like \"24h\"; \"0\" where the secret before has leaked.");
    if (rc) {
        http_reply_err(x, &err);
        return;
    }
    webhook_secret_make(r.secret);
    job_start(x, JOB_CONTROL_WRITE, webhook_rotate_run, &r, sizeof r, rotated);
    secret_wipe(r.secret, sizeof r.secret);
}

/* --- trying ---------------------------------------------------------------------------------------------------------------------------------------- */

struct trial {
    struct http_exchange *x; /* held */
    struct uuid webhook, event;
};

static void tried(void *arg, const struct courier_report *r) {
    struct trial *t = arg;
    json_t *o = json_object();
    json_set_uuid(o, "id", &t->webhook);
    json_set_uuid(o, "event", &t->event);
    json_set_bool(o, "delivered", r && r->status >= 200 && r->status < 300);
    json_set(o, "status", r && r->status ? json_integer(r->status) : json_null());
    if (r)
        json_set_span(o, "error", r->text);
    if (!r || !r->text.n)
        json_set_str(o, "error", r ? NULL : "The process that delivers webhooks ended meanwhile.");
    reply_json(t->x, 200, o);
    http_exchange_unref(t->x);
    free(t);
}

void admin_WEBHOOK_TEST(struct http_exchange *x, void *arg) {
    struct control *c = http_exchange_arg(x);
    struct err err = ERR_INIT;
    struct uuid id;
    if (!id_of(x, &id))
        return;
    struct trial *t = malloc(sizeof *t);
    if (!t) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    *t = (struct trial){.x = x, .webhook = id};
    http_exchange_ref(x);
    if (webhooks_test(c->webhooks, &id, grant_of(x)->account, &t->event, tried, t, &err)) {
        http_reply_err(x, &err);
        http_exchange_unref(x);
        free(t);
    }
}

/* --- dead letters ------------------------------------------------------------------------------------------------------------------------------------- */

static void dead_listed(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct webhook_dead *)op)->page.out)); }

void admin_WEBHOOK_DEAD(struct http_exchange *x, void *arg) {
    struct webhook_dead d = {.account = grant_of(x)->account};
    if (id_of(x, &d.id) && page_of(x, &d.page))
        job_start(x, JOB_CONTROL_READ, webhook_dead_list_run, &d, sizeof d, dead_listed);
}

static void dead_shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct webhook_dead *)op)->out)); }

void admin_WEBHOOK_DEAD_SHOW(struct http_exchange *x, void *arg) {
    struct webhook_dead d = {.account = grant_of(x)->account};
    if (!id_of(x, &d.id))
        return;
    if (uuid_parse(param_of(x, "event"), &d.event))
        reply_code(x, MUSTER_ENOTFOUND, "The webhook has no dead letter of that id.");
    else
        job_start(x, JOB_CONTROL_READ, webhook_dead_show_run, &d, sizeof d, dead_shown);
}

static void dead_acted(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct webhook_dead *d = op;
    json_t *out = TAKE(d->out);
    if (rc == MUSTER_ECONFIRM)
        reply_confirm(x, err, d->count);
    else if (rc)
        http_reply_err(x, err);
    else
        answer_in_force(x, 200, out, false);
}

static void act(struct http_exchange *x, store_run_fn run) {
    struct webhook_dead d = {.actor = grant_of(x)->actor, .account = grant_of(x)->account};
    const char *event = NULL;
    json_int_t confirm = -1;
    struct err err = ERR_INIT;
    if (!id_of(x, &d.id))
        return;
    CLEANUP_JSON json_t *body = body_object(x);
    if (!body)
        return;
    int rc = json_take(body, &err, "{s?s, s?I}", "event", &event, "confirm", &confirm);
    if (!rc && event && (uuid_parse(span_str(event), &d.event) || uuid_is_nil(&d.event)))
        rc = err_set(&err, MUSTER_ENOTFOUND, "The webhook has no dead letter of that id.");
    d.confirm = confirm;
    if (rc)
        http_reply_err(x, &err);
    else
        job_start(x, JOB_CONTROL_WRITE, run, &d, sizeof d, dead_acted);
}

void admin_WEBHOOK_RETRY(struct http_exchange *x, void *arg) { act(x, webhook_dead_retry_run); }
void admin_WEBHOOK_DROP(struct http_exchange *x, void *arg) { act(x, webhook_dead_drop_run); }
