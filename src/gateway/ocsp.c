/* ocsp: see ocsp.h. */
#include "gateway/ocsp.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "base/hex.h"
#include "gateway/ocsp_ask.h"
#include "gateway/ocsp_cache.h"
#include "http/stream.h"
#include "metrics/metrics.h"
#include "pki/ocsp_make.h"
#include "registry/ocsp.h"
#include "registry/trust.h"

#define LOOKS_MAX 256  /* questions under way, a loop */
#define AGE_MAX 300    /* seconds that an HTTP cache may keep an answer: who is revoked meanwhile is let in by it */
#define SECOND 1000000LL
#define ANSWER_MAX (64 * 1024) /* bytes */
#define MEDIA "application/ocsp-response"

/* One question. */
struct asking {
    struct ocsp_look look; /* first: what the operation is given; its request's spans point into der */
    struct http_exchange *x; /* held */
    struct hash asked;
    uint64_t trust;        /* the word from before the registry was asked */
    bool get;
    size_t der_n;
    uint8_t der[];
};

bool ocsp_rate_take(_Atomic int64_t *due, int64_t a_second, int64_t now) {
    const int64_t each = SECOND / a_second;
    int64_t before = atomic_load(due), after;
    do {
        after = (before > now ? before : now) + each;
        if (after - now > SECOND)
            return false;
    } while (!atomic_compare_exchange_weak(due, &before, after));
    return true;
}

/* --- answers ------------------------------------------------------------------------------------------------------------------------------- */

static void reply_error(struct http_exchange *x, enum ocsp_answer why) {
    static const unsigned counted[] = {[OCSP_MALFORMED] = OCSP_ANSWER_MALFORMED, [OCSP_INTERNAL] = OCSP_ANSWER_INTERNAL, [OCSP_LATER] = OCSP_ANSWER_LATER, [OCSP_UNAUTHORIZED] = OCSP_ANSWER_UNAUTHORIZED};
    uint8_t der[OCSP_ERROR_LEN];
    ocsp_error(why, der);
    metrics_count(METRIC_OCSP, counted[why], 0);
    http_reply(x, 200, MEDIA, span_of(der, sizeof der));
}

/* RFC 6960, 2.3: unauthorized is for what this responder cannot speak of. */
static enum ocsp_answer answer_of(int rc) {
    if (rc == MUSTER_ENOTFOUND || rc == MUSTER_EDELETED)
        return OCSP_UNAUTHORIZED;
    if (rc == MUSTER_EBUSY || rc == MUSTER_EVAULT || rc == MUSTER_EUNAVAILABLE || rc == MUSTER_ECLOCK || rc == MUSTER_ERECOVERY)
        return OCSP_LATER;
    return OCSP_INTERNAL;
}

/* RFC 5019, 6.2. */
static void add_cache_fields(struct http_exchange *x, const struct ocsp_kept *k, const char *tag) {
    char modified[HTTP_DATE_MAX], expires[HTTP_DATE_MAX], age[80];
    const int64_t left = k->next_update - clock_now();
    http_date(k->this_update, modified);
    http_date(k->next_update, expires);
    snprintf(age, sizeof age, "max-age=%lld, public, no-transform, must-revalidate", (long long)(left > AGE_MAX ? AGE_MAX : left > 0 ? left : 0));
    http_reply_field(x, "ETag", tag);
    http_reply_field(x, "Last-Modified", modified);
    http_reply_field(x, "Expires", expires);
    http_reply_field(x, "Cache-Control", age);
}

static bool has_it(const struct http_exchange *x, const char *tag) {
    const struct span match = span_trim(http_field(x, "If-None-Match"));
    return match.n && (span_eq_str(match, "*") || span_find(match, span_str(tag)) >= 0);
}

static void reply(struct http_exchange *x, bool get, const struct ocsp_kept *k, enum metrics_ocsp how) {
    char digits[2 * PKI_HASH_LEN + 1], tag[sizeof digits + 2];
    metrics_count(METRIC_OCSP, how, 0);
    if (!get) {
        http_reply(x, 200, MEDIA, k->der);
        return;
    }
    hex_encode(hash_span(&k->der_hash), digits);
    snprintf(tag, sizeof tag, "\"%s\"", digits);
    add_cache_fields(x, k, tag);
    if (has_it(x, tag)) {
        http_stream_begin(x, 304, 0, false);
    } else {
        http_reply_field(x, "Content-Type", MEDIA);
        http_stream_begin(x, 200, (int64_t)k->der.n, false);
        http_stream_add(x, k->der);
    }
    http_stream_end(x);
}

/* --- a question ---------------------------------------------------------------------------------------------------------------------------- */

static void end(struct asking *a) {
    struct worker *w = http_exchange_arg(a->x);
    w->ocsp_looks--;
    http_exchange_unref(a->x);
    free(a);
}

static void fail(struct asking *a, int rc, const struct err *err) {
    const enum ocsp_answer why = answer_of(rc);
    if (why == OCSP_INTERNAL)
        log_err(LOG_ERROR, "ocsp_failed", err, "account", a->look.account, NULL);
    reply_error(a->x, why);
    end(a);
}

static void add_field(struct buf *b, struct span s) {
    buf_add_u16(b, (uint16_t)s.n);
    buf_add(b, s);
}

static bool hash_request(const char *account, const struct ocsp_request *rq, struct hash *out) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(2 * OCSP_REQUEST_MAX);
    add_field(&b, span_str(account));
    for (size_t i = 0; i < rq->n; i++) {
        buf_addc(&b, (uint8_t)rq->at[i].hash);
        buf_addc(&b, rq->at[i].null);
        add_field(&b, rq->at[i].name);
        add_field(&b, rq->at[i].key);
        add_field(&b, rq->at[i].serial);
    }
    hash_of(buf_span(&b), out);
    return buf_ok(&b);
}

/* Later the next one is signed, so that nobody gets an answer that is about to be over. */
static bool is_young(const struct ocsp_kept *k) {
    const int64_t now = clock_now();
    return now >= k->made && now - k->made < (k->next_update - k->made) / 2;
}

/* Control has looked for itself, and says what it had signed. */
static void told(void *arg, const struct ocsp_told *t) {
    struct asking *a = arg;
    struct worker *w = http_exchange_arg(a->x);
    if (t->what) {
        reply_error(a->x, t->what);
        end(a);
        return;
    }
    struct ocsp_kept k = {.said = t->said, .trust = a->trust, .made = clock_now(), .this_update = t->this_update, .next_update = t->next_update, .der = t->der};
    hash_of(t->der, &k.der_hash);
    /* What is not known today may be issued in a moment. */
    if (!a->look.request.nonce.n && t->all)
        ocsp_cache_put(w->gateway->ocsp_cache, &a->asked, &k);
    reply(a->x, a->get, &k, OCSP_ANSWER_SIGNED);
    end(a);
}

static int sign(struct asking *a, struct err *err) {
    struct worker *w = http_exchange_arg(a->x);
    if (!ocsp_rate_take(&w->gateway->ocsp_due, w->gateway->o->settings->limit_ocsp, clock_mono_us()))
        return err_retry(err, MUSTER_EBUSY, 1, "More is asked of OCSP than the vault signs.");
    return ocsp_ask(w->ocsp, span_str(a->look.account), span_of(a->der, a->der_n), told, a, err);
}

static void looked(void *arg, int rc, const struct err *err) {
    struct asking *a = arg;
    struct worker *w = http_exchange_arg(a->x);
    struct err why = rc ? *err : ERR_INIT;
    CLEANUP(buf_fini) struct buf der = BUF_INIT(ANSWER_MAX);
    struct ocsp_kept k;
    struct hash said;
    bool all, kept = !rc && !a->look.request.nonce.n && ocsp_cache_get(w->gateway->ocsp_cache, &a->asked, &k, &der);
    if (kept)
        ocsp_said(&a->look, &said, &all);
    if (kept && hash_eq(&said, &k.said) && is_young(&k)) {
        ocsp_cache_trust(w->gateway->ocsp_cache, &a->asked, &said, a->trust);
        reply(a->x, a->get, &k, OCSP_ANSWER_KEPT);
        end(a);
        return;
    }
    if (!rc)
        rc = sign(a, &why);
    if (rc)
        fail(a, rc, &why);
}

static int begin(struct http_exchange *x, struct worker *w, struct span account, struct span der, const struct hash *asked, bool get, struct err *err) {
    struct asking *a = w->ocsp_looks >= LOOKS_MAX ? NULL : calloc(1, sizeof *a + der.n);
    if (!a)
        return err_set(err, w->ocsp_looks >= LOOKS_MAX ? MUSTER_EBUSY : MUSTER_ENOMEM, NULL);
    a->x = x;
    a->asked = *asked;
    a->get = get;
    a->trust = trust_word();
    a->der_n = der.n;
    memcpy(a->der, der.p, der.n);
    memcpy(a->look.account, account.p, account.n);
    int rc = ocsp_request_read(span_of(a->der, der.n), &a->look.request, err);
    if (!rc)
        rc = store_read(w->gateway->store, w->loop, ocsp_look_run, looked, a, err);
    if (rc) {
        free(a);
        return rc;
    }
    http_exchange_ref(x);
    w->ocsp_looks++;
    return 0;
}

static void serve(struct http_exchange *x, struct worker *w, struct span der, bool get) {
    const struct span account = http_param(x, "account");
    char name[ACCOUNT_NAME_MAX + 1] = "";
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT(ANSWER_MAX);
    struct ocsp_kept k;
    struct ocsp_request rq;
    struct hash asked;
    struct err err = ERR_INIT;
    if (ocsp_request_read(der, &rq, NULL)) {
        reply_error(x, OCSP_MALFORMED);
        return;
    }
    if (account_name_check(account, NULL)) {
        reply_error(x, OCSP_UNAUTHORIZED);
        return;
    }
    memcpy(name, account.p, account.n);
    const bool hashed = hash_request(name, &rq, &asked);
    const bool kept = hashed && !rq.nonce.n && ocsp_cache_get(w->gateway->ocsp_cache, &asked, &k, &bytes);
    if (kept && k.trust == trust_word() && is_young(&k)) {
        reply(x, get, &k, OCSP_ANSWER_KEPT);
        return;
    }
    int rc = hashed ? begin(x, w, account, der, &asked, get, &err) : MUSTER_ENOMEM;
    if (rc)
        reply_error(x, answer_of(rc));
}

void ocsp_post(struct http_exchange *x, void *arg) { serve(x, arg, http_body(x), false); }

/* RFC 6960, A.1. */
void ocsp_get(struct http_exchange *x, void *arg) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(OCSP_REQUEST_MAX);
    if (base64_decode(http_param(x, "request"), &der))
        reply_error(x, OCSP_MALFORMED);
    else
        serve(x, arg, buf_span(&der), true);
}
