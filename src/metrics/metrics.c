/* metrics: counting and the pages; see metrics.h. */
#include "metrics/metrics.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCKS 48 /* of a page; threads beyond share the last one */

struct block {
    _Alignas(64) _Atomic int64_t slot[METRICS_SLOTS];
};
struct page {
    struct block block[BLOCKS];
    atomic_uint used; /* blocks from the first that have been counted in, whoever ran here: nobody need read the others, whose memory is not there */
};

static struct block unread; /* where nobody asked to count */
static struct page *own;
static atomic_uint threads;
static _Thread_local struct block *mine;
static _Thread_local struct page *mine_in; /* a fork takes the thread-local along; the page has changed then */

static void use(struct page *p, unsigned blocks) {
    unsigned used = atomic_load(&p->used);
    while (used < blocks && !atomic_compare_exchange_weak(&p->used, &used, blocks))
        ;
}

static struct block *block(void) {
    if (__builtin_expect(mine && mine_in == own, 1))
        return mine;
    unsigned at = own ? atomic_fetch_add(&threads, 1) : 0;
    at = at < BLOCKS ? at : BLOCKS - 1;
    mine_in = own;
    mine = own ? &own->block[at] : &unread;
    if (own)
        use(own, at + 1);
    return mine;
}

static void add(unsigned slot, int64_t n) { atomic_fetch_add_explicit(&block()->slot[slot], n, memory_order_relaxed); }

static unsigned place(const struct metrics_row *r, unsigned a, unsigned b) {
    return r->at + (a < r->set[0]->n ? a : 0) * r->set[1]->n + (b < r->set[1]->n ? b : 0);
}

void metrics_add(enum metric m, unsigned a, unsigned b, int64_t n) { add(place(&METRICS_TABLE[m], a, b), n); }

/* In the first block: there is one value a process, whichever thread knows it. */
void metrics_set(enum metric m, unsigned a, int64_t value) {
    struct block *first = own ? &own->block[0] : &unread;
    atomic_store_explicit(&first->slot[place(&METRICS_TABLE[m], a, 0)], value, memory_order_relaxed);
}

void metrics_observe(enum metric m, int64_t value) {
    const struct metrics_row *r = &METRICS_TABLE[m];
    struct metrics_bounds b = metrics_bounds(r->type);
    unsigned i = 0;
    while (i < b.n && value > b.bound[i])
        i++;
    add(r->at + i, 1);
    add(r->at + b.n + 1, value);
}

unsigned metrics_code(int code) { return (unsigned)(code - err_at(0)); }
unsigned metrics_status(int status) { return (unsigned)(status / 100 - 1); }

/* --- pages ------------------------------------------------------------------------------------------------------------------------------ */

int metrics_open(struct metrics *m, struct err *err) {
    for (int i = 0; i < METRICS_PAGES; i++) {
        void *p = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            m->page[i] = NULL;
            return err_set(err, MUSTER_ENOMEM, "There is no memory for the counters: %s.", strerror(errno));
        }
        m->page[i] = p;
    }
    return 0;
}

void metrics_close(struct metrics *m) {
    own = NULL;
    for (int i = 0; i < METRICS_PAGES; i++) {
        if (m->page[i])
            munmap(m->page[i], sizeof(struct page));
        m->page[i] = NULL;
    }
}

void metrics_use(struct metrics *m, enum metrics_page page) {
    own = m->page[page];
    threads = 0;
}

int metrics_keep(struct metrics *m, enum metrics_page page, bool reads, struct err *err) {
    int rc = 0;
    for (int i = 0; i < METRICS_PAGES; i++) {
        if (i == (int)page || !m->page[i])
            continue;
        if (reads ? mprotect(m->page[i], sizeof(struct page), PROT_READ) : munmap(m->page[i], sizeof(struct page)))
            rc = err_set(err, MUSTER_ESANDBOX, "The counters of the other processes cannot be taken away: %s.", strerror(errno));
        else if (!reads)
            m->page[i] = NULL;
    }
    return rc;
}

/* Of another process's page, in which anything may stand.  The first has values that no thread counted. */
static unsigned blocks_of(const struct page *p) {
    unsigned used = atomic_load(&p->used);
    return used < 1 ? 1 : used < BLOCKS ? used : BLOCKS;
}

void metrics_ended(struct metrics *m, enum metrics_page page) {
    struct page *p = m->page[page];
    for (unsigned i = 0; p && i < METRIC_COUNT; i++) {
        const struct metrics_row *r = &METRICS_TABLE[i];
        for (unsigned s = r->at; (r->type == METRICS_GAUGE || r->type == METRICS_LEVEL) && s < r->at + r->slots; s++)
            for (unsigned b = 0; b < blocks_of(p); b++)
                atomic_store_explicit(&p->block[b].slot[s], 0, memory_order_relaxed);
    }
}

/* --- reading ------------------------------------------------------------------------------------------------------------------------------ */

/* Sums wrap: what a stranger wrote must not be able to overflow. */
int64_t metrics_slot(const struct metrics *m, unsigned pages, unsigned slot, enum metrics_type type) {
    uint64_t sum = 0;
    int64_t most = 0;
    for (int i = 0; i < METRICS_PAGES; i++) {
        const struct page *p = (pages >> i) & 1 ? m->page[i] : NULL;
        for (unsigned b = 0, n = p ? blocks_of(p) : 0; b < n; b++) {
            int64_t v = atomic_load_explicit(&p->block[b].slot[slot], memory_order_relaxed);
            sum += (uint64_t)v;
            most = v > most ? v : most;
        }
    }
    return type == METRICS_LEVEL ? most : (int64_t)sum;
}

static int64_t value(const struct metrics *m, unsigned pages, enum metric metric, unsigned a, unsigned b) {
    const struct metrics_row *r = &METRICS_TABLE[metric];
    uint64_t n = 0;
    if (r->type != METRICS_TIME && r->type != METRICS_SIZE)
        return metrics_slot(m, pages, place(r, a, b), r->type);
    for (unsigned i = 0; i <= metrics_bounds(r->type).n; i++)
        n += (uint64_t)metrics_slot(m, pages, r->at + i, r->type);
    return (int64_t)n;
}

int64_t metrics_value(const struct metrics *m, enum metric metric, unsigned a, unsigned b) { return value(m, (1U << METRICS_PAGES) - 1, metric, a, b); }

int64_t metrics_value_of(const struct metrics *m, enum metrics_page page, enum metric metric, unsigned a, unsigned b) {
    unsigned pages = page == METRICS_GATEWAY ? 1U << METRICS_GATEWAY | 1U << METRICS_GATEWAY_NEXT : 1U << page;
    return value(m, pages, metric, a, b);
}
