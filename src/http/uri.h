/* uri: checks and decoding of request targets (RFC 3986).  Used by head.c to refuse, by router.c and exchange.c to decode. */
#ifndef MUSTER_HTTP_URI_H
#define MUSTER_HTTP_URI_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

/* A path from '/' on: only characters of RFC 3986, complete percent-encodings, and nothing on which two readers could
 * disagree: no "//", no "." or ".." segment, no %00, %2f or %5c, each in plain or encoded form; decoded it is UTF-8. */
int uri_check_path(struct span path, struct err *err) MUSTER_MUST_CHECK;
/* The same, but %2f, %5c and encoded dot segments are allowed: where a segment is a name that is decoded by itself, and never a path for anybody else. */
int uri_check_path_of_names(struct span path, struct err *err) MUSTER_MUST_CHECK;
/* The same for what follows '?': characters, encodings, no %00, UTF-8. */
int uri_check_query(struct span query, struct err *err) MUSTER_MUST_CHECK;

/* The one spelling of a checked path (RFC 3986, 6.2.2): unreserved characters without encoding, hexadecimal digits as capitals; in the arena where
 * that is another one.  False: out of memory. */
bool uri_normalise(struct arena *a, struct span *path);
/* The decoded form of checked text, in the arena; p is never NULL but when out of memory.  `plus`: '+' is a blank (queries). */
struct span uri_decode(struct arena *a, struct span raw, bool plus);

/* The raw value of the first parameter whose decoded name is `name`; false: absent.  A parameter without '=' has an empty value. */
bool uri_query_find(struct span query, const char *name, struct span *raw);

#endif
