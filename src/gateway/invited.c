/* invited: see invited.h. */
#include "gateway/invited.h"

#include "gateway/basic.h"
#include "gateway/est_part.h"
#include "registry/invitation.h"

#define CHALLENGE "Basic realm=\"muster\", charset=\"UTF-8\""

struct judging {
    struct invitation_check check; /* first: what the operation is given */
    struct http_exchange *x;       /* held */
    struct invited invited;
};

static const char *address_of(const struct http_exchange *x) { return ((const struct identity *)http_exchange_peer(x))->address; }

bool invited_brings_code(const struct http_exchange *x) { return judge_kind(x) == REQUEST_ENROL && basic_is(http_field(x, "Authorization")); }

const struct invited *invited_of(const struct http_exchange *x) {
    const struct enrolling *e = http_exchange_data(x);
    return e ? e->invited : NULL;
}

void invited_refuse(struct http_exchange *x, struct worker *w, const struct err *err) {
    char account[ACCOUNT_NAME_MAX + 1];
    struct err why = *err, unknown = ERR_INIT;
    const bool enrols = why.code == MUSTER_EKEYREQUIRED && judge_kind(x) == REQUEST_ENROL, renews = why.code == MUSTER_ECERTREQUIRED && judge_kind(x) == REQUEST_RENEW;
    if ((enrols || renews) && est_account(x, w, account, &unknown))
        why = unknown;
    else if (enrols)
        why = (struct err){.code = MUSTER_ECREDENTIAL};
    if (err_http(why.code) == 401)
        http_reply_field(x, "WWW-Authenticate", CHALLENGE);
    http_reply_err(x, &why);
}

static void keep(struct http_exchange *x, const struct invited *i, struct err *why) {
    struct enrolling *e = refusal_enrolling(x);
    struct invited *kept = e ? arena_alloc(http_exchange_arena(x), sizeof *kept) : NULL;
    if (!kept) {
        err_set(why, MUSTER_ENOMEM, NULL);
        return;
    }
    *kept = *i;
    e->invited = kept;
}

static void judged(void *arg, int rc, const struct err *err) {
    struct judging *j = arg;
    struct http_exchange *x = j->x;
    struct worker *w = http_exchange_arg(x);
    struct err why = rc ? *err : (struct err){.code = j->check.verdict};
    if (!why.code) {
        limits_guess_was_right(w->gateway->limits, address_of(x));
        keep(x, &j->invited, &why);
    }
    if (why.code)
        invited_refuse(x, w, &why);
    else
        http_exchange_admit(x);
    http_exchange_unref(x);
    free(j);
}

/* What came, but for the code, of which the hash alone stays. */
static int read_code(const struct http_exchange *x, struct invited *out, struct err *err) {
    CLEANUP(buf_wipe) struct buf text = BUF_INIT(BASIC_TEXT_MAX);
    struct span user, code;
    if (!basic_read(http_field(x, "Authorization"), &text, &user, &code) || user.n > DEVICE_ID_MAX)
        return err_set(err, MUSTER_EINVITATION, "The Authorization is not base64 of a device ID, a colon and a code.");
    snprintf(out->device_id, sizeof out->device_id, "%.*s", SPAN_FMT(user));
    invitation_hash(code, &out->code);
    return 0;
}

static int ask(struct http_exchange *x, struct worker *w, const struct invited *i, struct err *err) {
    struct judging *j = calloc(1, sizeof *j);
    if (!j)
        return err_set(err, MUSTER_ENOMEM, NULL);
    j->x = x;
    j->invited = *i;
    j->check = (struct invitation_check){.account = j->invited.account, .device_id = j->invited.device_id, .code = i->code};
    http_exchange_ref(x);
    int rc = store_read(w->gateway->store, w->loop, invitation_check_run, judged, j, err);
    if (rc) {
        http_exchange_unref(x);
        free(j);
    }
    return rc;
}

void invited_judge(struct http_exchange *x, struct worker *w) {
    struct err err = ERR_INIT;
    struct invited i = {.account = ""};
    int rc = est_account(x, w, i.account, &err);
    if (!rc && !(rc = read_code(x, &i, &err))) {
        refusal_claims(x, i.device_id);
        if (!(rc = limits_guess_begin(w->gateway->limits, address_of(x), &err)))
            rc = ask(x, w, &i, &err);
    }
    if (rc)
        invited_refuse(x, w, &err);
}
