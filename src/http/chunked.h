/* chunked: the strict reader of the chunked transfer coding (RFC 9112, 7.1), fed piece by piece.
 *
 * Sizes are plain hexadecimal of at most eight digits; chunk extensions and trailer fields are refused: nobody needs them
 * here, and readers that skip them in different ways are how requests are smuggled.  Pure: called by conn.c and the tests. */
#ifndef MUSTER_HTTP_CHUNKED_H
#define MUSTER_HTTP_CHUNKED_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum chunked_state { CHUNKED_SIZE, CHUNKED_SIZE_LF, CHUNKED_DATA, CHUNKED_DATA_CR, CHUNKED_DATA_LF, CHUNKED_END_CR, CHUNKED_END_LF, CHUNKED_DONE };

struct chunked { /* start with zeros */
    enum chunked_state state;
    unsigned digits; /* of the size under way */
    uint64_t left;   /* bytes of the chunk under way */
};

/* Appends decoded bytes to `out` and stores in *used how many of `in` it took: all, or up to the end of the body
 * (state CHUNKED_DONE).  A body that would grow past out->max: MUSTER_EHTTPBODY; anything malformed: MUSTER_EHTTPMALFORMED. */
int chunked_feed(struct chunked *c, struct span in, size_t *used, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

#endif
