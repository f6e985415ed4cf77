/* verdict: the order in which a request is judged, as a pure function of what is known of its peer; see verifier.h.  The gateway and
 * `explain` both ask it, so that they cannot differ. */
#include "verifier/verifier.h"

#define RECOVERY_RETRY 300 /* seconds */

/* Two host names name different accounts; "" is none, and differs from nothing. */
static bool differ(const char *a, const char *b) { return *a && *b && strcmp(a, b) != 0; }

static enum verdict refuse(struct err *why, int code) {
    err_set(why, code, NULL);
    return VERDICT_REFUSED;
}

/* Names of the request that contradict each other. */
static bool misdirected(const struct identity *id, const struct verdict_request *rq, struct err *why) {
    bool path = differ(rq->path_account, id->sni_account) || differ(rq->path_account, rq->host_account);
    if (differ(rq->host_account, id->sni_account))
        err_set(why, MUSTER_EMISDIRECTED, NULL);
    else if (path)
        err_set(why, MUSTER_EMISDIRECTED, "The host name and the path name different accounts.");
    return why->code != 0;
}

/* What anybody may read needs no good certificate; one of another account than the request names is refused all the same. */
static enum verdict of_public(const struct identity *id, const struct verdict_request *rq, struct err *why) {
    const struct admit *a = &id->admit;
    if (misdirected(id, rq, why))
        return VERDICT_REFUSED;
    if (!id->chain.code && (a->verdict.code == MUSTER_EOTHERACCOUNT || differ(rq->path_account, a->account_name) || differ(rq->host_account, a->account_name)))
        return refuse(why, MUSTER_EOTHERACCOUNT);
    return VERDICT_ADMITTED;
}

/* What ends in a certificate. */
static bool issues(enum request_kind kind) { return kind == REQUEST_DEVICES || kind == REQUEST_ENROL || kind == REQUEST_RENEW; }

static enum verdict refuse_recovery(struct err *why) {
    err_retry(why, MUSTER_ERECOVERY, RECOVERY_RETRY, NULL);
    return VERDICT_REFUSED;
}

static enum verdict of_device(const struct identity *id, const struct verdict_request *rq, struct err *why) {
    const struct admit *a = &id->admit;
    if (misdirected(id, rq, why))
        return VERDICT_REFUSED;
    if (a->verdict.code && !(a->may_renew && rq->kind == REQUEST_RENEW)) {
        *why = a->verdict;
        return VERDICT_REFUSED;
    }
    if (differ(rq->host_account, a->account_name))
        return refuse(why, MUSTER_EMISDIRECTED);
    if (differ(rq->path_account, a->account_name))
        return refuse(why, MUSTER_EOTHERACCOUNT);
    if (rq->kind == REQUEST_ENROL)
        err_set(why, MUSTER_ENODEVICECERT, "A device certificate cannot be used for enrolling; simplereenroll renews it.");
    else if (rq->kind == REQUEST_DEVICES)
        err_set(why, MUSTER_ENODEVICECERT, NULL);
    else if (rq->recovery && issues(rq->kind))
        return refuse_recovery(why);
    return why->code ? VERDICT_REFUSED : VERDICT_ADMITTED;
}

static bool enrols(enum request_kind kind) { return kind == REQUEST_DEVICES || kind == REQUEST_ENROL; }

enum verdict verdict_of(const struct identity *id, bool asked, const struct verdict_request *rq, struct err *why) {
    *why = ERR_INIT;
    /* A device's request is judged to its end all the same: it is a use of its certificate, whatever the answer. */
    const bool late = id->ended && rq->kind == REQUEST_RENEW;
    if (((!id->chain.code && (id->class != ADMIT_KEY || rq->kind == REQUEST_PUBLIC)) || late) && !asked)
        return VERDICT_ASK;
    if (rq->kind == REQUEST_PUBLIC)
        return of_public(id, rq, why);
    if ((!id->chain.code && id->class != ADMIT_KEY) || late)
        return of_device(id, rq, why);
    if (misdirected(id, rq, why))
        return VERDICT_REFUSED;
    /* Besides a certificate a code counts for nothing, whatever the certificate is. */
    if (id->chain.code == MUSTER_ECERTREQUIRED && rq->kind == REQUEST_ENROL && rq->code)
        return rq->recovery ? refuse_recovery(why) : VERDICT_INVITED;
    if (id->chain.code == MUSTER_ECERTREQUIRED && enrols(rq->kind))
        return refuse(why, MUSTER_EKEYREQUIRED);
    if (id->chain.code) {
        *why = id->chain;
        return VERDICT_REFUSED;
    }
    /* The enrolment itself asks all the rest. */
    if (enrols(rq->kind))
        return rq->recovery ? refuse_recovery(why) : VERDICT_ADMITTED;
    err_set(why, MUSTER_EKEYONLYENROLS, rq->kind == REQUEST_RENEW ? "A provisioning key is good for enrolling and for nothing else; simpleenroll takes it." : NULL);
    return VERDICT_REFUSED;
}
