/* der_read: reads DER (X.690, 10), one element after the other, as strictly as it is written.
 *
 * For what has one shape and is read often; everything else is libcrypto's.  Nothing is copied: spans point into what was given. */
#ifndef MUSTER_PKI_DER_READ_H
#define MUSTER_PKI_DER_READ_H

#include "base/span.h"

/* The content of the element at the front of *rest, which goes on behind it; false: none with that tag is there, whole and with a length in
 * as few bytes as it takes, and *rest is as it was.  Tags of one byte, and elements under 16 MiB. */
bool der_take(struct span *rest, uint8_t tag, struct span *content);
/* The same element with its tag and length. */
bool der_take_whole(struct span *rest, uint8_t tag, struct span *whole);
/* Whether the next element has that tag. */
static inline bool der_next_is(struct span rest, uint8_t tag) { return rest.n && rest.p[0] == tag; }
/* The content of an INTEGER, in as few bytes as it takes. */
bool der_take_integer(struct span *rest, struct span *content);

/* What stands in a certificate, by its form alone: costs nothing beside d2i_X509. */
struct der_certificate {
    struct span serial;     /* the INTEGER's content */
    struct span subject;    /* the Name, whole */
    struct span key_bits;   /* of its public key, without the number of unused bits */
    struct span extensions; /* what their SEQUENCE holds; empty: there are none */
};
bool der_certificate_read(struct span der, struct der_certificate *out);

#endif
