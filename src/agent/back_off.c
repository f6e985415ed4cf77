/* back_off: see back_off.h. */
#include "agent/back_off.h"

#include "base/clock.h"

#define FIRST 600                  /* seconds, in the mean: a timer's next pass comes after them */
#define DOUBLED_MOST 16
#define FORGOTTEN (2 * CLOCK_DAY)  /* after a wait: what fails then is an outage of its own */

int64_t back_off_what(const char *url, const struct certs *anchors) {
    CLEANUP(buf_fini) struct buf all = BUF_INIT(8192);
    struct hash h;
    int64_t what = 0;
    size_t n = strlen(url);
    while (n && url[n - 1] == '/')
        n--;
    buf_add(&all, span_of(url, n));
    for (size_t i = 0; i < anchors->n; i++)
        buf_add(&all, hash_span(&anchors->cert[i]->fingerprint));
    hash_of(buf_span(&all), &h);
    for (int i = 0; i < 7; i++) /* as many as JSON's numbers are whole in everywhere */
        what = what << 7 | (h.b[i] & 0x7f);
    return what | 1;
}

static int64_t between(int64_t middle, const char *device_id, int64_t failures) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1024);
    struct hash h;
    buf_addf(&text, "%s %lld", device_id, (long long)failures);
    hash_of(buf_span(&text), &h);
    return middle / 2 + middle * ((int64_t)h.b[0] << 8 | h.b[1]) / 65536;
}

int64_t back_off_left(const struct back_off *b, int64_t what) {
    int64_t now = clock_now(), since;
    if (b->what != what || b->wait <= 0 || b->at <= 0 || now < b->at) /* a clock that was set back makes nobody wait for longer */
        return 0;
    since = now - b->at;
    int64_t wait = b->wait < 2 * CLOCK_DAY ? b->wait : 2 * CLOCK_DAY; /* a file may say anything */
    return since < wait ? wait - since : 0;
}

int64_t back_off_failed(struct back_off *b, int64_t what, const char *device_id, int64_t most, bool grows) {
    int64_t now = clock_now(), middle = FIRST;
    bool again = b->what == what && b->failures > 0 && b->at > 0 && b->wait >= 0 && now - b->at < FORGOTTEN + CLOCK_DAY;
    int64_t before = again ? (b->failures < DOUBLED_MOST ? b->failures : DOUBLED_MOST) : 0;
    int64_t failures = before + (grows || !before);
    for (int64_t i = 1; grows && i < failures && middle < most; i++)
        middle *= 2;
    middle = middle < most ? middle : most;
    *b = (struct back_off){what, failures, now, between(middle, device_id, failures)};
    return b->wait;
}
