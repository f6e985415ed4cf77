/* enrol_decide: who may enrol, in the order in which it is asked.  Pure; see enrol.h. */
#include "registry/enrol.h"
#include "registry/profile.h"
#include "registry/root_way.h"
#include "registry/tried.h"

static void refuse(struct enrol_verdict *v, int code, int retry_after) {
    v->how = ENROL_REFUSED;
    v->err = (struct err){.code = code, .retry_after = retry_after};
}

static int account_code(const struct account *a) { return a->state != ACCOUNT_ACTIVE ? MUSTER_EDELETED : a->method & METHOD_SHARED ? 0 : MUSTER_EMETHODOFF; }

static int key_code(const struct enrol_facts *f) {
    const struct prov_key *k = f->key;
    return k->state == KEY_BLACKLISTED                                         ? MUSTER_EKEYBLACKLISTED
               : k->expires <= f->now || k->certificate_not_after <= f->now    ? MUSTER_EKEYEXPIRED
               : account_code(f->account)                                      ? account_code(f->account)
               : !(f->leave_out & ENROL_ANY_ADDRESS) && !sources_match(k->sources, f->address)      ? MUSTER_EKEYSOURCE
               : !(f->leave_out & ENROL_ANY_ID) && !id_pattern_match(k->id_pattern, f->device_id)   ? MUSTER_EKEYPATTERN
                                                                               : 0;
}

/* Is the key, or the invitation, good at all?  These are the only reasons that also stop a repeated answer, besides the device's own state. */
static bool credential_good(const struct enrol_facts *f, struct enrol_verdict *v) {
    int code = f->key ? key_code(f) : f->invitation->expires <= f->now ? MUSTER_EINVEXPIRED : account_code(f->account);
    if (code)
        refuse(v, code, 0);
    return code == 0;
}

static bool budget_left(const struct enrol_facts *f, struct enrol_verdict *v) {
    const struct prov_key *k = f->key;
    if (!k) /* an invitation is of one device */
        return true;
    if (k->max_devices && k->spent >= k->max_devices)
        refuse(v, MUSTER_EKEYEXHAUSTED, 0);
    else if (k->per_hour && f->last_hour >= k->per_hour)
        refuse(v, MUSTER_EKEYRATE, f->oldest + CLOCK_HOUR > f->now ? (int)(f->oldest + CLOCK_HOUR - f->now) : 1);
    else
        return true;
    return false;
}

/* The state of a device wins over every policy and window. */
static bool device_may(const struct enrol_facts *f, struct enrol_verdict *v) {
    int code = device_state_code(f->device);
    if (code)
        refuse(v, code, 0);
    return code == 0;
}

/* The same key asks again for the same ID, and nothing that was issued for it has been used: its answer was lost. */
static bool lost_lately(const struct enrol_facts *f) {
    bool waits = f->key ? f->waiting_key == f->key->row : f->invited_waits;
    return waits && lately(f->device->issue_first, f->account->lost_answer_window, f->now);
}

static bool answer_lost(const struct enrol_facts *f) { return f->over || lost_lately(f); }

static void again(const struct enrol_facts *f, struct enrol_verdict *v) {
    const struct device *d = f->device;
    int64_t window_left = d->issue_first + f->account->lost_answer_window - f->now;
    if (d->issue_first <= f->now + CLOCK_AHEAD && d->issue_count > REISSUE_MAX && (window_left > 0 || !f->over))
        refuse(v, MUSTER_EREISSUELIMIT, (int)(window_left < 1 ? 1 : window_left));
    else if (f->now_ms - d->issue_last_ms < REISSUE_GAP_MS && f->now_ms >= d->issue_last_ms)
        refuse(v, MUSTER_EREISSUELIMIT, 1);
    else
        v->how = ENROL_AGAIN;
    v->anew = !lost_lately(f);
}

static void replace(const struct enrol_facts *f, struct enrol_verdict *v) {
    const struct device *d = f->device;
    bool granted = d->again == AGAIN_GRANTED;
    /* The key that enrolled it: the device as it is, or the one that was let to come again and has not shown itself.  Who invites the device says
     * that of it by name. */
    bool same_key = !f->key || (d->method == METHOD_SHARED && d->prov_key == f->key->row) || f->waiting_key == f->key->row;
    if (!granted && d->again == AGAIN_REFUSED) {
        refuse(v, MUSTER_EREFUSED, 0);
    } else if (!granted && f->account->reprovision == REPROVISION_ASK) {
        refuse(v, MUSTER_EAPPROVAL, 300);
        v->how = d->again == AGAIN_ASKED ? ENROL_REFUSED : ENROL_ASK;
    } else if (!granted && !(f->account->reprovision == REPROVISION_REPLACE && same_key)) {
        refuse(v, MUSTER_EREGISTERED, 0);
    } else if (!granted && within(f->certificates_since, CLOCK_DAY, f->now)) { /* one that is wiped over and over: a disk that keeps nothing */
        refuse(v, MUSTER_EREISSUELIMIT, (int)(f->certificates_since + CLOCK_DAY - f->now));
    } else if (budget_left(f, v)) {
        v->how = ENROL_REPLACE;
    }
}

/* A device that waits for an operator is given nothing that it could not use yet. */
static int withheld(const struct enrol_facts *f, const struct enrol_verdict *v) {
    enum device_state state = v->how == ENROL_NEW ? v->state : f->device->state;
    if (!f->own || state != DEVICE_PENDING || (f->expected && !f->account->approval && f->account->expected_only))
        return 0;
    return f->account->expected_only && !f->account->approval ? MUSTER_EUNEXPECTED : MUSTER_EPENDING;
}

/* Whether the account's profile takes such a key: the device's own, or one of the kind that the server makes. */
static bool key_taken(const struct enrol_facts *f, struct enrol_verdict *v) {
    if (f->own)
        return own_key_judge(f->account, f->key, f->own, f->own_is, &v->err) == 0;
    const struct key_facts made = profile_made_key(f->account);
    if (profile_judge(f->account, f->key, &made, NULL) == 0)
        return true;
    refuse(v, MUSTER_EKEYTYPE, 0);
    return false;
}

static void refuse_shut(const struct enrol_facts *f, struct enrol_verdict *v) {
    refuse(v, MUSTER_EROOTSHUT, ROOT_SHUT_WAIT);
    if (!f->shut)
        (void)!err_retry(&v->err, MUSTER_EROOTSHUT, ROOT_SHUT_WAIT, "The certificate that the device has leads to a fleet root that is disabled; nothing was spent.");
}

static void decide(const struct enrol_facts *f, struct enrol_verdict *v) {
    if (f->now < f->newest - CLOCK_TOLERANCE) {
        refuse(v, MUSTER_ECLOCK, 60);
        return;
    }
    if (credential_good(f, v) && f->server_keygen && !f->account->server_keygen)
        refuse(v, MUSTER_EKEYGENOFF, 0);
    if (v->err.code || !key_taken(f, v))
        return;
    if (f->device && !device_may(f, v))
        return;
    const bool lost = f->device && answer_lost(f) && f->device->again != AGAIN_GRANTED;
    if (f->same) {
        v->how = ENROL_SAME;
    } else if (f->invitation && f->invitation->spent && !lost) {
        refuse(v, MUSTER_EINVSPENT, 0);
    } else if (!f->device) {
        if (device_id_check_new(f->device_id, &v->err)) {
            v->how = ENROL_REFUSED;
        } else if (f->pinned) {
            refuse(v, MUSTER_EKEYMISMATCH, 0);
            err_set(&v->err, MUSTER_EKEYMISMATCH, f->own ? "The device was announced with another key." : "The device was announced with a key of its own.");
        } else if (budget_left(f, v)) {
            v->how = ENROL_NEW;
            v->state = f->account->approval || (f->account->expected_only && !f->expected) ? DEVICE_PENDING : DEVICE_ACTIVE;
        }
    } else if (lost) {
        again(f, v);
    } else {
        replace(f, v);
    }
    if (v->how != ENROL_REFUSED && v->how != ENROL_ASK && (v->how == ENROL_SAME ? f->same_shut : f->shut))
        refuse_shut(f, v);
}

/* The same once more by what is tried; who would have to wait for an operator would not have been let in at once either. */
static void try_it(const struct enrol_facts *f, struct enrol_verdict *v) {
    struct enrol_verdict tried = {.how = ENROL_REFUSED};
    struct enrol_facts t = *f;
    struct tried_room room;
    if (!tried_of(&t.account, &t.key, &room))
        return;
    decide(&t, &tried);
    const bool waits = tried.how == ENROL_NEW && v->how == ENROL_NEW && tried.state == DEVICE_PENDING && v->state == DEVICE_ACTIVE;
    const struct err pending = {.code = t.account->expected_only && !t.account->approval ? MUSTER_EUNEXPECTED : MUSTER_EPENDING};
    if (tried.how == ENROL_REFUSED || tried.how == ENROL_ASK)
        tried_refused(&v->shadow, &tried.err);
    else if (waits)
        tried_refused(&v->shadow, &pending);
}

bool enrol_is_asked_for(const struct enrol_verdict *v) { return v->how == ENROL_NEW || v->how == ENROL_REPLACE || (v->how == ENROL_AGAIN && v->anew); }

void enrol_decide(const struct enrol_facts *f, struct enrol_verdict *v) {
    *v = (struct enrol_verdict){.how = ENROL_REFUSED};
    decide(f, v);
    if (f->asks && enrol_is_asked_for(v) && hook_judge(&f->answer, f->now, &v->err, &v->ask))
        v->how = v->ask ? ENROL_ASK : ENROL_REFUSED;
    if (v->how == ENROL_REFUSED || v->how == ENROL_ASK)
        return;
    v->withheld = withheld(f, v);
    try_it(f, v);
}
