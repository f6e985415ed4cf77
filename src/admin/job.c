/* job: see internal.h. */
#include "admin/internal.h"
#include "base/hex.h"

struct job {
    struct http_exchange *x; /* held */
    enum job_kind kind;
    store_run_fn run;
    job_fn then;
    struct loop_timer *timer; /* of one that begins later */
    max_align_t op[];
};

static void done(void *arg, int rc, const struct err *err) {
    struct job *j = (struct job *)((char *)arg - offsetof(struct job, op));
    j->then(j->x, rc, err, arg);
    http_exchange_unref(j->x);
    free(j);
}

static void begin(struct job *j) {
    struct control *c = http_exchange_arg(j->x);
    struct err err = ERR_INIT;
    struct store *s = j->kind == JOB_READ || j->kind == JOB_WRITE ? c->registry : c->store;
    int rc = j->kind == JOB_READ || j->kind == JOB_CONTROL_READ ? store_read(s, c->loop, j->run, done, j->op, &err) : store_write(s, c->loop, j->run, done, j->op, &err);
    if (rc)
        done(j->op, rc, &err);
}

static void rested(void *arg) {
    struct job *j = arg;
    loop_timer_free(TAKE(j->timer));
    begin(j);
}

static struct job *job_new(struct http_exchange *x, enum job_kind kind, store_run_fn run, const void *op, size_t size, job_fn then) {
    struct job *j = calloc(1, sizeof *j + size);
    if (!j) {
        reply_code(x, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    *j = (struct job){.x = x, .kind = kind, .run = run, .then = then};
    memcpy(j->op, op, size);
    http_exchange_ref(x);
    return j;
}

void job_start(struct http_exchange *x, enum job_kind kind, store_run_fn run, const void *op, size_t size, job_fn then) {
    struct job *j = job_new(x, kind, run, op, size, then);
    if (j)
        begin(j);
}

void job_later(struct http_exchange *x, int rest_ms, enum job_kind kind, store_run_fn run, const void *op, size_t size, job_fn then) {
    struct job *j = job_new(x, kind, run, op, size, then);
    if (!j)
        return;
    if ((j->timer = loop_timer_new(((struct control *)http_exchange_arg(x))->loop, rested, j)))
        loop_timer_set(j->timer, rest_ms);
    else
        begin(j);
}

void reply_json(struct http_exchange *x, int status, json_t *doc) {
    CLEANUP_JSON json_t *owned = doc;
    struct buf body = BUF_INIT(16u << 20);
    if (!doc || json_write(&body, doc)) {
        buf_fini(&body);
        reply_code(x, MUSTER_ENOMEM, NULL);
        return;
    }
    http_reply_buf(x, status, "application/json", &body, false);
}

void reply_code(struct http_exchange *x, int code, const char *text) {
    struct err err = {.code = code};
    if (text)
        err_set(&err, code, "%s", text);
    http_reply_err(x, &err);
}

void reply_done(struct http_exchange *x, int rc, const struct err *err, json_t *doc) {
    if (!rc) {
        reply_json(x, 200, doc);
        return;
    }
    json_decref(doc);
    http_reply_err(x, err);
}

void reply_confirm(struct http_exchange *x, const struct err *err, int64_t count) {
    json_t *o = json_object();
    json_set_int(o, "status", err_http(err->code));
    json_set_str(o, "title", err_what(err->code));
    json_set_str(o, "detail", err_text(err));
    json_set_str(o, "code", err_code(err->code));
    json_set_str(o, "fix", err_fix(err->code));
    json_set_int(o, "count", count);
    CLEANUP_JSON json_t *owned = o;
    struct buf body = BUF_INIT(16384);
    if (json_write(&body, o)) {
        buf_fini(&body);
        http_reply_err(x, err);
        return;
    }
    http_reply_buf(x, 409, "application/problem+json", &body, false);
}

json_t *body_read(struct span body, struct err *err) {
    json_t *doc = body.n ? json_parse(body, err) : json_object();
    if (doc && !json_is_object(doc)) {
        json_decref(TAKE(doc));
        err_set(err, MUSTER_EJSON, "The body is a JSON object.");
    }
    return doc;
}

json_t *body_object(struct http_exchange *x) {
    struct err err = ERR_INIT;
    json_t *doc = body_read(http_body(x), &err);
    if (!doc)
        http_reply_err(x, &err);
    return doc;
}

bool page_limit(struct http_exchange *x, struct page *page) {
    struct span value;
    uint64_t number;
    *page = (struct page){.limit = 100};
    if (!http_query_param(x, "limit", &value))
        return true;
    if (!span_to_u64(value, &number) || number < 1 || number > PAGE_MAX) {
        reply_code(x, MUSTER_EINVALID, "limit is between 1 and 1000.");
        return false;
    }
    page->limit = (int64_t)number;
    return true;
}

bool page_of(struct http_exchange *x, struct page *page) {
    struct span value;
    uint64_t number;
    if (!page_limit(x, page))
        return false;
    if (http_query_param(x, "cursor", &value) && value.n) {
        if (!span_to_u64(value, &number) || number > INT64_MAX) {
            reply_code(x, MUSTER_EINVALID, "cursor is not one that a list gave.");
            return false;
        }
        page->after = (int64_t)number;
    }
    return true;
}

int read_when(struct span text, const char *name, int64_t *out, struct err *err) {
    int64_t length;
    if (clock_parse_rfc3339(text, out) == 0)
        return 0;
    if (clock_parse_span(text, &length) == 0) {
        *out = clock_now() - length;
        return 0;
    }
    return err_set(err, MUSTER_EINVALID, "%s is a time like \"2026-01-31T00:00:00Z\", or a length of time up to now like \"2h\".", name);
}

int read_ahead(struct span text, const char *name, int64_t *out, struct err *err) {
    int64_t length;
    if (clock_parse_rfc3339(text, out) == 0)
        return 0;
    if (clock_parse_span(text, &length))
        return err_set(err, MUSTER_EINVALID, "%s is a time of RFC 3339, or a length of time from now such as 30d.", name);
    *out = clock_now() + length;
    return 0;
}

static bool time_of(struct http_exchange *x, const char *name, int (*read)(struct span, const char *, int64_t *, struct err *), int64_t *out) {
    struct span value;
    struct err err = ERR_INIT;
    if (!http_query_param(x, name, &value) || read(value, name, out, &err) == 0)
        return true;
    http_reply_err(x, &err);
    return false;
}

bool when_of(struct http_exchange *x, const char *name, int64_t *out) { return time_of(x, name, read_when, out); }
bool ahead_of(struct http_exchange *x, const char *name, int64_t *out) { return time_of(x, name, read_ahead, out); }

bool spki_of(struct http_exchange *x, struct hash *out, bool *there) {
    struct span text;
    if (!(*there = http_query_param(x, "spki", &text)) || hex_decode(text, out->b, sizeof out->b) == 0)
        return true;
    reply_code(x, MUSTER_EINVALID, "spki is the SHA-256 of a public key, its SubjectPublicKeyInfo in DER, in 64 hex digits.");
    return false;
}

struct span param_of(struct http_exchange *x, const char *name) { return http_param(x, name); }
