/* chunked: the strict reader of the chunked transfer coding (RFC 9112, 7.1), fed piece by piece.
 *
 * Sizes are plain hexadecimal of at most eight digits; chunk extensions and trailer fields are refused: nobody needs them
 * here, and readers that skip them in different ways are how requests are smuggled.  Trailers of an answer may be skipped: they end
 * here, and nobody reads on behind them.  Pure: called by exchange.c, client.c and the tests. */
#ifndef MUSTER_HTTP_CHUNKED_H
#define MUSTER_HTTP_CHUNKED_H

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum chunked_state { CHUNKED_SIZE, CHUNKED_SIZE_LF, CHUNKED_DATA, CHUNKED_DATA_CR, CHUNKED_DATA_LF, CHUNKED_END_CR, CHUNKED_TRAILER, CHUNKED_TRAILER_LF, CHUNKED_END_LF, CHUNKED_DONE };

struct chunked { /* start with zeros */
    enum chunked_state state;
    unsigned digits; /* of the size under way */
    uint64_t left;   /* bytes of the chunk under way */
    /* The caller's, before the first byte. */
    uint64_t max;       /* bytes of the whole body; 0: what `out` may hold */
    bool skip_trailers; /* read trailer fields over, up to CHUNKED_TRAILERS_MAX bytes */
    /* Ours. */
    uint64_t taken, skipped;
};
#define CHUNKED_TRAILERS_MAX 8192

/* Appends decoded bytes to `out` and stores in *used how many of `in` it took: all, or up to the end of the body
 * (state CHUNKED_DONE).  A body that would grow past its maximum: MUSTER_EHTTPBODY; anything malformed: MUSTER_EHTTPMALFORMED. */
int chunked_feed(struct chunked *c, struct span in, size_t *used, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

#endif
