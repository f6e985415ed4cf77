/* true_time: what time it is, for a device whose clock may say 1970 (doc/time.md).
 *
 * The clock is believed unless it is before a time that is known to have passed: the floor, which is the newer of when this program was built and what the
 * gateway signed last.  Where it is behind, or where a certificate is out of its dates, the gateway is asked, and its answer counts where it is signed for this
 * question under an anchor.
 *
 * The gateway's clock may be wrong as well, and a floor that it raised to 2040 would strand the device until then.  So a time that contradicts what is there to
 * contradict it is believed for good when another one that was signed a day later says the same: one that is ahead of a clock that was never found out counts for
 * its pass until then, and one before the floor is refused.  Where the clock is at the floor or after it nothing goes back, unless this program has set it.
 *
 * When a certificate begins proves nothing, since whoever issues one writes what he likes: it is a reason to ask, and no bound for the answer. */
#ifndef MUSTER_AGENT_TRUE_TIME_H
#define MUSTER_AGENT_TRUE_TIME_H

#include "agent/certs.h"

struct refused;

struct true_time {
    int64_t floor;  /* seconds since 1970 */
    int64_t doubt;  /* the device's certificate begins then: a clock that is behind that may be wrong */
    int64_t offset; /* what the clock was behind when the gateway answered */
    int64_t at, mono_ms; /* what it answered, and when that was by the monotonic clock: who steps the other one meanwhile is no matter */
    int64_t waiting; /* what it answered and is not believed for good yet: the first of it; 0: none */
    bool accept;    /* what it answers is believed for good at once, since somebody says so */
    bool told;      /* its clock was set to what a gateway had signed: it is no witness against what another says, or the same one later */
    bool asked;     /* the gateway answered in this pass */
    bool unsure;    /* that waits: no certificate is given up for one of such a time */
};

/* newest, waiting: what was remembered. */
void true_time_init(struct true_time *t, int64_t newest, int64_t waiting);
int64_t true_time_now(const struct true_time *t);
bool true_time_behind(const struct true_time *t); /* it is known not to be right */
bool true_time_doubtful(const struct true_time *t); /* it may not be, and nobody was asked yet */
/* A certificate that an anchor vouches for begins then, and was accepted: that time has passed. */
void true_time_passed(struct true_time *t, int64_t since);
/* Asks; the offset and the floor follow the answer.  *why: what came, where it was no time (agent/est.h). */
int true_time_ask(struct true_time *t, const char *gateway, const struct certs *anchors, struct refused *why, struct err *err) MUSTER_MUST_CHECK;
/* Judges one answer to a question with that nonce; for true_time_ask and the fuzz target. */
int true_time_judge(struct span body, struct span nonce, const struct certs *anchors, int64_t *time, struct err *err) MUSTER_MUST_CHECK;
/* Weighs a time that was rightly signed against the device's own clock and the floor: 0, and floor, waiting and unsure follow; or MUSTER_ETIME, and waiting does. */
int true_time_weigh(struct true_time *t, int64_t own, int64_t at, struct err *err) MUSTER_MUST_CHECK;

#endif
