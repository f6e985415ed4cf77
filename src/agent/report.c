/* report: see report.h. */
#include "agent/hardware.h"
#include "agent/report.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hex.h"

static void set_cert(json_t *o, const struct cert *c, int64_t now) {
    CLEANUP(buf_fini) struct buf subject = BUF_INIT(1024), issuer = BUF_INIT(1024), serial = BUF_INIT(128), spki = BUF_INIT(128);
    json_t *cert = json_object();
    cert_subject_text(c, &subject);
    cert_issuer_text(c, &issuer);
    cert_serial_hex(c, &serial);
    hex_add(&spki, hash_span(&c->key.spki));
    json_set_str(cert, "subject", buf_str(&subject));
    json_set_str(cert, "issuer", buf_str(&issuer));
    json_set_str(cert, "serial", buf_str(&serial));
    json_set_str(cert, "key", key_kind_name(c->key.kind));
    json_set_str(cert, "spki", buf_str(&spki));
    json_set_time(cert, "not_before", c->not_before);
    json_set_time(cert, "not_after", c->not_after);
    json_set_bool(cert, "ended", c->not_after < now);
    json_set(o, "certificate", cert);
}

static void set_text(json_t *o, const char *name, const char *text) { json_set_str(o, name, text[0] ? text : NULL); }

static const char *state_of(const struct session *s, const struct identity *id, int64_t now) {
    if (id->number && (identity_whole(id) || (id->hidden && id->cert)))
        return id->cert->not_after < now ? "ended" : "provisioned";
    return id->number ? "damaged" : session_wait(s) ? "waiting" : "none";
}

static void set_anchors(json_t *o, const struct certs *anchors) {
    json_t *list = json_array();
    for (size_t i = 0; i < anchors->n; i++) {
        CLEANUP(buf_fini) struct buf subject = BUF_INIT(1024);
        json_t *one = json_object();
        cert_subject_text(anchors->cert[i], &subject);
        json_set_str(one, "subject", buf_str(&subject));
        json_set_time(one, "not_after", anchors->cert[i]->not_after);
        json_array_append_new(list, one);
    }
    json_set(o, "anchors", list);
}

static void set_remembered(json_t *o, const struct session *s, const struct identity *id) {
    const struct state *st = &s->state;
    int64_t wait = session_wait(s), held = session_held(s, id);
    json_set_time(o, "admitted_at", st->contact_at);
    if (st->failed_at) {
        json_t *failed = json_object();
        json_set_time(failed, "at", st->failed_at);
        set_text(failed, "code", st->failed_code);
        set_text(failed, "reason", st->failed_text);
        json_set(o, "failed", failed);
    }
    if (wait || held)
        json_set_time(o, "asks_again_at", true_time_now(&s->time) + (wait > held ? wait : held));
}

/* Where the key lies. */
static void set_place(json_t *o, const struct identity *id) {
    if (!id->number)
        return;
    json_set_str(o, "key_in", keyring_place_name(id->where[0] ? keyring_place(id->where) : KEYRING_FILE));
    set_text(o, "key_uri", id->where);
}

/* What is remembered is its owner's alone: whoever else asks is told so, and not that there is nothing. */
static bool is_unreadable(const struct session *s, json_t *o) {
    struct stat st;
    if (!faccessat(s->place.fd, "state.json", R_OK, AT_EACCESS) || errno != EACCES || fstatat(s->place.fd, "state.json", &st, AT_SYMLINK_NOFOLLOW))
        return false;
    const struct passwd *owner = getpwuid(st.st_uid);
    char text[160];
    snprintf(text, sizeof text, "This user may not read what the agent remembers, so how the device came in and what failed is not shown: run it as %.32s.", owner ? owner->pw_name : "the directory's owner");
    json_set_str(o, "unreadable", text);
    return true;
}

json_t *report_status(struct session *s) {
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    unsigned current = place_current(&s->place), next = place_next(&s->place);
    int64_t now = true_time_now(&s->time);
    json_t *o = json_object();
    if (current && place_identity(&s->place, current, &id, NULL))
        id.number = current;
    if (id.cert)
        session_recover(s, &id);
    json_set_str(o, "id", s->state.device_id[0] ? s->state.device_id : s->place.dir);
    json_set_str(o, "dir", s->place.dir);
    json_set_str(o, "state", state_of(s, &id, now));
    set_text(o, "device_id", s->state.device_id);
    set_text(o, "gateway", id.gateway[0] ? id.gateway : s->state.gateway);
    set_text(o, "method", is_unreadable(s, o) ? "" : s->state.method);
    set_text(o, "key", s->state.key);
    set_place(o, &id);
    if (id.cert) {
        set_cert(o, id.cert, now);
        json_set_time(o, "renews_at", renew_at(id.cert, s->state.device_id));
    }
    set_anchors(o, &id.anchors);
    set_remembered(o, s, &id);
    json_set_bool(o, "next", next > 0);
    json_set_int(o, "keys_left", (int64_t)hardware_left(&s->place));
    json_set_bool(o, "hooks_due", faccessat(s->place.fd, "hooks-due", F_OK, 0) == 0);
    json_set_bool(o, "clock_behind", true_time_behind(&s->time));
    json_set_time(o, "accepted_time", s->time.floor);
    json_set_time(o, "waiting_time", s->time.waiting.time);
    json_set_bool(o, "shared_key_left", !strcmp(s->state.method, "shared") && s->state.source[0] && credentials_unstripped(s->state.source));
    return o;
}

const char *report_fix(int code) {
    return code == MUSTER_ENOTFOUND ? "Give this device its credentials, or name them by --credentials."
           : code == MUSTER_EINVALID ? "Correct what the text names."
           : code == MUSTER_EIO ? "Look at this device's disk: its rights, its room, its health."
           : code == MUSTER_ENOMEM ? "Look at this device's memory." : err_fix(code);
}

/* --- the gateway's word ---------------------------------------------------------------------------------------------------------------------------- */

static json_t *verdict(const struct session *s, const char *said, const char *side, const char *code, const char *reason, const char *fix) {
    json_t *o = json_object();
    json_set_str(o, "id", s->state.device_id[0] ? s->state.device_id : s->place.dir);
    json_set_str(o, "verdict", said);
    json_set_str(o, "side", side);
    json_set_str(o, "code", code);
    json_set_str(o, "reason", reason);
    json_set_str(o, "fix", fix);
    return o;
}

#define MEND "Mend what the reason names, and run `muster-agent provision`."

static json_t *not_asked(const struct session *s, const struct identity *id) {
    if (!id->number && session_wait(s))
        return verdict(s, "refused", "gateway", s->state.wait_code, s->state.wait_text, "The agent asks again by itself when that time is over.");
    if (id->hidden)
        return verdict(s, "unknown", "device", "key_unreadable", "This user may not read the device's key, and so cannot ask in its name.", "Run it as the owner of the directory.");
    if (!id->number && s->state.failed_status)
        return verdict(s, "refused", "gateway", s->state.failed_code, s->state.failed_text, MEND);
    if (!id->number)
        return verdict(s, "refused", "device", "not_provisioned", s->state.failed_text[0] ? s->state.failed_text : "This device has no identity yet.",
                       s->state.failed_text[0] ? MEND : "Run `muster-agent provision`.");
    return verdict(s, "refused", "device", "identity_damaged", "Key, certificate, anchors and URL in the current identity are not all there, or do not belong together.",
                   "Give the device credentials again and run `muster-agent provision`.");
}

static json_t *not_reached(struct session *s, const struct refused *why, const struct err *err) {
    if (err->code == MUSTER_EKEYAWAY || err->code == MUSTER_EKEYTIME || err->code == MUSTER_EKEYPIN || err->code == MUSTER_EKEYGONE)
        return verdict(s, err->code == MUSTER_EKEYGONE ? "refused" : "unknown", "device", err_code(err->code), err_text(err), report_fix(err->code));
    if (why->dates)
        return verdict(s, "unknown", "device", "gateway_dates", err_text(err), "Compare this device's clock with the dates. Where it is right, the gateway has not renewed its certificate, or its own clock ran ahead when it did.");
    if (why->tls)
        return verdict(s, "refused", "gateway", "certificate_refused", err_text(err),
                       "Compare the certificate's issuer and dates (`muster-agent status`) with what the gateway, or the proxy in front of it, takes.");
    if (err->code == MUSTER_ETLSREJECTED)
        return verdict(s, "refused", "device", "gateway_untrusted", err_text(err),
                       "What answers there is not under the anchors of this device (root.crt): another server, something in between, or a gateway whose CA was exchanged without a cross-certificate.");
    return verdict(s, "unknown", "network", err_code(err->code), err_text(err), "Check name resolution, the network, and that the gateway is running at that address.");
}

/* The gateway has answered, and what it said is of this device or not. */
static json_t *answered(const struct session *s, const struct refused *why, const struct err *err, bool of_device) {
    bool later = why->status == 429 || why->status >= 500 || err->code == MUSTER_ENETWORK;
    if (!later && !of_device)
        return verdict(s, "unknown", "device", err_code(MUSTER_ETIME), err_text(err), "Set this device's clock; and look whether the gateway's is right, and whether it answers GET /time.");
    return verdict(s, later ? "unknown" : "refused", "gateway", why->code[0] ? why->code : err_code(err->code), err_text(err), why->fix[0] ? why->fix : report_fix(err->code));
}

/* Whoever was asked for the time has judged nobody: that he told it admits no device, and that he did not refuses none. */
static json_t *ask(struct session *s, const struct identity *id) {
    struct err err = ERR_INIT;
    struct refused why = {0};
    struct gateway g;
    const struct shown by = {id->key, id->cert, &id->above};
    if (keyring_has_pin(id->where) && faccessat(s->place.fd, ".", W_OK, AT_EACCESS))
        return verdict(s, "unknown", "device", "key_unreadable", "This user may not write to the device's directory, and could not keep a PIN that is refused from being tried again: it is not tried.",
                       "Run it as the owner of the directory.");
    if (keyring_refused(id->where, &err))
        return not_reached(s, &why, &err);
    bool told = session_gateway(s, id->gateway, &id->anchors, &g, &why, &err) == 0;
    if (err.code == MUSTER_ETIME)
        return verdict(s, "unknown", "device", err_code(MUSTER_ETIME), err_text(&err), report_fix(MUSTER_ETIME));
    if (told && est_admitted(&g, &by, &why, &err) == 0)
        return verdict(s, "admitted", NULL, NULL, NULL, NULL);
    return why.status ? answered(s, &why, &err, told) : not_reached(s, &why, &err);
}

json_t *report_check(struct session *s) {
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    unsigned current = place_current(&s->place);
    if (current && place_identity(&s->place, current, &id, NULL))
        id.number = current;
    if (identity_whole(&id))
        session_recover(s, &id);
    json_t *o = identity_whole(&id) ? ask(s, &id) : not_asked(s, &id);
    set_place(o, &id);
    return o;
}

json_t *report_nothing(const char *dir, const char *why, bool status) {
    json_t *o = json_object();
    json_set_str(o, "id", dir);
    json_set_str(o, status ? "state" : "verdict", status ? "none" : "refused");
    json_set_str(o, "side", "device");
    json_set_str(o, "code", "not_provisioned");
    json_set_str(o, "reason", why);
    json_set_str(o, "fix", "Run `muster-agent provision`.");
    return o;
}

bool report_admitted(const json_t *check) {
    const char *said = json_string_value(json_object_get(check, "verdict"));
    return said && !strcmp(said, "admitted");
}

/* --- for people -------------------------------------------------------------------------------------------------------------------------------------- */

void report_text(FILE *out, const char *text) {
    struct span s = span_str(text);
    while (s.n) {
        uint32_t code;
        size_t n = span_utf8_next(s, &code);
        bool clean = n && !span_code_is_control(code);
        if (clean)
            fwrite(s.p, 1, n, out);
        else
            fputc('?', out);
        s = span_sub(s, n ? n : 1, s.n);
    }
}

static void print_value(FILE *out, const char *prefix, const char *name, const json_t *value) {
    const char *key;
    json_t *item;
    size_t i;
    char longer[128];
    if (json_is_object(value)) {
        snprintf(longer, sizeof longer, "%s%s.", prefix, name);
        json_object_foreach((json_t *)(uintptr_t)value, key, item) print_value(out, longer, key, item);
        return;
    }
    if (json_is_array(value)) {
        json_array_foreach(value, i, item) print_value(out, prefix, name, item);
        return;
    }
    if (json_is_null(value))
        return;
    fprintf(out, "%s%s: ", prefix, name);
    if (json_is_string(value))
        report_text(out, json_string_value(value));
    else if (json_is_integer(value))
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else
        fputs(json_is_true(value) ? "yes" : "no", out);
    fputc('\n', out);
}

void report_print(FILE *out, const json_t *o) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)o, key, value) print_value(out, "", key, value);
}
