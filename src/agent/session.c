/* session: see session.h. */
#include "agent/hardware.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"

#define PEM_MAX 65536
#define ANCHORS "anchors.pem" /* in the directory: those of the identity in use once more */
#define EVENT_MAX 16 /* bytes of a change's name */
#define CLOCK_SLACK 60 /* seconds */
#define WAIT_LEAST 300 /* seconds, of which a gateway may be sure */
#define MEAN_PART 6    /* a wait's mean, of what is left of the certificate: the longest is a quarter */

int session_open(struct session *s, const struct options *o, bool make, struct err *err) {
    s->o = o;
    int rc = place_open(&s->place, o->dir, make, err);
    if (rc || (make && (rc = place_lock(&s->place, err))))
        return rc;
    place_state(&s->place, &s->state);
    keyring_refusals(s->place.dir, o->now);
    http_through(o->proxy);
    keyring_patience(o->key_timeout[0] ? (int)strtol(o->key_timeout, NULL, 10) : KEYRING_PATIENCE);
    true_time_init(&s->time, s->state.newest_time, &s->state.waiting);
    s->time.accept = o->accept_time;
    s->time.told = o->set_clock;
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    unsigned current = place_current(&s->place);
    if (current && place_identity(&s->place, current, &id, NULL) == 0 && id.cert)
        s->time.doubt = id.cert->not_before;
    return 0;
}

void session_fini(struct session *s) { place_fini(&s->place); }

void session_say(const struct session *s, const char *fmt, ...) {
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (s->say)
        s->say(line);
}

/* --- what is remembered ----------------------------------------------------------------------------------------------------------------------- */

int session_remember(struct session *s, struct err *err) {
    if (s->time.asked || s->time.floor > s->state.newest_time + CLOCK_DAY) /* flash wears out */
        s->state.newest_time = s->time.floor;
    s->state.waiting = s->time.waiting;
    return place_remember(&s->place, &s->state, err);
}

/* Seconds that are left of the certificate; 0: it has ended, or there is none. */
static int64_t life_left(const struct session *s) {
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    unsigned current = place_current(&s->place);
    int64_t left = current && place_identity(&s->place, current, &id, NULL) == 0 && id.cert ? id.cert->not_after - true_time_now(&s->time) : 0;
    return left > 0 ? left : 0;
}

/* What a gateway says, or somebody in its place, must not last until the certificate has ended: what is left of it is enough for four questions in any case. */
static int bounded_wait(const struct session *s, int wait) {
    int64_t left = life_left(s);
    int64_t most = left <= 0 ? CLOCK_DAY : left / 4 > WAIT_LEAST ? left / 4 : WAIT_LEAST;
    return wait > most ? (int)most : wait;
}

/* It did not answer, is somebody else, or cannot for now and names no time: an outage, whose end every other device waits for as well. */
static bool is_outage(const struct refused *why, int code) {
    if (why->named)
        return false;
    return why->status == 429 || why->status >= 500 || code == MUSTER_ENETWORK || code == MUSTER_ETLSREJECTED;
}

/* A device that is out, or was never in, is worth more questions than one that has time. */
static void leave_alone(struct session *s, const struct refused *why, struct err *err) {
    int64_t left = life_left(s), most = !left ? CLOCK_HOUR : left / MEAN_PART < CLOCK_DAY ? left / MEAN_PART : CLOCK_DAY;
    int64_t wait = back_off_failed(s->step, s->asked, s->state.device_id, most, !why->unsent);
    err->retry_after = why->status ? (int)wait : 0;
}

int session_failed(struct session *s, const struct refused *why, struct err *err) {
    struct state *st = &s->state;
    struct err second = ERR_INIT;
    bool outage = s->step && is_outage(why, err->code);
    st->failed_at = true_time_now(&s->time);
    st->failed_status = why->status;
    if (outage)
        leave_alone(s, why, err);
    else if (s->step && why->status) /* it is there, and says no */
        *s->step = (struct back_off){0};
    err->retry_after = bounded_wait(s, err->retry_after);
    snprintf(st->failed_code, sizeof st->failed_code, "%s", why->code[0] ? why->code : err_code(err->code));
    snprintf(st->failed_text, sizeof st->failed_text, "%s", err_text(err));
    if (err->retry_after > 0 && why->status && !outage) {
        st->asked_at = clock_now(); /* the device's own: the right time may not be known at the next pass */
        st->wait = err->retry_after;
        memcpy(st->wait_code, st->failed_code, sizeof st->wait_code);
        memcpy(st->wait_text, st->failed_text, sizeof st->wait_text);
    }
    if (session_remember(s, &second))
        *err = second;
    return err->code;
}

void session_succeeded(struct session *s) {
    struct state *st = &s->state;
    st->contact_at = true_time_now(&s->time);
    st->failed_at = st->failed_status = st->asked_at = st->wait = 0;
    if (s->step)
        *s->step = (struct back_off){0};
    if (st->asking.what == s->asked)
        st->asking = (struct back_off){0};
    st->failed_code[0] = st->failed_text[0] = st->wait_code[0] = st->wait_text[0] = '\0';
}

int64_t session_wait(const struct session *s) {
    int64_t now = clock_now(), from = s->state.asked_at, wait = s->state.wait;
    wait = wait > HTTP_RETRY_MAX ? HTTP_RETRY_MAX : wait;
    if (wait <= 0 || from <= 0 || now < from || now - from >= wait) /* a clock that was set back makes nobody wait for longer */
        return 0;
    return wait - (now - from);
}

int64_t session_held(const struct session *s, const struct identity *now) {
    return back_off_left(&s->state.asking, now->gateway[0] ? back_off_what(now->gateway, &now->anchors) : s->state.asking.what);
}

/* --- the gateway -------------------------------------------------------------------------------------------------------------------------------- */

/* The agent reckons with the right time in any case; the rest of the device gets it where somebody wants that. */
static void set_clock(struct session *s) {
    int64_t now = true_time_now(&s->time);
    struct timespec ts = {.tv_sec = (time_t)now};
    if (!s->o->set_clock || (int64_t)ts.tv_sec != now)
        return;
    if (clock_settime(CLOCK_REALTIME, &ts))
        session_say(s, "the clock could not be set: %s", strerror(errno));
    else
        s->time.offset = 0;
}

static int ask_time(struct session *s, const struct gateway *g, struct refused *why, struct err *err) {
    char text[CLOCK_RFC3339_LEN + 1];
    struct err unkept = ERR_INIT;
    int rc = true_time_ask(&s->time, g->url, g->anchors, why, err);
    bool right = s->time.offset >= -CLOCK_SLACK && s->time.offset <= CLOCK_SLACK;
    const struct candidate *was = &s->state.waiting, *is = &s->time.waiting;
    /* What nobody knows to have waited would wait for ever; an accepted time may be all that this pass came to, and is a bound over power cuts too.  Not each quarter of an hour: flash wears out;
     * but for the day that something has to have waited, which may be made of minutes. */
    bool news = is->time != was->time || is->on >= was->on + (is->on < CLOCK_DAY ? CLOCK_MINUTE : CLOCK_HOUR) || s->time.floor < s->state.newest_time || s->time.floor > s->state.newest_time + CLOCK_HOUR;
    if (news && s->place.lock >= 0 && session_remember(s, &unkept))
        session_say(s, "%s", err_text(&unkept));
    if (rc)
        return rc;
    clock_rfc3339(true_time_now(&s->time), text);
    session_say(s, "%sthe gateway has signed that it is %s%s", right ? "" : "this device's clock is not right; ", text, s->time.unsure ? ", for this pass alone until one a day later agrees" : "");
    if (!s->time.unsure && !right)
        set_clock(s);
    return 0;
}

int session_gateway(struct session *s, const char *url, const struct certs *anchors, struct gateway *out, struct refused *why, struct err *err) {
    *out = (struct gateway){.url = url, .account = s->state.account, .anchors = anchors};
    bool needed = true_time_needed(&s->time);
    int rc = needed || true_time_doubtful(&s->time) ? ask_time(s, out, why, err) : 0;
    if (rc && !needed && !(err && err->retry_after)) { /* a doubt alone keeps nobody from going on */
        *why = (struct refused){0};
        rc = 0;
        if (err)
            *err = ERR_INIT;
    }
    out->now = true_time_now(&s->time);
    return rc;
}

int session_ask(struct session *s, const char *url, const struct certs *anchors, struct gateway *out, struct err *err) {
    struct refused why = {0};
    int64_t wait = session_wait(s);
    int rc;
    if (wait && !s->o->now)
        return err_retry(err, MUSTER_EBUSY, (int)wait, "The gateway asked not to come again before %lld seconds have passed. %s", (long long)wait, s->state.wait_text);
    s->asked = back_off_what(url, anchors);
    int64_t held = s->step && !s->o->now ? back_off_left(s->step, s->asked) : 0;
    if (held) {
        bool stranger = !strcmp(s->state.failed_code, err_code(MUSTER_ETLSREJECTED)); /* that is no matter of time */
        rc = err_set(err, stranger ? MUSTER_ETLSREJECTED : MUSTER_ENETWORK, "The gateway %s has failed (%lld in a row), and is left alone for %lld seconds more; --now asks at once. %s", url,
                (long long)s->step->failures, (long long)held, s->state.failed_text);
        err->retry_after = stranger ? 0 : (int)held;
        return rc;
    }
    return session_gateway(s, url, anchors, out, &why, err) ? session_failed(s, &why, err) : 0;
}

bool session_mended(struct session *s, struct gateway *g, struct refused *why, struct err *err) {
    struct refused refused = {0};
    struct err untold = ERR_INIT;
    if (!why->dates || s->time.asked)
        return false;
    if (ask_time(s, g, &refused, &untold)) {
        if (untold.retry_after || untold.code == MUSTER_ETIME) {
            *why = refused;
            *err = untold;
        }
        return false;
    }
    g->now = true_time_now(&s->time);
    return true;
}

/* --- the identity on its way -------------------------------------------------------------------------------------------------------------------- */

static int put_surroundings(const struct session *s, unsigned number, const struct certs *anchors, const char *url, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(PEM_MAX), line = BUF_INIT(OPTIONS_VALUE_MAX + 1);
    int rc = certs_pem(anchors, &pem);
    if (rc)
        return err_set(err, rc, NULL);
    buf_addf(&line, "%s\n", url);
    if ((rc = place_put(&s->place, number, "root.crt", buf_span(&pem), 0644, err)))
        return rc;
    return place_put(&s->place, number, "gateway.url", buf_span(&line), 0644, err);
}

static int make_key(struct session *s, const char *place, unsigned number, struct err *err) {
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(PEM_MAX);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    if (place[0])
        return hardware_make(s, place, number, err);
    int rc = key_generate(KEY_P256, 0, &key, err);
    if (rc || (rc = key_private_pem(key, &pem, err)))
        return rc;
    return place_put(&s->place, number, "pkey.pem", buf_span(&pem), 0600, err);
}

/* A key in a TPM has the PIN that it was made with for ever: one that was begun while the file had a wrong one is of no use. */
static bool opens(const struct identity *id) {
    CLEANUP(buf_fini) struct buf unused = BUF_INIT(256);
    struct err why = ERR_INIT;
    return key_sign(id->key, span_str("muster-agent"), &unused, NULL) == 0 || keyring_fault(id->key, &why) != MUSTER_EKEYPIN;
}

int session_next(struct session *s, const struct certs *anchors, const char *url, struct identity *out, struct err *err) {
    char place[KEYRING_URI_MAX];
    unsigned number = place_next(&s->place);
    hardware_place(s, place);
    enum keyring_place where = place[0] ? keyring_place(place) : KEYRING_FILE;
    int rc = number ? place_identity(&s->place, number, out, err) : 0;
    bool begun = number && !rc && out->key && !out->cert && (place[0] ? out->where[0] && keyring_lies_in(out->where, place) : !out->where[0]);
    if (begun && out->where[0])
        rc = keyring_has(out->where, &begun, err); /* a power cut, or somebody else, may have kept it from being there */
    begun = begun && !(where == KEYRING_TPM2 && keyring_has_pin(out->where) && !opens(out));
    if (rc || begun)
        return rc ? rc : put_surroundings(s, number, anchors, url, err);
    identity_fini(out);
    if ((rc = place_begin(&s->place, &number, err)) || (rc = make_key(s, place, number, err)) || (rc = put_surroundings(s, number, anchors, url, err)))
        return rc;
    return place_identity(&s->place, number, out, err);
}

int session_put_certificate(const struct session *s, unsigned number, const struct cert *c, const struct certs *above, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(PEM_MAX);
    int rc = cert_pem(c, &pem);
    if (rc || (above && (rc = certs_pem(above, &pem))))
        return err_set(err, rc, NULL);
    return place_put(&s->place, number, "client.pem", buf_span(&pem), 0644, err);
}

/* Refusals that no waiting changes: the certificate is over, or was never good. */
static bool is_final(const struct refused *why) {
    static const char *const FINAL[] = {"certificate_void",    "certificate_superseded", "certificate_revoked", "certificate_unknown",
                                        "certificate_expired", "certificate_untrusted",  "device_key_barred",   "device_key_elsewhere"};
    for (size_t i = 0; i < sizeof FINAL / sizeof *FINAL; i++)
        if (!strcmp(why->code, FINAL[i]))
            return true;
    return false;
}

/* Asks with it; the gateway makes it the device's before it answers. */
static int use_first(struct session *s, const struct identity *id, struct gateway *g, struct refused *why, struct err *err) {
    const struct shown by = {id->key, id->cert, &id->above};
    int rc;
    do
        rc = est_admitted(g, &by, why, err);
    while (rc && session_mended(s, g, why, err));
    return rc;
}

int session_adopt(struct session *s, unsigned number, const char *event, bool *gone, struct err *err) {
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    struct refused why = {0};
    struct gateway g;
    char until[CLOCK_RFC3339_LEN + 1];
    int rc = place_identity(&s->place, number, &id, err);
    *gone = rc == 0 && !identity_whole(&id);
    if (rc || *gone)
        return rc ? rc : place_drop(&s->place, number, err);
    if ((rc = session_ask(s, id.gateway, &id.anchors, &g, err)))
        return rc;
    if ((rc = use_first(s, &id, &g, &why, err))) {
        *gone = rc == MUSTER_EKEYGONE || (!s->time.unsure && (is_final(&why) || id.cert->not_after < true_time_now(&s->time)));
        if (*gone && place_drop(&s->place, number, NULL) == 0)
            session_say(s, "the certificate that was issued is not good any more (%s); another one is asked for", why.code[0] ? why.code : err_code(rc));
        return session_failed(s, &why, err);
    }
    session_succeeded(s);
    true_time_passed(&s->time, why.since);
    if ((rc = session_changed(s, event, err)) || (rc = session_keep_anchors(s, &id.anchors, err)) || (rc = place_switch(&s->place, number, err)) || (rc = session_remember(s, err)))
        return rc;
    clock_rfc3339(id.cert->not_after, until);
    session_say(s, "%s: %s, until %s", s->state.device_id, event, until);
    return 0;
}

/* The next of the changes that are due, one a line. */
static bool next_change(struct span *rest, char event[EVENT_MAX]) {
    long end = span_index(*rest, '\n');
    struct span line = end < 0 ? *rest : span_sub(*rest, 0, (size_t)end);
    *rest = span_sub(*rest, end < 0 ? rest->n : line.n + 1, rest->n);
    snprintf(event, EVENT_MAX, "%.*s", SPAN_FMT(line));
    return line.n > 0;
}

/* What is due already stays; a new identity has the new anchors in it. */
int session_changed(struct session *s, const char *event, struct err *err) {
    CLEANUP(buf_fini) struct buf due = BUF_INIT(4 * EVENT_MAX);
    char one[EVENT_MAX];
    if (file_read(s->place.fd, HOOKS_DUE, &due, NULL))
        buf_clear(&due);
    bool there = due.n && !strcmp(event, "anchors");
    for (struct span rest = buf_span(&due); next_change(&rest, one);)
        there = there || !strcmp(one, event);
    if (there)
        return 0;
    char where[KEYRING_URI_MAX] = "";
    unsigned current = place_current(&s->place);
    int rc = due.n ? 0 : current ? place_where(&s->place, current, where, err) : 0;
    rc = rc || due.n ? rc : file_replace(s->place.fd, HOOKS_KEY, span_str(where), 0644, err);
    if (rc)
        return rc;
    buf_addf(&due, "%s%s", due.n ? "\n" : "", event);
    return file_replace(s->place.fd, HOOKS_DUE, buf_span(&due), 0600, err);
}

int session_keep_anchors(const struct session *s, const struct certs *anchors, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(PEM_MAX), before = BUF_INIT(PEM_MAX);
    if (certs_pem(anchors, &pem))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (file_read(s->place.fd, ANCHORS, &before, NULL) == 0 && span_eq(buf_span(&before), buf_span(&pem)))
        return 0;
    return file_replace(s->place.fd, ANCHORS, buf_span(&pem), 0644, err);
}

/* Key and certificate cannot be made anew here; where the gateway is, and by what it is known, stands in a second place. */
int session_mend(struct session *s, struct identity *now, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(PEM_MAX), line = BUF_INIT(OPTIONS_VALUE_MAX + 1);
    if (!now->key || !now->cert || identity_whole(now) || EVP_PKEY_eq(X509_get0_pubkey(now->cert->x), now->key) != 1)
        return 0;
    int rc = 0;
    if (!now->anchors.n && file_read(s->place.fd, ANCHORS, &pem, NULL) == 0 && certs_read(buf_span(&pem), &now->anchors, NULL) == 0)
        rc = place_put(&s->place, now->number, "root.crt", buf_span(&pem), 0644, err);
    if (!rc && !now->gateway[0] && s->state.gateway[0]) {
        memcpy(now->gateway, s->state.gateway, sizeof now->gateway);
        buf_addf(&line, "%s\n", now->gateway);
        rc = place_put(&s->place, now->number, "gateway.url", buf_span(&line), 0644, err);
    }
    if (!rc && identity_whole(now))
        session_say(s, "damaged files of the identity in use were written anew");
    return rc;
}

void session_recover(struct session *s, const struct identity *now) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
    struct state *st = &s->state;
    if (!st->device_id[0] && cert_own_device_id(now->cert, &id, NULL) == 0)
        snprintf(st->device_id, sizeof st->device_id, "%s", buf_str(&id));
    if (!st->gateway[0])
        snprintf(st->gateway, sizeof st->gateway, "%s", now->gateway);
    if (!st->method[0])
        snprintf(st->method, sizeof st->method, "unknown");
    if (!st->key[0])
        snprintf(st->key, sizeof st->key, "own");
}

/* An image that nobody can write to keeps its key, which is told once, and is no failure of each pass; `status` goes on saying it. */
static int strip(struct session *s, struct err *err) {
    struct statvfs fs;
    struct err why = ERR_INIT;
    int rc = credentials_strip(s->state.source, &why);
    bool fixed = rc && statvfs(s->state.source, &fs) == 0 && fs.f_flag & ST_RDONLY;
    if (fixed && faccessat(s->place.fd, HOOKS_DUE, F_OK, 0) == 0)
        session_say(s, "%s cannot be written to, and keeps the provisioning key; `keep-credentials = yes` says that this is meant", s->state.source);
    if (rc && !fixed && err)
        *err = why;
    return fixed ? 0 : rc;
}

int session_settle(struct session *s, struct err *err) {
    CLEANUP(buf_fini) struct buf due = BUF_INIT(4 * EVENT_MAX);
    char event[EVENT_MAX];
    int rc = 0;
    if (!strcmp(s->state.method, "shared") && !s->o->keep_credentials && !s->state.keep_credentials && s->state.source[0])
        rc = strip(s, err);
    if (file_read(s->place.fd, HOOKS_DUE, &due, NULL) == 0) {
        int failed = 0;
        for (struct span rest = buf_span(&due); !failed && next_change(&rest, event);)
            failed = hooks_run(s, event, rc ? NULL : err);
        if (!failed)
            failed = file_remove(s->place.fd, HOOKS_DUE, rc ? NULL : err);
        if (!failed)
            failed = file_remove(s->place.fd, HOOKS_KEY, rc ? NULL : err);
        rc = rc ? rc : failed;
    } else if (faccessat(s->place.fd, HOOKS_DUE, F_OK, 0) && errno == ENOENT) { /* a cut between the two */
        int failed = file_remove(s->place.fd, HOOKS_KEY, rc ? NULL : err);
        rc = rc ? rc : failed;
    }
    place_clean(&s->place);
    struct err later = ERR_INIT;
    int left = hardware_settle(s, &later);
    if (left && !rc && err)
        *err = later;
    return rc ? rc : left;
}
