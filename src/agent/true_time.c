/* true_time: see true_time.h. */
#include "agent/true_time.h"

#include <fcntl.h>
#include <openssl/x509v3.h>

#include "agent/anchors.h"
#include "agent/built.h"
#include "agent/est.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/secret.h"
#include "json/json.h"

#define NONCE_LEN 32
#define ANSWER_SECONDS 30 /* an answer that was held up for longer would set the clock back by as much */
#define FAR CLOCK_DAY
#define AGREES_AFTER (7 * CLOCK_DAY) /* by the server's word */
#define AGREES_WITHIN (60 * CLOCK_DAY)
#define ON_LEAST CLOCK_DAY           /* by this device's */
#define ON_MOST (100 * CLOCK_YEAR)

/* Which start of the machine this is; 0 where that is not told. */
static int64_t boot_now(void) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(256);
    int64_t id = 0;
    if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, NULL) == 0 && text.n > 6)
        memcpy(&id, text.p, 6);
    return id;
}

void true_time_init(struct true_time *t, int64_t newest, const struct candidate *waiting) {
    *t = (struct true_time){.floor = newest > AGENT_BUILT ? newest : AGENT_BUILT, .up = clock_boot_ms() / 1000, .boot = boot_now()};
    if (waiting->time > 0 && waiting->on >= 0 && waiting->on <= ON_MOST && waiting->up >= 0) /* a file may say anything */
        t->waiting = *waiting;
}

int64_t true_time_now(const struct true_time *t) { return t->asked ? t->at + (clock_mono_ms() - t->mono_ms) / 1000 : clock_now(); }
bool true_time_behind(const struct true_time *t) { return true_time_now(t) < t->floor; }
bool true_time_needed(const struct true_time *t) { return true_time_behind(t) || (t->accept && !t->asked); }

/* Seconds that have passed for sure since what waits was looked at last. */
static int64_t on_since(const struct true_time *t) { return t->waiting.boot == t->boot && t->waiting.up <= t->up ? t->up - t->waiting.up : t->up; }

/* While something waits it is asked for each day, and in each pass where it contradicts the clock, or may have set it. */
bool true_time_doubtful(const struct true_time *t) {
    int64_t now = true_time_now(t), waiting = t->waiting.time;
    return !t->asked && (now < t->doubt || (waiting && (now < waiting - FAR || on_since(t) >= (t->told ? CLOCK_HOUR / 4 : CLOCK_DAY))));
}

void true_time_passed(struct true_time *t, int64_t since) {
    if (!t->asked && !(t->told && t->waiting.time) && since > t->floor && since <= true_time_now(t) - AGREES_AFTER)
        t->floor = since;
}

/* Under an anchor, for time stamping and nothing else, and valid when it says that it signed. */
static bool signer_good(const struct cert *c, const struct certs *anchors, int64_t at) {
    uint32_t eku = X509_get_extended_key_usage(c->x);
    if (c->ca || eku == UINT32_MAX || eku != XKU_TIMESTAMP || at < c->not_before || at > c->not_after || key_acceptable(&c->key, NULL))
        return false;
    for (size_t i = 0; i < anchors->n; i++) {
        const struct cert *a = anchors->cert[i];
        if (anchor_for_servers(a) && X509_NAME_cmp(X509_get_issuer_name(c->x), X509_get_subject_name(a->x)) == 0 && cert_signed_by(c, a) && a->not_before <= at && at <= a->not_after)
            return true;
    }
    return false;
}

static int decode(const json_t *doc, const char *name, struct buf *out) {
    const char *text = json_string_value(json_object_get(doc, name));
    return text ? base64_decode(span_str(text), out) : MUSTER_EINVALID;
}

int true_time_judge(struct span body, struct span nonce, const struct certs *anchors, int64_t *time, struct err *err) {
    CLEANUP_JSON json_t *doc = json_parse(body, NULL);
    CLEANUP(buf_fini) struct buf signature = BUF_INIT(1024), der = BUF_INIT(CERT_DER_MAX), said = BUF_INIT(512);
    CLEANUP(cert_free) struct cert *signer = NULL;
    const char *text = json_string_value(json_object_get(doc, "time"));
    int64_t at = 0;
    if (!text || strlen(text) != CLOCK_RFC3339_LEN || clock_parse_rfc3339(span_str(text), &at) || decode(doc, "signature", &signature) || decode(doc, "certificate", &der) ||
        cert_from_der(buf_span(&der), &signer, NULL))
        return err_set(err, MUSTER_ETIME, "The gateway's answer about the time cannot be read.");
    if (!signer_good(signer, anchors, at))
        return err_set(err, MUSTER_ETIME, "The time was not signed by a key that an anchor of this device has made for that.");
    buf_addf(&said, "Muster time 1\n%s\n", text);
    hex_add(&said, nonce);
    buf_addc(&said, '\n');
    if (!buf_ok(&said) || key_verify(X509_get0_pubkey(signer->x), buf_span(&said), buf_span(&signature), NULL))
        return err_set(err, MUSTER_ETIME, "The time that came is no answer to this question: its signature is wrong.");
    *time = at;
    return 0;
}

int true_time_weigh(struct true_time *t, int64_t own, int64_t at, struct err *err) {
    char came[CLOCK_RFC3339_LEN + 1], floor[CLOCK_RFC3339_LEN + 1];
    struct candidate *w = &t->waiting;
    if (at < AGENT_BUILT || (at < t->floor && !t->accept)) {
        clock_rfc3339(at, came);
        clock_rfc3339(t->floor, floor);
        return err_set(err, MUSTER_ETIME, "The time that came, %s, is known to have passed: it was %s before.%s", came, floor,
                       at < AGENT_BUILT ? "" : " Where that was wrong, `muster-agent run --accept-time` sets it right.");
    }
    bool ahead = own >= t->floor && at - FAR > own, restarted = w->boot != t->boot;
    /* What agreed with the clock is no witness against it; nor is what leaps from year to year for anything. */
    bool anew = !w->time || at < w->time || (ahead ? w->time - FAR <= own : w->time < at - AGREES_WITHIN);
    *w = (struct candidate){anew ? at : w->time, anew ? 0 : w->on + on_since(t), t->up, t->boot};
    /* On the same start of the machine it is known how long a day is; what restarts each time that it has something to say knows no more than that it did. */
    t->unsure = ahead && !t->accept && (w->time > at - CLOCK_DAY || (!restarted && w->on < ON_LEAST));
    bool near = t->accept || at - FAR <= t->floor;
    if (near || (!ahead && w->time <= at - AGREES_AFTER && w->on >= ON_LEAST)) {
        int64_t most = own >= t->floor && own < at && !t->accept ? own : at; /* nothing that lies ahead of a clock that may be right */
        int64_t passed = near ? at : w->time + w->on; /* that the first has passed is what both say; how long ago, this device knows */
        passed = passed < most ? passed : most;
        t->floor = t->accept || passed > t->floor ? passed : t->floor;
        w->time = near ? 0 : at;
        w->on = 0;
    }
    return 0;
}

int true_time_ask(struct true_time *t, const char *gateway, const struct certs *anchors, struct refused *why, struct err *err) {
    CLEANUP(http_answer_fini) struct http_answer answer = HTTP_ANSWER_INIT;
    CLEANUP(buf_fini) struct buf url = BUF_INIT(4096);
    uint8_t nonce[NONCE_LEN];
    int64_t at = 0, sent = clock_mono_ms();
    secret_random_bytes(nonce, sizeof nonce);
    buf_addf(&url, "%s/time?nonce=", gateway);
    hex_add(&url, span_of(nonce, sizeof nonce));
    const struct http_request rq = {.method = "GET", .url = buf_str(&url), .anchors = anchors};
    int rc = http_ask(&rq, &answer, err);
    why->status = rc ? 0 : answer.status;
    why->unsent = answer.unsent;
    why->named = answer.retry_after > 0;
    if (rc == 0 && answer.status != 200)
        rc = http_refusal(&answer, why->code, why->fix, err);
    if (rc == 0 && clock_mono_ms() - sent > ANSWER_SECONDS * 1000)
        rc = err_set(err, MUSTER_ENETWORK, "The gateway took too long to say what time it is.");
    if (rc == 0)
        rc = true_time_judge(buf_span(&answer.body), span_of(nonce, sizeof nonce), anchors, &at, err);
    if (rc == 0)
        rc = true_time_weigh(t, clock_now(), at, err);
    if (rc == MUSTER_ETIME)
        why->status = 0; /* it has said nothing of this device */
    if (rc)
        return err_prefix(err, "This device's clock is not right, and the gateway did not tell the time");
    *why = (struct refused){0}; /* the answer was about the time, and nothing else */
    t->offset = at - clock_now();
    t->at = at;
    t->mono_ms = clock_mono_ms();
    t->asked = true;
    return 0;
}
