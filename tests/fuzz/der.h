/* der: changes inside a DER structure that leave it well-formed: one element is changed, dropped or doubled, and the lengths around it are
 * put right.  For the custom mutators of the certificate targets; a plain bit flip rarely gets past d2i_X509. */
#ifndef MUSTER_TESTS_FUZZ_DER_H
#define MUSTER_TESTS_FUZZ_DER_H

#include "base/buf.h"
#include "base/cleanup.h"

/* libFuzzer's own. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max);

/* A small generator of its own (libFuzzer hands out a seed a call). */
static inline unsigned der_random(unsigned *state, unsigned below) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % below;
}

/* The whole element at the front of s with its content; false: there is none. */
bool der_element(struct span s, struct span *whole, struct span *content);
void der_add(struct buf *out, uint8_t tag, struct span content);
/* Appends `in` with one change; in as it is where it is not DER. */
void der_mutate(struct span in, unsigned *random, struct buf *out);

#endif
