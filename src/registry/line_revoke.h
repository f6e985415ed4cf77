/* line_revoke: certificates that a factory line has signed, and that an operator has taken back one by one.
 *
 * Muster holds none of them, and no list of its own can name them, since their CA's key is at the line: the registry refuses them.  Of a device it knows
 * the newest one that it has shown for the key with which it came; that one can be named, by fingerprint or serial number (certificate.h revokes it, by
 * these functions).  What was taken back stays so, whatever becomes of the device. */
#ifndef MUSTER_REGISTRY_LINE_REVOKE_H
#define MUSTER_REGISTRY_LINE_REVOKE_H

#include "registry/certificate.h"

/* The device has shown it: written down where it is one of the key with which the device came. */
int line_certificate_shown(struct store_tx *tx, const struct device *d, const struct cert *leaf, struct err *err) MUSTER_MUST_CHECK;

/* Whose it is.  account: the row, or 0: any.  1, 0 or an error: MUSTER_EINVALID where a serial number is that of several. */
int line_certificate_find(struct store_tx *tx, int64_t account, const struct certificate_name *name, struct device *out, struct err *err) MUSTER_MUST_CHECK;

/* Whether that one was taken back, or one of its key for that is compromised.  1, 0 or an error. */
int line_certificate_revoked(struct store_tx *tx, int64_t account, const struct hash *fingerprint, const struct hash *spki, int64_t *when, int64_t *reason, struct err *err) MUSTER_MUST_CHECK;

/* Takes it back; ends nothing of the device's besides. */
int line_certificate_revoke(struct store_tx *tx, const struct certificate *c, enum revoke_reason reason, struct err *err) MUSTER_MUST_CHECK;

#endif
