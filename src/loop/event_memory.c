/* event_memory: see event_memory.h.  Slots of one size in memory that costs nothing until it is used; what is larger, or comes when all are taken, is
 * malloc's. */
#include "loop/event_memory.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS (256 * 1024) /* 6 MiB at most: the descriptors of 60,000 connections on four loops */

union slot {
    union slot *next;
    uint8_t bytes[24];
};

static union slot slots[SLOTS];
static union slot *freed; /* under lock, as is `used` */
static size_t used;       /* slots from here on were never taken */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static bool is_slot(const void *p) { return (uintptr_t)p >= (uintptr_t)slots && (uintptr_t)p < (uintptr_t)(slots + SLOTS); }

static void *take_slot(void) {
    pthread_mutex_lock(&lock);
    union slot *s = freed;
    if (s)
        freed = s->next;
    else if (used < SLOTS)
        s = &slots[used++];
    pthread_mutex_unlock(&lock);
    return s;
}

static void give_slot(union slot *s) {
    pthread_mutex_lock(&lock);
    s->next = freed;
    freed = s;
    pthread_mutex_unlock(&lock);
}

static void *take(size_t n) {
    void *p = n <= sizeof(union slot) ? take_slot() : NULL;
    return p ? p : malloc(n);
}

static void give(void *p) {
    if (is_slot(p))
        give_slot(p);
    else
        free(p);
}

static void *resize(void *p, size_t n) {
    if (!is_slot(p))
        return realloc(p, n);
    if (n <= sizeof(union slot))
        return p;
    void *larger = malloc(n);
    if (larger) {
        memcpy(larger, p, sizeof(union slot));
        give_slot(p);
    }
    return larger;
}

static void use(void) { event_set_mem_functions(take, resize, give); }

void event_memory_init(void) { pthread_once(&once, use); }
