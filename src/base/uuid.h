/* uuid: identifiers of the registry's objects.  Version 7 (RFC 9562, 5.7): time first, so that inserts stay at the end of an index; 74 random bits. */
#ifndef MUSTER_BASE_UUID_H
#define MUSTER_BASE_UUID_H

#include "base/err.h"
#include "base/span.h"

#define UUID_TEXT_LEN 36

struct uuid {
    uint8_t b[16];
};

struct uuid uuid_new(void); /* never fails; monotonic within a process */
void uuid_text(const struct uuid *u, char out[UUID_TEXT_LEN + 1]);
int uuid_parse(struct span text, struct uuid *out) MUSTER_MUST_CHECK; /* 8-4-4-4-12, either case */
bool uuid_is_nil(const struct uuid *u);
static inline bool uuid_eq(const struct uuid *a, const struct uuid *b) { return memcmp(a->b, b->b, 16) == 0; }
static inline struct span uuid_span(const struct uuid *u) { return span_of(u->b, 16); }

#endif
