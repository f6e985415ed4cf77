/* metrics: counters, gauges and histograms that outlive the process that counts.
 *
 * The table is metrics.def.  Before it forks, the supervisor makes a shared page for each process; a process writes into its own one alone
 * (the others are unmapped, but for control, which reads them), and a process that is started again goes on counting where its predecessor
 * ended.  In a page every thread has a block of its own, so that counting is one uncontended addition, and a reader adds the blocks up.
 *
 * What another process counted is data from a stranger: numbers, at fixed places, of which anything may be wrong but their number.
 *
 * Counting is for any thread and never fails.  Without metrics_use() it goes to a page that nobody reads. */
#ifndef MUSTER_METRICS_METRICS_H
#define MUSTER_METRICS_METRICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum metric {
#define L(NAME, ...)
#define M(NAME, type, by, name, A, a, B, b, help) METRIC_##NAME,
#define G(NAME, name, labels, help) METRIC_##NAME,
#include "metrics/metrics.def"
#undef L
#undef M
#undef G
    METRIC_COUNT,
};

/* Values of labels, in the order of the table. */
enum metrics_class { CLASS_OTHER, CLASS_ENROL, CLASS_REGISTER, CLASS_METADATA, CLASS_TARGETS, CLASS_TELEMETRY, CLASS_API, CLASS_HEALTH, CLASS_METRICS };
enum metrics_handshake { HANDSHAKE_FULL, HANDSHAKE_RESUMED };
enum metrics_verdict { PEER_JUDGED, PEER_KNOWN };
enum metrics_renewal { RENEWAL_NEW, RENEWAL_SUPERSEDED, RENEWAL_AGAIN, RENEWAL_REFUSED, RENEWAL_FAILED };
enum metrics_enrolment { ENROLMENT_NEW, ENROLMENT_AGAIN, ENROLMENT_REPLACED, ENROLMENT_REFUSED, ENROLMENT_FAILED };
enum metrics_limited { LIMITED_SOURCE, LIMITED_DEVICE, LIMITED_KEY, LIMITED_ACCOUNT, LIMITED_LINE, LIMITED_GUESS, LIMITED_TIME };
#define LIMITED_N (LIMITED_TIME + 1)
enum metrics_ocsp { OCSP_ANSWER_SIGNED, OCSP_ANSWER_KEPT, OCSP_ANSWER_MALFORMED, OCSP_ANSWER_INTERNAL, OCSP_ANSWER_LATER, OCSP_ANSWER_UNAUTHORIZED };
enum metrics_result { RESULT_OK, RESULT_FAILED };
enum metrics_queue { QUEUE_WRITE, QUEUE_READ };
enum metrics_process { PROCESS_VAULT, PROCESS_CONTROL, PROCESS_GATEWAY, PROCESS_COURIER, PROCESS_TOKEN };
unsigned metrics_code(int code);     /* of MUSTER_E… */
unsigned metrics_status(int status); /* of 100 to 599 */

/* a and b: values of the labels; 0 where there is none.  One that is too large counts as 0. */
void metrics_add(enum metric m, unsigned a, unsigned b, int64_t n);           /* COUNTER, GAUGE */
void metrics_set(enum metric m, unsigned a, int64_t value);                   /* LEVEL */
void metrics_observe(enum metric m, int64_t value);                           /* TIME: microseconds; SIZE */
static inline void metrics_count(enum metric m, unsigned a, unsigned b) { metrics_add(m, a, b, 1); }

/* --- pages ------------------------------------------------------------------------------------------------------------------------------ */

enum metrics_page { METRICS_SUPERVISOR, METRICS_VAULT, METRICS_CONTROL, METRICS_GATEWAY, METRICS_GATEWAY_NEXT, METRICS_COURIER, METRICS_TOKEN, METRICS_PAGES }; /* a reload has two gateways for a while */
enum metrics_token { METRICS_TOKEN_NONE, METRICS_TOKEN_ANSWERS, METRICS_TOKEN_SILENT }; /* METRIC_TOKEN: none is configured; it is there; it is not */
struct metrics {
    void *page[METRICS_PAGES]; /* NULL: not this process's business */
};

int metrics_open(struct metrics *m, struct err *err) MUSTER_MUST_CHECK; /* the supervisor, before it forks */
void metrics_close(struct metrics *m);
/* This process counts in that page from now on.  Called before it has threads. */
void metrics_use(struct metrics *m, enum metrics_page page);
/* A child: unmaps the pages of the others, or where it reads them makes them read-only. */
int metrics_keep(struct metrics *m, enum metrics_page page, bool reads, struct err *err) MUSTER_MUST_CHECK;
/* The supervisor: nobody is in that page any more, so that what it says of the present is over. */
void metrics_ended(struct metrics *m, enum metrics_page page);

/* --- reading ------------------------------------------------------------------------------------------------------------------------------ */

/* Over all pages, as the type says; of a histogram: how many observations. */
int64_t metrics_value(const struct metrics *m, enum metric metric, unsigned a, unsigned b);
int64_t metrics_value_of(const struct metrics *m, enum metrics_page page, enum metric metric, unsigned a, unsigned b); /* of a gateway: of both */

/* expose.c: Prometheus' text format 0.0.4.  All of M; then G's, one family behind the other. */
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"
void metrics_expose(const struct metrics *m, struct buf *out);
void metrics_family(struct buf *out, enum metric g);
/* A series of the family; v: values of its labels in their order, NULL behind the last one needed.  Whatever bytes they have are escaped. */
void metrics_sample(struct buf *out, enum metric g, const char *const *v, double value);
/* doc/metrics.md's table. */
void metrics_document(struct buf *out);

/* --- the table, for metrics.c and expose.c -------------------------------------------------------------------------------------------------- */

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_LEVEL, METRICS_TIME, METRICS_SIZE, METRICS_FOUND };
enum metrics_by { METRICS_BY_PROCESS, METRICS_BY_ALL, METRICS_BY_HIDDEN };
#define METRICS_BUCKETS_MAX 16
struct metrics_words {
    const char *const *word;
    unsigned n;
};
struct metrics_row {
    enum metrics_type type;
    enum metrics_by by;
    const char *name;
    const struct metrics_words *set[2];
    const char *label[2]; /* "" none; METRICS_FOUND: label[0] has all, separated by blanks */
    const char *help;
    unsigned at, slots; /* in a block */
    bool sparse;        /* shown where not 0 */
};
extern const struct metrics_row METRICS_TABLE[METRIC_COUNT];
struct metrics_bounds {
    const int64_t *bound; /* inclusive; microseconds, or numbers */
    unsigned n;
};
#define METRICS_SLOTS 1024 /* of a block; 64-bit numbers */
struct metrics_bounds metrics_bounds(enum metrics_type type);
int64_t metrics_slot(const struct metrics *m, unsigned pages, unsigned slot, enum metrics_type type); /* pages: a set of bits */

#endif
