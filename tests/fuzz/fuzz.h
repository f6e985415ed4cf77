/* fuzz: what the fuzz targets share.  A target is one function over bytes; libFuzzer calls it (tests/fuzz/run), and so does replay.c with
 * each file of its corpus, as a unit test.  A target must not depend on anything but its input: no clock, no random, no state that is kept. */
#ifndef MUSTER_TESTS_FUZZ_H
#define MUSTER_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What has to hold for every input; not assert(), which a build may leave out. */
#define MUST(cond)                                                                                                                 \
    do {                                                                                                                           \
        if (!(cond)) {                                                                                                             \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #cond);                                               \
            abort();                                                                                                               \
        }                                                                                                                          \
    } while (0)

static inline bool span_inside(struct span part, struct span whole) {
    return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

#endif
