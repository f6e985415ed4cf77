/* verdict: the order in which a request is judged, as a pure function of what is known of its peer; see verifier.h.  The gateway and
 * `explain` both ask it, so that they cannot differ. */
#include "verifier/verifier.h"

/* Two host names name different accounts; "" is none, and differs from nothing. */
static bool differ(const char *a, const char *b) { return *a && *b && strcmp(a, b) != 0; }

static enum verdict refuse(struct err *why, int code) {
    err_set(why, code, NULL);
    return VERDICT_REFUSED;
}

static enum verdict of_device(const struct identity *id, const struct verdict_request *rq, struct err *why) {
    const struct admit *a = &id->admit;
    if (differ(rq->host_account, id->sni_account))
        return refuse(why, MUSTER_EMISDIRECTED);
    if (a->verdict.code) {
        *why = a->verdict;
        return VERDICT_REFUSED;
    }
    if (differ(rq->host_account, a->account_name))
        return refuse(why, MUSTER_EMISDIRECTED);
    return rq->enrolment ? refuse(why, MUSTER_ENODEVICECERT) : VERDICT_ADMITTED;
}

enum verdict verdict_of(const struct identity *id, bool asked, const struct verdict_request *rq, struct err *why) {
    *why = ERR_INIT;
    /* A device's request is judged to its end all the same: it is a use of its certificate, whatever the answer. */
    if (!id->chain.code && id->class != ADMIT_KEY)
        return asked ? of_device(id, rq, why) : VERDICT_ASK;
    if (differ(rq->host_account, id->sni_account))
        return refuse(why, MUSTER_EMISDIRECTED);
    if (id->chain.code == MUSTER_ECERTREQUIRED && rq->enrolment)
        return refuse(why, MUSTER_EKEYREQUIRED);
    if (id->chain.code) {
        *why = id->chain;
        return VERDICT_REFUSED;
    }
    /* The enrolment itself asks all the rest. */
    return rq->enrolment ? VERDICT_ADMITTED : refuse(why, MUSTER_EKEYONLYENROLS);
}
