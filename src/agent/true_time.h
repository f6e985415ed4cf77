/* true_time: what time it is, for a device whose clock may say 1970 (doc/time.md).
 *
 * The clock is believed unless it is before a time that is known to have passed: the floor, which is the newer of when this program was built and the newest signed
 * time that was accepted.  Where it is behind, or where a certificate is out of its dates, the gateway is asked, and its answer counts where it is signed for this
 * question under an anchor.
 *
 * The floor never goes down by itself, so a time that is far ahead of it is used and not accepted: the server's clock may be wrong, and a floor of 2040 would strand
 * the device until then.  It is accepted once another one, signed a week later and within two months, agrees, and this device was on for a day between the two, with as much of what lies
 * between them as this device was on for: nobody is stranded by a server that is wrong for a weekend, nor by one that leaps from year to year.  Of what
 * lies ahead of a clock that may be right nothing is accepted, and by a time far ahead of it nothing is renewed until one a day later says the same.  What is done by a
 * time that was not accepted can be done again.
 *
 * When a certificate begins proves nothing, since whoever issues one writes what he likes: it is a reason to ask, and no bound for the answer. */
#ifndef MUSTER_AGENT_TRUE_TIME_H
#define MUSTER_AGENT_TRUE_TIME_H

#include "agent/certs.h"

struct refused;

/* A signed time that is not accepted yet. */
struct candidate {
    int64_t time;     /* the earliest of those that agree, and so have come since; 0: none */
    int64_t on;       /* for how many seconds this device was on since, as far as it knows: never more than it was */
    int64_t up, boot; /* when that was reckoned: seconds since the machine was started, and which start that was */
};

struct true_time {
    int64_t floor;  /* seconds since 1970 */
    int64_t doubt;  /* the device's certificate begins then: a clock that is behind that may be wrong */
    int64_t offset; /* what the clock was behind when the gateway answered */
    int64_t at, mono_ms; /* what it answered, and when that was by the monotonic clock: who steps the other one meanwhile is no matter */
    int64_t up, boot; /* now */
    struct candidate waiting;
    bool told;   /* the clock may have been set to what a gateway said, and is no witness for that */
    bool accept; /* what it answers is accepted at once, also below the floor, since somebody says so */
    bool asked;  /* the gateway answered in this pass */
    bool unsure; /* that contradicts a clock that may be right: no certificate is given up, nor renewed, for one of such a time */
};

/* newest, waiting: what was remembered. */
void true_time_init(struct true_time *t, int64_t newest, const struct candidate *waiting);
int64_t true_time_now(const struct true_time *t);
bool true_time_behind(const struct true_time *t); /* it is known not to be right */
bool true_time_needed(const struct true_time *t); /* nothing else is asked before the gateway has told it */
bool true_time_doubtful(const struct true_time *t); /* it may not be right, and nobody was asked yet */
/* A certificate that an anchor vouches for begins then, and was accepted: that time has passed, once it lies far enough back that one clock that ran ahead, the
 * server's and this device's, would have been noticed. */
void true_time_passed(struct true_time *t, int64_t since);
/* Asks; the offset and the floor follow the answer.  *why: what came, where it was no time (agent/est.h). */
int true_time_ask(struct true_time *t, const char *gateway, const struct certs *anchors, struct refused *why, struct err *err) MUSTER_MUST_CHECK;
/* Judges one answer to a question with that nonce; for true_time_ask and the fuzz target. */
int true_time_judge(struct span body, struct span nonce, const struct certs *anchors, int64_t *time, struct err *err) MUSTER_MUST_CHECK;
/* Weighs a time that was rightly signed against the device's own clock and the floor: 0, and floor, waiting and unsure follow; or MUSTER_ETIME, and nothing has changed. */
int true_time_weigh(struct true_time *t, int64_t own, int64_t at, struct err *err) MUSTER_MUST_CHECK;

#endif
