/* bench: what the programs of this folder share.  They measure, are not installed, and end at the first failure. */
#ifndef MUSTER_BENCH_H
#define MUSTER_BENCH_H

#include <openssl/err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Says where and why, and ends the program with status 1. */
#define BENCH_NEED(condition)                                                                                                  \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                            \
            ERR_print_errors_fp(stderr);                                                                                       \
            exit(1);                                                                                                           \
        }                                                                                                                      \
    } while (0)

/* Monotonic, nanoseconds. */
static inline int64_t bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
