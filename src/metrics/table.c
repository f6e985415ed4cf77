/* table: metrics.def as tables; see metrics.h. */
#include "metrics/metrics.h"

#include <stddef.h>

/* The words of labels. */
static const char *const words_CODE[] = {
#define E(name, http, exit, code, what, fix) code,
#include "base/errors.def"
#undef E
};
#define L(NAME, ...) static const char *const words_##NAME[] = {__VA_ARGS__};
#define M(NAME, type, by, name, A, a, B, b, help)
#define G(NAME, name, labels, help)
#include "metrics/metrics.def"
#undef L
#undef M
#define COUNT(words) (sizeof(words) / sizeof *(words))
#define L(NAME, ...) static const struct metrics_words set_##NAME = {words_##NAME, COUNT(words_##NAME)};
#define M(NAME, type, by, name, A, a, B, b, help)
L(CODE, )
#include "metrics/metrics.def"
#undef L
#undef M

/* Where each begins in a block.  A histogram has a slot a bucket, one for what is beyond, and the sum. */
static const int64_t bounds_TIME[] = {500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};
static const int64_t bounds_SIZE[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};
_Static_assert(COUNT(bounds_TIME) < METRICS_BUCKETS_MAX && COUNT(bounds_SIZE) < METRICS_BUCKETS_MAX, "buckets fit");

#define SLOTS_COUNTER(A, B) (COUNT(words_##A) * COUNT(words_##B))
#define SLOTS_GAUGE(A, B) SLOTS_COUNTER(A, B)
#define SLOTS_LEVEL(A, B) SLOTS_COUNTER(A, B)
#define SLOTS_TIME(A, B) (COUNT(bounds_TIME) + 2)
#define SLOTS_SIZE(A, B) (COUNT(bounds_SIZE) + 2)
struct layout {
#define L(NAME, ...)
#define M(NAME, type, by, name, A, a, B, b, help) char NAME[SLOTS_##type(A, B)];
#include "metrics/metrics.def"
#undef M
#undef G
};
_Static_assert(sizeof(struct layout) <= METRICS_SLOTS, "a block holds them all");

#define SPARSE(A) (&set_##A == &set_CODE || &set_##A == &set_CLASS)
const struct metrics_row METRICS_TABLE[METRIC_COUNT] = {
#define M(NAME, type, by, name, A, a, B, b, help)                                                                              \
    [METRIC_##NAME] = {METRICS_##type, METRICS_BY_##by, name, {&set_##A, &set_##B}, {a, b}, help, offsetof(struct layout, NAME), SLOTS_##type(A, B), SPARSE(A)},
#define G(NAME, name, labels, help) [METRIC_##NAME] = {METRICS_FOUND, METRICS_BY_ALL, name, {&set_NONE, &set_NONE}, {labels, ""}, help, 0, 0, false},
#include "metrics/metrics.def"
#undef L
#undef M
#undef G
};

struct metrics_bounds metrics_bounds(enum metrics_type type) {
    return type == METRICS_TIME ? (struct metrics_bounds){bounds_TIME, COUNT(bounds_TIME)} : (struct metrics_bounds){bounds_SIZE, COUNT(bounds_SIZE)};
}
