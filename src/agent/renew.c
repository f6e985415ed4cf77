/* renew: what is due for a device that has an identity; see session.h.
 *
 * Make before break: the certificate so far stays in use until the gateway has answered a request with the new one, and then the new one takes its place by one
 * step on the disk.  A cut in between finds the new one there, uses it again, and goes on. */
#include "agent/anchors.h"
#include "agent/hardware.h"
#include "base/clock.h"

#define ANCHORS_EVERY CLOCK_DAY  /* from three quarters to five of it, so that a fleet that came back at once does not do so every day */
#define LOOK_AGAIN CLOCK_HOUR     /* where that failed, from half of it to three */
#define ASK_AGAIN CLOCK_DAY /* where the gateway cannot renew at all */

/* The same for a device at any time, and evenly spread over a fleet. */
static int64_t part_of(int64_t whole, const char *device_id) {
    struct hash h;
    hash_of(span_str(device_id), &h);
    return whole * ((int64_t)h.b[0] << 8 | h.b[1]) / 65536;
}

int64_t renew_at(const struct cert *c, const char *device_id) {
    int64_t life = c->not_after - c->not_before;
    return c->not_after - life / 3 + part_of(life / 12, device_id);
}

/* Keeps a pass from coming again every few minutes with what the gateway does not do. */
static int not_offered(struct session *s, const struct refused *why, struct err *err) {
    err->retry_after = ASK_AGAIN;
    return session_failed(s, why, err);
}

static bool key_refused(const struct refused *why) {
    return !strcmp(why->code, "device_key_barred") || !strcmp(why->code, "device_key_elsewhere") || !strcmp(why->code, "device_key_mismatch") || !strcmp(why->code, "csr_invalid");
}

/* The certificate so far is good by this device's own clock; one that a gateway issues whose clock is wrong may be good by none. */
static int time_waits(const struct session *s, struct err *err) {
    char when[CLOCK_RFC3339_LEN + 1];
    clock_rfc3339(true_time_now(&s->time), when);
    return err_retry(err, MUSTER_ETIME, LOOK_AGAIN, "The gateway says that it is %s, far ahead of this device's clock: nothing is renewed until one a day later agrees.", when);
}

static int renew(struct session *s, const struct identity *now, struct err *err) {
    CLEANUP(identity_fini) struct identity next = IDENTITY_INIT;
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(certs_fini) struct certs came = CERTS_INIT, above = CERTS_INIT;
    struct refused why = {0};
    struct gateway g;
    const struct shown by = {now->key, now->cert, &now->above};
    bool gone;
    int rc = session_next(s, &now->anchors, now->gateway, &next, err);
    if (rc)
        return session_failed(s, &why, err);
    if ((rc = session_ask(s, now->gateway, &now->anchors, &g, err)))
        return rc;
    do
        rc = est_ask(&g, EST_RENEW, &by, next.key, span_str(s->state.device_id), &cert, &came, &why, err);
    while (rc && session_mended(s, &g, &why, err) && !s->time.unsure);
    if (rc && s->time.unsure)
        return time_waits(s, err);
    if (rc && key_refused(&why) && place_drop(&s->place, next.number, NULL) == 0)
        session_say(s, "the key that was made is not taken (%s); the next attempt makes another one", why.code);
    if (rc && (why.status == 404 || why.status == 405 || why.status == 501 || !strcmp(why.code, "certificate_of_fleet_ca")))
        return not_offered(s, &why, err);
    if (rc)
        return session_failed(s, &why, err);
    snprintf(s->state.key, sizeof s->state.key, "own");
    if ((rc = certs_above(cert, &came, &now->above, &above, err)) || (rc = session_put_certificate(s, next.number, cert, &above, err)))
        return rc;
    return session_adopt(s, next.number, "renewed", &gone, err);
}

/* --- anchors ---------------------------------------------------------------------------------------------------------------------------------------- */

static int64_t spread(int64_t middle, int64_t width, const struct session *s) { return middle - width / 2 + part_of(width, s->state.device_id); }

static int look_anchors(struct session *s, struct identity *now, struct err *err) {
    CLEANUP(certs_fini) struct certs offered = CERTS_INIT;
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    struct refused why = {0};
    struct gateway g;
    const struct shown by = {now->key, now->cert, &now->above}; /* so that the gateway knows who has seen them */
    size_t taken = 0;
    int rc = session_ask(s, now->gateway, &now->anchors, &g, err);
    if (rc)
        return rc;
    do
        rc = est_anchors(&g, &by, &offered, &why, err);
    while (rc && session_mended(s, &g, &why, err));
    int64_t every = spread(ANCHORS_EVERY, ANCHORS_EVERY / 2, s), again = spread(LOOK_AGAIN, LOOK_AGAIN, s);
    bool none = why.status == 404 || why.status == 405 || why.status == 501;
    if (rc)
        s->state.anchors_at = g.now - every + again;
    if (rc && !none)
        return session_failed(s, &why, err);
    *err = ERR_INIT;
    s->state.looking = (struct back_off){0};
    true_time_passed(&s->time, why.since);
    s->state.anchors_at = g.now;
    if (!none && (rc = anchors_take(&now->anchors, &offered, g.now, s->time.floor, &taken, err)))
        return session_failed(s, &why, err);
    if (!taken)
        return session_remember(s, err);
    rc = certs_pem(&now->anchors, &pem);
    unsigned next = place_next(&s->place); /* what is on its way has to find the gateway as well */
    if (rc || (rc = session_changed(s, "anchors", err)) || (rc = place_put(&s->place, now->number, "root.crt", buf_span(&pem), 0644, err)) ||
        (next && (rc = place_put(&s->place, next, "root.crt", buf_span(&pem), 0644, err))) || (rc = session_keep_anchors(s, &now->anchors, err)))
        return rc;
    session_say(s, "%zu further anchors of the gateway, which one that was there has certified", taken);
    return session_remember(s, err);
}

/* --- one pass ------------------------------------------------------------------------------------------------------------------------------------------ */

static bool issued_before(const struct session *s, struct identity *next) {
    unsigned number = place_next(&s->place);
    return number && place_identity(&s->place, number, next, NULL) == 0 && identity_whole(next);
}

/* What was issued in a former pass and not used yet. */
static int finish_begun(struct session *s, struct identity *now, struct err *err) {
    CLEANUP(identity_fini) struct identity next = IDENTITY_INIT;
    bool gone = false;
    (void)now;
    int rc = issued_before(s, &next) ? session_adopt(s, next.number, "renewed", &gone, err) : 0;
    return gone ? 0 : rc;
}

static int renew_due(struct session *s, struct identity *now, struct err *err) {
    CLEANUP(identity_fini) struct identity next = IDENTITY_INIT;
    int64_t at = true_time_now(&s->time);
    bool early = s->time.asked && now->cert->not_before > at + CLOCK_DAY; /* the clock that it was made by ran ahead */
    bool due = s->o->now || early || !strcmp(s->state.key, "server") || renew_at(now->cert, s->state.device_id) <= at;
    if (!due || issued_before(s, &next))
        return 0;
    return s->time.unsure ? time_waits(s, err) : renew(s, now, err);
}

static int look_due(struct session *s, struct identity *now, struct err *err) {
    int64_t since = true_time_now(&s->time) - s->state.anchors_at;
    if (back_off_left(&s->state.looking, back_off_what(now->gateway, &now->anchors)) && !s->o->now)
        return 0;
    return since >= spread(ANCHORS_EVERY, ANCHORS_EVERY / 2, s) || since < 0 || s->o->now ? look_anchors(s, now, err) : 0;
}

/* "" where it is the one in use. */
static struct span another(const char *url, const struct identity *now) {
    struct span s = span_str(url);
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    return span_eq(s, span_str(now->gateway)) ? SPAN_NONE : s;
}

/* What is on its way has to find the gateway as well. */
static int put_gateway(struct session *s, const struct identity *now, struct span line, struct err *err) {
    unsigned next = place_next(&s->place);
    int rc = session_changed(s, "moved", err);
    if (rc || (next && (rc = place_put(&s->place, next, "gateway.url", line, 0644, err))))
        return rc;
    return place_put(&s->place, now->number, "gateway.url", line, 0644, err);
}

int renew_move(struct session *s, struct identity *now, const char *url, struct err *err) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(OPTIONS_VALUE_MAX + 1);
    struct refused why = {0};
    struct gateway g;
    const struct shown by = {now->key, now->cert, &now->above};
    struct span to = another(url, now);
    if (!to.n)
        return 0;
    buf_addf(&line, "%.*s", SPAN_FMT(to));
    int rc = session_ask(s, buf_str(&line), &now->anchors, &g, err);
    if (rc)
        return rc;
    if ((rc = est_admitted(&g, &by, &why, err))) {
        err_prefix(err, "The gateway that is named now, %s, does not take the place of %s", buf_str(&line), now->gateway);
        return session_failed(s, &why, err);
    }
    session_succeeded(s);
    snprintf(s->state.gateway, sizeof s->state.gateway, "%s", buf_str(&line));
    buf_addc(&line, '\n');
    if ((rc = put_gateway(s, now, buf_span(&line), err)))
        return rc;
    session_say(s, "the gateway is %s now", s->state.gateway);
    return session_remember(s, err);
}

static int move(struct session *s, struct identity *now, struct err *err) { return renew_move(s, now, s->o->gateway, err); }

/* What is due depends on it.  Where the gateway has moved, the old one may be gone for good: an anchor vouches for the time, whoever brings it. */
static int learn_time(struct session *s, struct identity *now, struct err *err) {
    CLEANUP(buf_fini) struct buf url = BUF_INIT(OPTIONS_VALUE_MAX);
    struct gateway g;
    struct err there = ERR_INIT;
    struct span to = another(s->o->gateway, now);
    if (!true_time_needed(&s->time) && (!true_time_doubtful(&s->time) || session_held(s, now)))
        return 0;
    s->step = &s->state.asking;
    int rc = session_ask(s, now->gateway, &now->anchors, &g, err);
    if (!rc || !to.n)
        return rc;
    buf_addf(&url, "%.*s", SPAN_FMT(to));
    s->step = &s->state.moving;
    return session_ask(s, buf_str(&url), &now->anchors, &g, &there) ? rc : 0;
}

/* In the order of need, and no step waits for another one's success: a gateway whose /cacerts fails, or a file that it refuses, must not end a device.  The first
 * that fails is told. */
static int keep(struct session *s, struct err *err) {
    const struct {
        int (*take)(struct session *s, struct identity *now, struct err *err);
        struct back_off *failures;
    } STEPS[] = {{finish_begun, &s->state.asking}, {move, &s->state.moving}, {provision_again, &s->state.importing}, {renew_due, &s->state.asking}, {look_due, &s->state.looking}};
    CLEANUP(identity_fini) struct identity now = IDENTITY_INIT;
    int rc = place_identity(&s->place, place_current(&s->place), &now, err);
    if (rc || (rc = learn_time(s, &now, err)))
        return rc;
    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        struct err later = ERR_INIT;
        identity_fini(&now);
        int failed = place_identity(&s->place, place_current(&s->place), &now, &later);
        if (!failed && keyring_refused(now.where, &later))
            failed = session_failed(s, &(struct refused){0}, &later);
        s->step = STEPS[i].failures;
        failed = failed ? failed : STEPS[i].take(s, &now, &later);
        if (failed && !rc) {
            rc = failed;
            *err = later;
        }
    }
    return rc;
}

/* While the gateway wants to be left alone; an identity that has ended in that time is no success, nor is what was asked for by hand and not done. */
static bool wait_quietly(const struct session *s, const struct identity *now) {
    return session_wait(s) && !s->o->now && !s->o->accept_time && (true_time_behind(&s->time) || now->cert->not_after >= true_time_now(&s->time));
}

int renew_pass(struct session *s, struct err *err) {
    CLEANUP(identity_fini) struct identity now = IDENTITY_INIT;
    unsigned current = place_current(&s->place);
    int rc = current ? place_identity(&s->place, current, &now, err) : MUSTER_ENOTFOUND;
    if (!rc && (rc = session_mend(s, &now, err)))
        return rc;
    s->step = &s->state.asking;
    if (rc || !identity_whole(&now))
        return provision(s, err);
    session_recover(s, &now);
    if ((rc = hardware_follow(s, err)))
        return rc;
    rc = wait_quietly(s, &now) ? 0 : keep(s, err);
    struct err last = ERR_INIT;
    int settled = session_settle(s, &last); /* hooks take their time, and a renewal does not wait for them */
    if (!rc && settled)
        *err = last;
    return rc ? rc : settled;
}
