/* limits: how much of the gateway one source, one device, one provisioning key and one account may have, by the settings limit_….
 *
 * A source is an address, of IPv6 a /64.  It is never stopped for what it is admitted to, only for what was refused to it or failed: many
 * devices may come from one address.  From any thread. */
#ifndef MUSTER_GATEWAY_LIMITS_H
#define MUSTER_GATEWAY_LIMITS_H

#include "base/err.h"
#include "config/settings.h"
#include "registry/refusal.h"

#define LIMITS_SOURCE_MAX 64

struct limits;
int limits_new(const struct settings *s, struct limits **out, struct err *err) MUSTER_MUST_CHECK;
void limits_free(struct limits *l); /* NULL accepted */

/* The network that counts as one source; "" of no address. */
void limits_source(const char *address, char out[LIMITS_SOURCE_MAX]);
/* Something failed that came from there, or was refused to it. */
void limits_failed(struct limits *l, const char *address);
/* Whether its connections are not worth a handshake for now. */
bool limits_turn_away(struct limits *l, const char *address);

struct limits_enrolment {
    struct span key, account; /* any bytes that stand for them; key empty: an invitation */
    struct span device_id;
};
/* One more enrolment: MUSTER_ETOOMANY, or MUSTER_ELINE where too many are under way; each with the time to come again.  0: it is under way
 * until limits_enrolment_end(). */
int limits_enrolment_begin(struct limits *l, const struct limits_enrolment *e, struct err *err) MUSTER_MUST_CHECK;
/* One more code of an invitation that somebody tries: MUSTER_ETOOMANY where his source has tried as many as it may.  One that was right is taken
 * off again.  What is tried for one device from everywhere is not counted: a code is beyond all guessing, and strangers could keep the device
 * that was invited out by guessing at it. */
int limits_guess_begin(struct limits *l, const char *address, struct err *err) MUSTER_MUST_CHECK;
void limits_guess_was_right(struct limits *l, const char *address);
/* One more time that somebody asks for: MUSTER_ETOOMANY. */
int limits_time_begin(struct limits *l, const char *address, struct err *err) MUSTER_MUST_CHECK;
/* One more renewal of a device that is in, likewise: its own rate, and its place in front of the line.  What a provisioning key's or an
 * account's new devices use up is not its fault. */
int limits_renewal_begin(struct limits *l, int64_t device_row, struct span device_id, struct err *err) MUSTER_MUST_CHECK;
void limits_enrolment_end(struct limits *l);
/* One more report of a device that is known (keep.h): MUSTER_ETOOMANY. */
int limits_report(struct limits *l, int64_t device_row, struct err *err) MUSTER_MUST_CHECK;

#endif
