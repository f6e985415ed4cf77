/* secret: bytes that must not be swapped, dumped or left behind.  Memory comes from libsodium's guarded allocator. */
#ifndef MUSTER_BASE_SECRET_H
#define MUSTER_BASE_SECRET_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/span.h"

struct secret {
    uint8_t *p; /* guarded; NULL where empty */
    size_t n;
};

#define SECRET_INIT ((struct secret){0})
int secret_init(void) MUSTER_MUST_CHECK;                     /* once a process, before anything else here (sodium_init) */
int secret_alloc(struct secret *s, size_t n) MUSTER_MUST_CHECK; /* zeroed */
int secret_copy(struct secret *s, struct span from) MUSTER_MUST_CHECK;
int secret_random(struct secret *s, size_t n) MUSTER_MUST_CHECK;
void secret_fini(struct secret *s); /* wipes and frees */
static inline struct span secret_span(const struct secret *s) { return span_of(s->p, s->n); }
/* Compares in a time that depends on the lengths alone. */
bool secret_eq(struct span a, struct span b);
/* Overwrites memory that the compiler may not optimise away. */
void secret_wipe(void *p, size_t n);
/* Bytes from the system's generator; never fails (aborts if there is none). */
void secret_random_bytes(void *p, size_t n);
/* Reads a whole file of at most `max` bytes that nobody but its owner may read (mode & 077 == 0, a regular file);
 * trailing newline kept.  Errors name the path and what is wrong with its mode, never the content. */
int secret_read_file(struct secret *s, const char *path, size_t max, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(secret_fini, struct secret)

#endif
