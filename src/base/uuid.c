/* uuid: see uuid.h. */
#include "base/uuid.h"

#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/secret.h"

/* RFC 9562, 6.2, method 1: the 12 bits behind the time count within a millisecond, so that order holds within a process. */
struct uuid uuid_new(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int64_t last;
    static unsigned count;
    struct uuid u;
    secret_random_bytes(u.b, sizeof u.b);
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
    snprintf(out, UUID_TEXT_LEN + 1, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
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
