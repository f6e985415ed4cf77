/* arena: see arena.h.  Blocks in a list, freed together. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 4096

struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) uint8_t bytes[];
};

struct arena {
    struct block *blocks;
    size_t total, max;
};

struct arena *arena_new(size_t max) {
    struct arena *a = calloc(1, sizeof *a);
    if (a)
        a->max = max;
    return a;
}

void arena_free(struct arena *a) {
    if (!a)
        return;
    for (struct block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

void *arena_alloc(struct arena *a, size_t n) {
    size_t align = alignof(max_align_t);
    if (n > a->max)
        return NULL;
    n = (n + align - 1) & ~(align - 1);
    if (n > a->max - a->total)
        return NULL;
    if (!a->blocks || a->blocks->size - a->blocks->used < n) {
        size_t size = n > BLOCK ? n : BLOCK;
        struct block *b = malloc(sizeof *b + size);
        if (!b)
            return NULL;
        *b = (struct block){.next = a->blocks, .size = size};
        a->blocks = b;
    }
    void *p = a->blocks->bytes + a->blocks->used;
    a->blocks->used += n;
    a->total += n;
    return memset(p, 0, n); /* not the whole block: most of it is never asked for */
}

char *arena_strdup(struct arena *a, struct span s) {
    char *p = arena_alloc(a, s.n + 1);
    if (p && s.n)
        memcpy(p, s.p, s.n);
    return p;
}

struct span arena_copy(struct arena *a, struct span s) {
    uint8_t *p = arena_alloc(a, s.n ? s.n : 1);
    if (p && s.n)
        memcpy(p, s.p, s.n);
    return span_of(p, p ? s.n : 0);
}

char *arena_printf(struct arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    char *p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (p)
        vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}
