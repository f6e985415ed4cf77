/* refusal_record: what is refused on one loop is put together, coalesced and written down once a second; see internal.h.
 *
 * Nobody waits for it and nothing rests on it.  An error ID begins as the id of its record does, so that any answer's ID finds the record,
 * and ends in random bytes of its own. */
#include <openssl/ssl.h>

#include "base/log.h"
#include "gateway/internal.h"
#include "gateway/refusal_ring.h"
#include "metrics/metrics.h"

#define FLUSH_MS 1000
#define TELL_DROPPED 60 /* seconds between two lines of the log about refusals that were not kept */
#define PATH_STEPS 10

struct refusals {
    struct refusal_keep keep; /* first: what the operation is given */
    struct worker *worker;
    struct refusal_ring ring;
    struct loop_timer *timer;
    bool waiting; /* the timer runs, or a batch is being written */
    struct refusal *batch[RING_BATCH];
    int64_t told;
};

/* --- writing ------------------------------------------------------------------------------------------------------------------- */

static void batch_free(struct refusals *r) {
    for (size_t i = 0; i < r->keep.n; i++)
        refusal_free(r->batch[i]);
    r->keep.n = 0;
}

static void arm(struct refusals *r) {
    if (r->waiting || r->ring.n == 0)
        return;
    r->waiting = true;
    loop_timer_set(r->timer, FLUSH_MS);
}

static void kept(void *arg, int rc, const struct err *err) {
    struct refusals *r = arg;
    if (rc)
        log_err(LOG_ERROR, "refusals_not_kept", err, "count", log_num((long long)r->keep.n), NULL);
    batch_free(r);
    r->waiting = false;
    arm(r);
}

static void tell_dropped(struct refusals *r) {
    int64_t now = clock_mono_ms() / 1000;
    if (!r->ring.dropped || (r->told && now - r->told < TELL_DROPPED))
        return;
    log_event(LOG_WARN, "refusals_not_kept", "count", log_num((long long)r->ring.dropped), "reason", "more than there is room for", NULL);
    r->ring.dropped = 0;
    r->told = now;
}

static void flush(void *arg) {
    struct refusals *r = arg;
    struct err err = ERR_INIT;
    tell_dropped(r);
    r->keep = (struct refusal_keep){.at = r->batch, .n = refusal_ring_take(&r->ring, r->batch)};
    int rc = store_write(r->worker->gateway->store, r->worker->loop, refusal_keep_run, kept, r, &err);
    if (rc)
        kept(r, rc, &err);
}

/* --- the texts of a record --------------------------------------------------------------------------------------------------------- */

/* Cut between characters; what is no text becomes '?'. */
static void put_text(char *out, size_t size, struct span s) {
    bool text = span_is_utf8(s) && !span_has_control(s);
    size_t n = s.n < size ? s.n : size - 1;
    while (text && n && n < s.n && (s.p[n] & 0xc0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(text || (s.p[i] >= 0x20 && s.p[i] < 0x7f) ? s.p[i] : '?');
    out[n] = '\0';
}
#define PUT(field, span) put_text(field, sizeof(field), span)

static void add_pem(struct refusal *r, X509 *x) {
    struct cert *c = NULL;
    if (cert_from_x509(x, &c, NULL) == 0 && cert_pem(c, &r->chain))
        buf_fini(&r->chain);
    cert_free(c);
}

/* Whom the last certificate that the leaf leads to names as its issuer. */
static X509 *last_of(X509 *leaf, STACK_OF(X509) *chain) {
    X509 *at = leaf;
    for (int step = 0; step < PATH_STEPS; step++) {
        const X509_NAME *issuer = X509_get_issuer_name(at);
        X509 *next = NULL;
        if (X509_NAME_cmp(issuer, X509_get_subject_name(at)) == 0)
            break;
        for (int i = 0; i < sk_X509_num(chain) && !next; i++)
            if (X509_NAME_cmp(issuer, X509_get_subject_name(sk_X509_value(chain, i))) == 0)
                next = sk_X509_value(chain, i);
        if (!next)
            break;
        at = next;
    }
    return at;
}

static void put_certificate(struct refusal *r, X509 *x, STACK_OF(X509) *chain) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(8192);
    CLEANUP(cert_free) struct cert *leaf = NULL;
    CLEANUP(cert_free) struct cert *top = NULL;
    if (!x || cert_from_x509(x, &leaf, NULL))
        return;
    r->has_certificate = true;
    r->fingerprint = leaf->fingerprint;
    r->spki = leaf->key.spki;
    r->not_before = leaf->not_before;
    r->not_after = leaf->not_after;
    cert_subject_text(leaf, &text);
    PUT(r->subject, buf_span(&text));
    buf_clear(&text);
    cert_issuer_text(leaf, &text);
    PUT(r->issuer, buf_span(&text));
    buf_clear(&text);
    cert_serial_hex(leaf, &text);
    PUT(r->serial, buf_span(&text));
    buf_clear(&text);
    if (cert_from_x509(last_of(x, chain), &top, NULL) == 0)
        cert_issuer_text(top, &text);
    PUT(r->top_issuer, buf_span(&text));
    buf_clear(&text);
    if (!r->device_id[0] && cert_common_name(leaf, &text, NULL) == 0)
        PUT(r->device_id, buf_span(&text));
    r->chain = BUF_INIT(REFUSAL_CHAIN_MAX);
    add_pem(r, x);
    for (int i = 0; r->chain.n && i < sk_X509_num(chain); i++)
        add_pem(r, sk_X509_value(chain, i));
}

static void put_presented(struct refusal *r, SSL *ssl) {
    put_certificate(r, SSL_get0_peer_certificate(ssl), SSL_get_peer_cert_chain(ssl)); /* on a server: without the leaf */
    r->key_proved = r->has_certificate;
}

/* Another proxy's word for it (auth.c): that the key was proved we did not see. */
static void put_forwarded(struct refusal *r, const struct identity *peer) {
    STACK_OF(X509) *chain = sk_X509_new_null();
    for (size_t i = 0; chain && i < peer->n_more; i++)
        sk_X509_push(chain, peer->more[i]);
    put_certificate(r, peer->leaf ? peer->leaf->x : NULL, chain);
    sk_X509_free(chain);
}

/* --- one refusal ---------------------------------------------------------------------------------------------------------------------- */

struct occasion {
    struct worker *worker;
    const struct err *err;
    const struct identity *peer; /* NULL: the handshake did not come to its end */
    SSL *ssl;                    /* NULL: the connection has gone */
    const struct http_exchange *x; /* NULL: no request */
    char address[64], account[ACCOUNT_NAME_MAX + 1];
};

static bool is_known(const struct occasion *o) { return o->peer && o->peer->admitted_epoch && o->peer->admit.device_row; }

struct enrolling *refusal_enrolling(struct http_exchange *x) {
    struct enrolling *e = http_exchange_data(x);
    if (!e && (e = arena_alloc(http_exchange_arena(x), sizeof *e))) {
        *e = (struct enrolling){0};
        http_exchange_set_data(x, e);
    }
    return e;
}

void refusal_claims(struct http_exchange *x, const char *device_id) {
    struct enrolling *e = refusal_enrolling(x);
    if (e)
        e->claims = arena_strdup(http_exchange_arena(x), span_str(device_id));
}

static const char *claim_of(const struct occasion *o) {
    const enum request_kind kind = o->x ? judge_kind(o->x) : REQUEST_DEVICE;
    if (kind == REQUEST_DEVICES || kind == REQUEST_ENROL) {
        const struct enrolling *e = http_exchange_data(o->x);
        return e && e->claims ? e->claims : "";
    }
    return !o->peer ? "" : is_known(o) ? o->peer->admit.device_id : o->peer->admit.claimed;
}

/* What makes two refusals the same one.  Salted, so that nobody can choose where his record lies. */
static struct uuid id_of(const struct occasion *o, int64_t now) {
    struct {
        uint8_t salt[sizeof o->worker->gateway->refusal_salt];
        int64_t day, code;
        char account[ACCOUNT_NAME_MAX + 1], address[64], device_id[DEVICE_ID_MAX + 1];
        struct hash fingerprint;
    } k;
    struct hash h;
    struct uuid id;
    memset(&k, 0, sizeof k);
    memcpy(k.salt, o->worker->gateway->refusal_salt, sizeof k.salt);
    k.day = now / CLOCK_DAY;
    k.code = o->err->code;
    snprintf(k.account, sizeof k.account, "%s", o->account);
    if (o->peer && o->peer->leaf)
        k.fingerprint = o->peer->leaf->fingerprint;
    else
        snprintf(k.address, sizeof k.address, "%s", o->address);
    put_text(k.device_id, sizeof k.device_id, span_str(claim_of(o)));
    hash_of(span_of(&k, sizeof k), &h);
    memcpy(id.b, h.b, sizeof id.b);
    id.b[6] = (uint8_t)((id.b[6] & 0x0f) | 0x80); /* RFC 9562, 5.8 */
    id.b[8] = (uint8_t)((id.b[8] & 0x3f) | 0x80);
    return refusal_id_of(id);
}

static struct refusal *record_of(const struct occasion *o, struct uuid id, const char *source, int64_t now) {
    struct refusal *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    *r = (struct refusal){.id = id, .first = now, .last = now, .count = 1, .code = o->err->code};
    PUT(r->reason, span_str(err_text(o->err)));
    PUT(r->address, span_str(o->address));
    PUT(r->source, span_str(source));
    PUT(r->account_name, span_str(o->account));
    PUT(r->device_id, span_str(claim_of(o)));
    if (o->peer && o->peer->admitted_epoch) {
        r->account = o->peer->admit.account_row;
        r->device = o->peer->admit.device_row;
    }
    if (o->peer && o->peer->class != ADMIT_KEY) {
        memcpy(r->anchors, o->peer->anchors, sizeof r->anchors);
        r->n_anchors = o->peer->n_anchors;
    }
    if (o->ssl) {
        PUT(r->host, span_str(tls_sni(o->ssl)));
        if (!SSL_in_init(o->ssl))
            PUT(r->tls, span_str(SSL_get_version(o->ssl)));
        if (o->peer)
            put_presented(r, o->ssl);
    } else if (o->x && o->peer && auth_is_asked(o->x)) {
        put_forwarded(r, o->peer);
    }
    if (o->x) {
        if (!r->host[0])
            PUT(r->host, http_host(o->x));
        PUT(r->method, http_method(o->x));
        PUT(r->path, auth_is_asked(o->x) ? auth_asked_path(o->x) : http_path(o->x));
        PUT(r->agent, http_field(o->x, "User-Agent"));
    }
    return r;
}

static struct uuid keep(const struct occasion *o) {
    struct refusals *r = o->worker->refusals;
    int64_t now = clock_now();
    struct uuid id = id_of(o, now), error_id = id;
    char source[LIMITS_SOURCE_MAX];
    secret_random_bytes(error_id.b + REFUSAL_ID_PREFIX, sizeof error_id.b - REFUSAL_ID_PREFIX);
    if (refusal_ring_count(&r->ring, &id, now))
        return error_id;
    limits_source(o->address, source);
    int64_t account = o->peer && o->peer->admitted_epoch ? o->peer->admit.account_row : 0;
    const enum ring_whose whose = o->err->code == MUSTER_ESHADOW ? RING_WHO_IS_TRIED : is_known(o) ? RING_WHO_IS_KNOWN : RING_WHO_IS_UNKNOWN;
    struct refusal *one = refusal_ring_has_room(&r->ring, whose, account, o->account, source) ? record_of(o, id, source, now) : NULL;
    if (!one)
        return error_id;
    refusal_ring_put(&r->ring, one);
    arm(r);
    return error_id;
}

static bool is_admitted(const struct identity *peer) {
    return peer && peer->admitted_epoch && peer->admit.device_row && !peer->chain.code && !peer->admit.verdict.code;
}

bool refusal_is_one(const struct err *err, const struct identity *peer) {
    int status = err_http(err->code);
    if (err->code == MUSTER_EHOOKWAITS) /* nothing is refused yet */
        return false;
    return !is_admitted(peer) || (status < 500 && err->code != MUSTER_ENOTFOUND && err->code != MUSTER_EHTTPMETHOD);
}

/* It counts against the source, unless it is the server that cannot, or that told the client to come again. */
static void count(const struct occasion *o) {
    int status = err_http(o->err->code);
    if (!is_admitted(o->peer) && !o->err->retry_after && status != 429 && status < 500 && !(o->x && auth_is_asked(o->x)))
        limits_failed(o->worker->gateway->limits, o->address);
}

/* A name that is no account's must not open a share of its own. */
static void put_account(struct occasion *o, struct span host) {
    verifier_account_of(o->worker->gateway->verifier, host, o->account);
    if (o->account[0] && !verifier_has_account(o->worker->gateway->verifier, o->account))
        o->account[0] = '\0';
}

/* The account that an EST request's path names, likewise. */
static void put_label(struct occasion *o, struct span label) {
    char name[ACCOUNT_NAME_MAX + 1];
    if (o->account[0] || !label.n || label.n > ACCOUNT_NAME_MAX)
        return;
    snprintf(name, sizeof name, "%.*s", SPAN_FMT(label));
    if (verifier_has_account(o->worker->gateway->verifier, name))
        memcpy(o->account, name, sizeof name);
}

void refusal_keep_request(struct http_exchange *x, const struct err *err) {
    struct http_conn *c = http_exchange_conn(x);
    struct occasion o = {.worker = http_exchange_arg(x), .err = err, .peer = http_exchange_peer(x), .ssl = c ? http_conn_ssl(c) : NULL, .x = x};
    if (!o.worker->refusals || !refusal_is_one(err, o.peer))
        return;
    if (o.peer)
        snprintf(o.address, sizeof o.address, "%s", o.peer->address);
    put_account(&o, o.ssl && *tls_sni(o.ssl) ? span_str(tls_sni(o.ssl)) : http_host(x));
    put_label(&o, est_label(x));
    count(&o);
    const struct uuid id = keep(&o);
    http_exchange_set_id(x, &id);
}

void refusal_keep_shadow(struct http_exchange *x, const struct err *err) {
    struct http_conn *c = http_exchange_conn(x);
    struct occasion o = {.worker = http_exchange_arg(x), .err = err, .peer = http_exchange_peer(x), .ssl = c ? http_conn_ssl(c) : NULL, .x = x};
    if (!err || !o.worker->refusals)
        return;
    metrics_count(METRIC_SHADOW, 0, 0);
    if (o.peer)
        snprintf(o.address, sizeof o.address, "%s", o.peer->address);
    put_account(&o, o.ssl && *tls_sni(o.ssl) ? span_str(tls_sni(o.ssl)) : http_host(x));
    put_label(&o, est_label(x));
    keep(&o);
}

void refusal_keep_connection(struct http_conn *c, SSL *ssl, const struct err *err, const struct identity *peer, struct worker *w) {
    struct occasion o = {.worker = w, .err = err, .peer = peer, .ssl = ssl};
    if (!w->refusals)
        return;
    http_conn_address_text(c, o.address);
    put_account(&o, span_str(tls_sni(ssl)));
    metrics_count(METRIC_TLS_REFUSALS, metrics_code(err->code), 0);
    count(&o);
    keep(&o);
}

/* --- life ------------------------------------------------------------------------------------------------------------------------------- */

int refusals_start(struct worker *w, struct err *err) {
    struct refusals *r = w->refusals = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, MUSTER_ENOMEM, NULL);
    r->worker = w;
    r->timer = loop_timer_new(w->loop, flush, r);
    return r->timer ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

void refusals_stop(struct worker *w) {
    struct refusals *r = w->refusals;
    if (!r || !r->timer)
        return;
    loop_timer_clear(r->timer);
    if (!r->keep.n && r->ring.n)
        flush(r);
}

void refusals_free(struct worker *w) {
    struct refusals *r = TAKE(w->refusals);
    if (!r)
        return;
    loop_timer_free(r->timer);
    refusal_ring_clear(&r->ring);
    batch_free(r);
    free(r);
}
