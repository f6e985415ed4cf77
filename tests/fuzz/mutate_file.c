/* Mutator of certificate files: inside the structure where the file is DER, plainly where it is text. */
#include "der.h"
#include "fuzz.h"

#define OUT_MAX (64 * 1024)

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed) {
    unsigned random = seed;
    if (n < 2 || data[0] != 0x30 || der_random(&random, 8) == 0)
        return LLVMFuzzerMutate(data, n, max);
    CLEANUP(buf_fini) struct buf out = BUF_INIT(OUT_MAX);
    der_mutate(span_of(data, n), &random, &out);
    if (!buf_ok(&out) || out.n == 0 || out.n > max)
        return LLVMFuzzerMutate(data, n, max);
    memcpy(data, out.p, out.n);
    return out.n;
}
