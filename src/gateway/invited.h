/* invited: who enrols without a certificate, with the code that `muster device invite` printed: EST's simpleenroll with HTTP Basic, the device ID
 * as user and the code as password (registry/invitation.h).
 *
 * The code is held against the registry before anything of the body is read, and so many wrong ones a minute are heard of one source
 * (limits.h).  A wrong code and an ID that is not invited are one answer.  Enrolment itself asks again, and all the rest
 * (registry/enrol.h).  Neither code nor field goes into a log, a record or an answer. */
#ifndef MUSTER_GATEWAY_INVITED_H
#define MUSTER_GATEWAY_INVITED_H

#include "gateway/internal.h"

struct invited {
    char account[ACCOUNT_NAME_MAX + 1], device_id[DEVICE_ID_MAX + 1];
    struct hash code;
};

/* Whether a code comes with the request; of what other routes are asked it is not looked at. */
bool invited_brings_code(const struct http_exchange *x);
/* VERDICT_INVITED: lets the request go on, or refuses it, now or later. */
void invited_judge(struct http_exchange *x, struct worker *w);
/* Of a request that went on by it; NULL: by another credential. */
const struct invited *invited_of(const struct http_exchange *x);
/* Refuses.  Where neither certificate nor code came to an account that could have invited, and where a code is wrong, with a challenge
 * (RFC 9110, 11.6.1): clients send the field because of it. */
void invited_refuse(struct http_exchange *x, struct worker *w, const struct err *err);

#endif
