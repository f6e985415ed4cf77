/* uuid: see uuid.h. */
#include "base/uuid.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/secret.h"

#define POOL_BYTES 512

static _Thread_local uint8_t pool[POOL_BYTES];
static _Thread_local size_t pool_left;
static _Thread_local unsigned pool_of;
static atomic_uint process = 1; /* another number in each child: what a pool held before a fork is two processes' */

static void forked(void) { atomic_fetch_add(&process, 1); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

/* Every request has a UUID: the kernel is asked for many at once. */
static void take_random(uint8_t out[16]) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    if (pool_of != atomic_load(&process) || pool_left < 16) {
        secret_random_bytes(pool, sizeof pool);
        pool_left = sizeof pool;
        pool_of = atomic_load(&process);
    }
    pool_left -= 16;
    memcpy(out, pool + pool_left, 16);
}

/* RFC 9562, 6.2, method 1: the 12 bits behind the time count within a millisecond, so that order holds within a process. */
struct uuid uuid_new(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t last;
    static unsigned count;
    struct uuid u;
    take_random(u.b);
    pthread_mutex_lock(&lock);
    int64_t now = clock_now_ms();
    if (now > last) {
        last = now;
        count = (u.b[6] << 8 | u.b[7]) & 0x7ff; /* begins in the lower half, so that there is room to count */
    } else if (++count > 0xfff) {
        last++;
        count = 0;
    }
    int64_t ms = last;
    unsigned n = count;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 6; i++)
        u.b[i] = (uint8_t)(ms >> (8 * (5 - i)));
    u.b[6] = (uint8_t)(0x70 | n >> 8);
    u.b[7] = (uint8_t)n;
    u.b[8] = (uint8_t)(0x80 | (u.b[8] & 0x3f));
    return u;
}

void uuid_text(const struct uuid *u, char out[UUID_TEXT_LEN + 1]) {
    char hex[33];
    hex_encode(uuid_span(u), hex);
    for (size_t i = 0, n = 0; i < UUID_TEXT_LEN; i++)
        out[i] = i == 8 || i == 13 || i == 18 || i == 23 ? '-' : hex[n++];
    out[UUID_TEXT_LEN] = '\0';
}

int uuid_parse(struct span text, struct uuid *out) {
    uint8_t hex[32];
    size_t n = 0;
    if (text.n != UUID_TEXT_LEN)
        return MUSTER_EINVALID;
    for (size_t i = 0; i < text.n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash != (text.p[i] == '-'))
            return MUSTER_EINVALID;
        if (!dash)
            hex[n++] = text.p[i];
    }
    return hex_decode(span_of(hex, sizeof hex), out->b, sizeof out->b);
}

bool uuid_is_nil(const struct uuid *u) {
    for (size_t i = 0; i < sizeof u->b; i++)
        if (u->b[i])
            return false;
    return true;
}
