/* expose: the counters as text; see metrics.h.  https://prometheus.io/docs/instrumenting/exposition_formats/ */
#include <inttypes.h>
#include <stdio.h>

#include "metrics/metrics.h"

static const struct {
    const char *name;
    unsigned pages;
} PROCESSES[] = {
    {"vault", 1U << METRICS_VAULT},
    {"control", 1U << METRICS_CONTROL},
    {"gateway", 1U << METRICS_GATEWAY | 1U << METRICS_GATEWAY_NEXT},
    {"courier", 1U << METRICS_COURIER},
};
#define PROCESSES_N (sizeof PROCESSES / sizeof *PROCESSES)
#define EVERYBODY ((1U << METRICS_PAGES) - 1)

static const char *type_word(enum metrics_type t) { return t == METRICS_COUNTER ? "counter" : t == METRICS_TIME || t == METRICS_SIZE ? "histogram" : "gauge"; }

void metrics_family(struct buf *out, enum metric id) {
    const struct metrics_row *r = &METRICS_TABLE[id];
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", r->name, r->help, r->name, type_word(r->type)); /* no help has a backslash or a newline */
}

/* Bytes that are no UTF-8 would make the whole page unreadable. */
static void add_label(struct buf *out, bool first, struct span name, const char *value) {
    struct span s = span_str(value);
    buf_addc(out, first ? '{' : ',');
    buf_add(out, name);
    buf_adds(out, "=\"");
    for (size_t i = 0; i < s.n;) {
        uint32_t code;
        size_t n = span_utf8_next(span_sub(s, i, s.n), &code);
        if (!n)
            buf_adds(out, "\xef\xbf\xbd");
        else if (code == '\\' || code == '"')
            buf_addf(out, "\\%c", (int)code);
        else if (code == '\n')
            buf_adds(out, "\\n");
        else
            buf_add(out, span_sub(s, i, n));
        i += n ? n : 1;
    }
    buf_addc(out, '"');
}

/* The labels of a series without the closing brace; how many there are. */
static unsigned labels(struct buf *out, const struct metrics_row *r, const char *process, unsigned a, unsigned b) {
    const unsigned at[2] = {a, b};
    unsigned n = 0;
    if (process)
        add_label(out, n++ == 0, SPAN_LIT("process"), process);
    for (int i = 0; i < 2; i++)
        if (r->label[i][0])
            add_label(out, n++ == 0, span_str(r->label[i]), r->set[i]->word[at[i]]);
    return n;
}

static void plain(const struct metrics *m, const struct metrics_row *r, const char *process, unsigned pages, struct buf *out) {
    for (unsigned a = 0; a < r->set[0]->n; a++)
        for (unsigned b = 0; b < r->set[1]->n; b++) {
            int64_t v = metrics_slot(m, pages, r->at + a * r->set[1]->n + b, r->type);
            if (!v && r->sparse)
                continue;
            buf_adds(out, r->name);
            buf_adds(out, labels(out, r, process, a, b) ? "} " : " ");
            buf_addf(out, r->type == METRICS_COUNTER ? "%" PRIu64 "\n" : "%" PRId64 "\n", v);
        }
}

static void bucket(const struct metrics_row *r, const char *process, const char *bound, uint64_t n, struct buf *out) {
    buf_addf(out, "%s_bucket", r->name);
    add_label(out, labels(out, r, process, 0, 0) == 0, SPAN_LIT("le"), bound);
    buf_addf(out, "} %" PRIu64 "\n", n);
}

static void histogram(const struct metrics *m, const struct metrics_row *r, const char *process, unsigned pages, struct buf *out) {
    struct metrics_bounds b = metrics_bounds(r->type);
    double unit = r->type == METRICS_TIME ? 1e-6 : 1;
    uint64_t n = 0;
    char bound[32];
    for (unsigned i = 0; i < b.n; i++) {
        n += (uint64_t)metrics_slot(m, pages, r->at + i, r->type);
        snprintf(bound, sizeof bound, "%g", (double)b.bound[i] * unit);
        bucket(r, process, bound, n, out);
    }
    n += (uint64_t)metrics_slot(m, pages, r->at + b.n, r->type);
    bucket(r, process, "+Inf", n, out);
    buf_addf(out, "%s_sum", r->name);
    buf_adds(out, labels(out, r, process, 0, 0) ? "} " : " ");
    buf_addf(out, "%.6f\n%s_count", (double)metrics_slot(m, pages, r->at + b.n + 1, r->type) * unit, r->name);
    buf_adds(out, labels(out, r, process, 0, 0) ? "} " : " ");
    buf_addf(out, "%" PRIu64 "\n", n);
}

void metrics_expose(const struct metrics *m, struct buf *out) {
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const struct metrics_row *r = &METRICS_TABLE[i];
        void (*show)(const struct metrics *, const struct metrics_row *, const char *, unsigned, struct buf *) =
            r->type == METRICS_TIME || r->type == METRICS_SIZE ? histogram : plain;
        if (r->type == METRICS_FOUND || r->by == METRICS_BY_HIDDEN)
            continue;
        metrics_family(out, i);
        if (r->by == METRICS_BY_ALL)
            show(m, r, NULL, EVERYBODY, out);
        for (unsigned p = 0; r->by == METRICS_BY_PROCESS && p < PROCESSES_N; p++)
            show(m, r, PROCESSES[p].name, PROCESSES[p].pages, out);
    }
}

/* The next word of "label …"; false behind the last. */
static bool next_word(const char **rest, struct span *word) {
    *rest += strspn(*rest, " ");
    *word = span_of(*rest, strcspn(*rest, " "));
    *rest += word->n;
    return word->n > 0;
}

void metrics_sample(struct buf *out, enum metric g, const char *const *v, double value) {
    const char *rest = METRICS_TABLE[g].label[0];
    struct span label;
    unsigned n = 0;
    buf_adds(out, METRICS_TABLE[g].name);
    for (; next_word(&rest, &label); n++)
        add_label(out, n == 0, label, v[n]);
    buf_addf(out, "%s %.17g\n", n ? "}" : "", value);
}

/* --- documentation ---------------------------------------------------------------------------------------------------------------------------- */

static void add_names(struct buf *out, const struct metrics_row *r) {
    const char *rest = r->label[0];
    struct span word;
    bool any = r->by == METRICS_BY_PROCESS;
    if (any)
        buf_adds(out, "`process`");
    while (next_word(&rest, &word)) {
        buf_addf(out, "%s`%.*s`", any ? ", " : "", SPAN_FMT(word));
        any = true;
    }
    if (r->label[1][0])
        buf_addf(out, ", `%s`", r->label[1]);
}

void metrics_document(struct buf *out) {
    buf_adds(out, "| name | type | labels | what it is |\n| --- | --- | --- | --- |\n");
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const struct metrics_row *r = &METRICS_TABLE[i];
        if (r->by == METRICS_BY_HIDDEN)
            continue;
        buf_addf(out, "| `%s` | %s | ", r->name, type_word(r->type));
        add_names(out, r);
        buf_addf(out, " | %s |\n", r->help);
    }
}
