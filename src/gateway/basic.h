/* basic: user and password of HTTP's scheme Basic (RFC 7617).  Pure functions over what was sent. */
#ifndef MUSTER_GATEWAY_BASIC_H
#define MUSTER_GATEWAY_BASIC_H

#include "base/buf.h"

#define BASIC_TEXT_MAX 510 /* bytes of user, colon and password */

/* Whether the value of an Authorization field is of that scheme, whatever follows. */
bool basic_is(struct span field);
/* text: takes what was sent in base64, and `user` and `password` point into it; the caller wipes it.  The last colon parts them: a device ID may
 * have some, a code has none.  False: it is not of the form, or one of them is empty, no UTF-8, or has control characters. */
bool basic_read(struct span field, struct buf *text, struct span *user, struct span *password) MUSTER_MUST_CHECK;

#endif
