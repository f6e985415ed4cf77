/* exchange: the fake request under which handlers are fuzzed: a body goes in, exactly one answer comes out.  It stands in for the parts of
 * http and store that the handlers under test call; included by one target a program, which defines what else its handlers need. */
#ifndef MUSTER_TESTS_FUZZ_EXCHANGE_H
#define MUSTER_TESTS_FUZZ_EXCHANGE_H

#include "fuzz.h"
#include "http/server.h"
#include "json/json.h"
#include "store/store.h"

struct http_exchange {
    struct span body;
    void *peer, *arg;
    int refs, replies, status;
    struct {
        store_run_fn run;
        store_done_fn done;
        void *arg;
    } job; /* what the store was asked; done is owed */
};

static inline void exchange_answer(struct http_exchange *x, int status) {
    MUST(status >= 200 && status < 600);
    x->status = status;
    x->replies++;
}

struct span http_body(const struct http_exchange *x) { return x->body; }
void *http_exchange_peer(const struct http_exchange *x) { return x->peer; }
void *http_exchange_arg(const struct http_exchange *x) { return x->arg; }
void http_exchange_ref(struct http_exchange *x) { x->refs++; }
const char *http_exchange_id(struct http_exchange *x) { return "00000000-0000-7000-8000-000000000000"; }
void http_exchange_unref(struct http_exchange *x) { MUST(--x->refs >= 0); }

void http_reply_err(struct http_exchange *x, const struct err *err) {
    MUST(err && err->code < 0 && err_text(err)[0] && span_is_utf8(span_str(err_text(err))));
    exchange_answer(x, err_http(err->code));
}

void http_reply(struct http_exchange *x, int status, const char *content_type, struct span body) { exchange_answer(x, status); }

void http_reply_buf(struct http_exchange *x, int status, const char *content_type, struct buf *body, bool secret) {
    MUST(content_type && buf_ok(body) && body->n);
    buf_fini(body);
    exchange_answer(x, status);
}

/* The store of a handler is its exchange. */
static inline int exchange_job(struct store *s, store_run_fn run, store_done_fn done, void *arg) {
    struct http_exchange *x = (struct http_exchange *)s;
    MUST(x->job.run == NULL && run && done && arg);
    x->job.run = run;
    x->job.done = done;
    x->job.arg = arg;
    return 0;
}
int store_read(struct store *s, struct loop *reply, store_run_fn run, store_done_fn done, void *arg, struct err *err) { return exchange_job(s, run, done, arg); }
int store_write(struct store *s, struct loop *reply, store_run_fn run, store_done_fn done, void *arg, struct err *err) { return exchange_job(s, run, done, arg); }

/* Ends what is under way, well (0) or with rc, and holds that there was one answer and that nothing holds the request any more. */
static inline void exchange_settle(struct http_exchange *x, int rc) {
    while (x->job.run) { /* what is done may begin the next one */
        struct err err = {.code = rc};
        const __typeof__(x->job) job = x->job;
        MUST(x->replies == 0);
        memset(&x->job, 0, sizeof x->job);
        if (rc == 0)
            MUST(job.run(NULL, job.arg, &err) == 0);
        job.done(job.arg, rc, &err);
    }
    MUST(x->replies == 1 && x->refs == 0);
}

#endif
