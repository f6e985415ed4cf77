/* patience: see patience.h.  A heap. */
#include "patience.h"

#include "bench.h"

struct waiting {
    int64_t due;
    size_t number;
};

static struct waiting *heap;
static size_t n, room, times, busiest, in_second;
static int64_t second;

static void swap(size_t a, size_t b) {
    struct waiting t = heap[a];
    heap[a] = heap[b];
    heap[b] = t;
}

void patience_put(size_t number, int64_t due) {
    if (n == room) {
        room = room ? 2 * room : 1024;
        heap = realloc(heap, room * sizeof *heap);
        BENCH_NEED(heap);
    }
    heap[n] = (struct waiting){due, number};
    for (size_t i = n++; i && heap[i].due < heap[(i - 1) / 2].due; i = (i - 1) / 2)
        swap(i, (i - 1) / 2);
    times++;
}

static void count(int64_t now) {
    int64_t s = now / 1000000000;
    in_second = s == second ? in_second + 1 : 1;
    second = s;
    busiest = in_second > busiest ? in_second : busiest;
}

bool patience_take(int64_t now, size_t *number) {
    if (!n || heap[0].due > now)
        return false;
    *number = heap[0].number;
    heap[0] = heap[--n];
    for (size_t i = 0, least;; i = least) {
        least = 2 * i + 1 < n && heap[2 * i + 1].due < heap[i].due ? 2 * i + 1 : i;
        least = 2 * i + 2 < n && heap[2 * i + 2].due < heap[least].due ? 2 * i + 2 : least;
        if (least == i)
            break;
        swap(i, least);
    }
    count(now);
    return true;
}

size_t patience_times(void) { return times; }
size_t patience_busiest(void) { return busiest; }
