/* tally: see tally.h. */
#include "sim/tally.h"

#include <string.h>

/* --- times ------------------------------------------------------------------------------------------------------------------------ */

static size_t place_of(int64_t us) {
    uint64_t v = us > 0 ? (uint64_t)us : 0;
    if (v < HISTOGRAM_PARTS)
        return v;
    int power = 63 - __builtin_clzll(v) - 7; /* v >> power lies between PARTS and 2 PARTS */
    size_t at = (size_t)(power + 1) * HISTOGRAM_PARTS + (size_t)((v >> power) - HISTOGRAM_PARTS);
    const size_t last = sizeof ((struct histogram *)0)->count / sizeof *((struct histogram *)0)->count - 1;
    return at < last ? at : last;
}

/* The largest time that is counted there. */
static int64_t time_of(size_t place) {
    if (place < HISTOGRAM_PARTS)
        return (int64_t)place;
    size_t power = place / HISTOGRAM_PARTS - 1;
    return (int64_t)(((uint64_t)(place % HISTOGRAM_PARTS + HISTOGRAM_PARTS + 1) << power) - 1);
}

void histogram_add(struct histogram *h, int64_t us) {
    h->count[place_of(us)]++;
    h->n++;
    h->most = us > h->most ? us : h->most;
}

int64_t histogram_share(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)((double)h->n * share), so_far = 0;
    wanted += (double)wanted < (double)h->n * share;
    for (size_t i = 0; i < sizeof h->count / sizeof *h->count; i++) {
        so_far += h->count[i];
        if (so_far && so_far >= wanted)
            return time_of(i) < h->most ? time_of(i) : h->most;
    }
    return 0;
}

/* --- answers ------------------------------------------------------------------------------------------------------------------------ */

void tally_begun(struct tally *t, int64_t now) {
    int64_t second = now / 1000000;
    t->in_second = second == t->second ? t->in_second + 1 : 1;
    t->second = second;
    t->busiest = t->in_second > t->busiest ? t->in_second : t->busiest;
    t->requests++;
}

void tally_answer(struct tally *t, const char *what, int64_t us) {
    size_t i = 0;
    while (i < t->n_results && strcmp(t->result[i].what, what) != 0)
        i++;
    if (i == t->n_results) {
        i = i < TALLY_KINDS ? t->n_results++ : TALLY_KINDS - 1;
        snprintf(t->result[i].what, sizeof t->result[i].what, "%s", i < TALLY_KINDS - 1 ? what : "other");
    }
    t->result[i].n++;
    if (us >= 0)
        histogram_add(&t->latency, us);
}

void tally_not_sent(struct tally *t, const char *why) {
    t->not_sent++;
    snprintf(t->why_not, sizeof t->why_not, "%s", why);
}

/* --- the report ---------------------------------------------------------------------------------------------------------------------- */

static json_t *times_json(const struct histogram *h) {
    json_t *o = json_object();
    static const struct {
        const char *name;
        double share;
    } shares[] = {{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        json_set_int(o, shares[i].name, histogram_share(h, shares[i].share));
    json_set_int(o, "max_us", h->most);
    return o;
}

json_t *tally_json(const struct tally *t) {
    json_t *o = json_object(), *results = json_object();
    json_set_str(o, "name", t->name);
    json_set_int(o, "devices", (int64_t)t->devices);
    json_set_int(o, "duration_us", t->ended - t->began);
    json_set_int(o, "requests", (int64_t)t->requests);
    json_set_int(o, "busiest_second", (int64_t)t->busiest);
    json_set_int(o, "not_sent", (int64_t)t->not_sent);
    if (!t->bad) {
        json_set_int(o, "done", (int64_t)t->done);
        json_set_int(o, "failed", (int64_t)t->failed);
        json_set_int(o, "unfinished", (int64_t)t->unfinished);
        json_set_int(o, "postponed", (int64_t)t->postponed);
        json_set(o, "served", times_json(&t->served));
    }
    json_set(o, "latency", times_json(&t->latency));
    for (size_t i = 0; i < t->n_results; i++)
        json_set_int(results, t->result[i].what, (int64_t)t->result[i].n);
    json_set(o, "results", results);
    return o;
}

static void print_times(const char *name, const struct histogram *h, FILE *out) {
    if (h->n)
        fprintf(out, "            %s: %.1f ms median, %.1f ms for 99 %%, %.1f ms at most\n", name, (double)histogram_share(h, 0.5) / 1e3, (double)histogram_share(h, 0.99) / 1e3, (double)h->most / 1e3);
}

void tally_print(const struct tally *t, FILE *out) {
    double seconds = (double)(t->ended - t->began) / 1e6;
    fprintf(out, "%-11s %zu device%s, %.1f s", t->name, t->devices, t->devices == 1 ? "" : "s", seconds);
    if (!t->bad)
        fprintf(out, ": %llu done, %llu failed", (unsigned long long)t->done, (unsigned long long)t->failed);
    if (t->unfinished)
        fprintf(out, ", %llu unfinished", (unsigned long long)t->unfinished);
    fprintf(out, "\n            %llu requests", (unsigned long long)t->requests);
    if (t->requests)
        fprintf(out, ", %.0f a second, %llu in the busiest", seconds > 0 ? (double)t->requests / seconds : 0, (unsigned long long)t->busiest);
    if (t->postponed)
        fprintf(out, "; %llu postponed", (unsigned long long)t->postponed);
    fputc('\n', out);
    if (t->not_sent)
        fprintf(out, "            not sent: %llu times; %s\n", (unsigned long long)t->not_sent, t->why_not);
    print_times("latency", &t->latency, out);
    if (t->postponed)
        print_times("until served", &t->served, out);
    for (size_t i = 0; i < t->n_results; i++)
        fprintf(out, "            %10llu  %s\n", (unsigned long long)t->result[i].n, t->result[i].what);
}
