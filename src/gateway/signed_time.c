/* signed_time: see signed_time.h. */
#include "gateway/signed_time.h"

#include "base/clock.h"
#include "base/hex.h"
#include "gateway/internal.h"
#include "gateway/nonce.h"
#include "json/json.h"
#include "registry/registry.h"

#define MOST 8           /* under way at once, a loop: a tenth of a millisecond of the vault's */
#define BODY_MAX 16384   /* bytes */

_Static_assert(NONCE_MIN == VAULT_TIME_NONCE_MIN && NONCE_MAX == VAULT_TIME_NONCE_MAX, "the vault's bounds of a nonce");

struct asking {
    struct http_exchange *x; /* held */
    uint8_t nonce[NONCE_MAX];
    size_t n;
};

static void end(struct asking *a) {
    struct worker *w = http_exchange_arg(a->x);
    w->times--;
    http_exchange_unref(a->x);
    free(a);
}

static void set_base64(json_t *o, const char *key, struct span bytes) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(BODY_MAX);
    base64_add(&text, bytes);
    json_set_str(o, key, buf_ok(&text) ? buf_str(&text) : NULL);
}

static void reply(const struct asking *a, const struct vault_time_signed *s) {
    CLEANUP(buf_fini) struct buf body = BUF_INIT(BODY_MAX);
    CLEANUP_JSON json_t *o = json_object();
    struct err err = ERR_INIT;
    json_set_time(o, "time", s->time);
    json_set_hex(o, "nonce", span_of(a->nonce, a->n));
    set_base64(o, "signature", s->signature);
    set_base64(o, "certificate", s->certificate);
    int rc = json_write(&body, o);
    if (rc) {
        err_set(&err, rc, NULL);
        http_reply_err(a->x, &err);
    } else {
        http_reply(a->x, 200, "application/json", buf_span(&body));
    }
}

static void signed_by_vault(void *arg, int rc, const struct err *err, const struct vault_time_signed *s) {
    struct asking *a = arg;
    if (rc)
        http_reply_err(a->x, err);
    else
        reply(a, s);
    end(a);
}

static int clock_run(struct store_tx *tx, void *arg, struct err *err) { return clock_check(tx, clock_now(), err); }

static void clock_checked(void *arg, int rc, const struct err *err) {
    struct asking *a = arg;
    struct worker *w = http_exchange_arg(a->x);
    struct err why = rc ? *err : ERR_INIT;
    if (!rc)
        rc = vault_time_sign(w->vault, span_of(a->nonce, a->n), signed_by_vault, a, &why);
    if (rc) {
        http_reply_err(a->x, &why);
        end(a);
    }
}

static int begin(struct http_exchange *x, struct worker *w, const uint8_t *nonce, size_t n, struct err *err) {
    struct asking *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, MUSTER_ENOMEM, NULL);
    a->x = x;
    memcpy(a->nonce, nonce, n);
    a->n = n;
    int rc = store_read(w->gateway->store, w->loop, clock_run, clock_checked, a, err);
    if (rc) {
        free(a);
        return rc;
    }
    http_exchange_ref(x);
    w->times++;
    return 0;
}

static void handle(struct http_exchange *x, void *arg) {
    struct worker *w = arg;
    struct err err = ERR_INIT;
    uint8_t nonce[NONCE_MAX];
    size_t n;
    struct span given = SPAN_NONE;
    const struct identity *id = http_exchange_peer(x);
    (void)http_query_param(x, "nonce", &given);
    int rc = nonce_read(given, nonce, &n, &err);
    if (!rc && !(rc = limits_time_begin(w->gateway->limits, id->address, &err)))
        rc = w->times >= MOST ? err_retry(&err, MUSTER_EBUSY, 1, "Too many ask for the time at once.") : begin(x, w, nonce, n, &err);
    if (rc)
        http_reply_err(x, &err);
}

static const enum request_kind public = REQUEST_PUBLIC;
const struct http_route SIGNED_TIME_ROUTE = {.method = "GET", .path = "/time", .handler = handle, .sole = true, .data = &public};
