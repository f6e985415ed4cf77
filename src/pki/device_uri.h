/* device_uri: the URI by which a certificate, or a request for one, names a device whose ID is too long for a CN: "urn:muster:device:" and the
 * ID, of which everything but letters, digits and -._~ is percent-encoded. */
#ifndef MUSTER_PKI_DEVICE_URI_H
#define MUSTER_PKI_DEVICE_URI_H

#include "base/buf.h"

void device_uri_add(struct buf *uri, struct span device_id);
bool device_uri_is(struct span uri); /* by its beginning */
/* Replaces *device_id; MUSTER_EINVALID unless it is 1 to 128 bytes of UTF-8 without control characters, in complete encodings. */
int device_uri_read(struct span uri, struct buf *device_id) MUSTER_MUST_CHECK;

#endif
