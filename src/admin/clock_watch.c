/* clock_watch: whether the wall clock was set while the server runs, or since it last ran on this start of the machine.  By less than CLOCK_SET_LEAST clocks are kept
 * right, by turning faster or slower too; by more one of the two times is wrong, and everything that was issued or signed by it: an operator has to know (registry/clock_set.h).
 * A look is two readings of clocks; the registry is asked where they differ, and once at the start. */
#include "admin/internal.h"
#include "base/file.h"
#include "registry/clock_set.h"

#include <fcntl.h>

#define EVERY_MS 1000  /* a clock that is set, and set back, has signed what came in between */
#define AGAIN_MS 10000 /* where that could not be written down */
#define LEFT_MS 8000   /* who sets a clock may set it once more: no certificate is made for what lasts for seconds */

struct clock_watch {
    struct clock_look look; /* first: what the operation is given */
    struct control *c;
    struct loop_timer *timer, *left;
    bool known, asking;
    int64_t boot, ahead_ms;
};

/* Of a machine that does not tell each start of the server is one. */
int64_t clock_watch_boot(void) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(256);
    struct uuid id;
    int64_t boot;
    if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, NULL) || uuid_parse(span_trim(buf_span(&text)), &id))
        id = uuid_new();
    memcpy(&boot, id.b + sizeof id.b - sizeof boot, sizeof boot);
    return boot;
}

/* A certificate that was made under a clock that has gone back is not valid yet, and one may have ended at once under a clock that has gone ahead: neither waits for an hour. */
static void left(void *arg) {
    struct clock_watch *w = arg;
    if (w->c->ready)
        certificates_look(w->c->certificates);
}

static void looked(void *arg, int rc, const struct err *err) {
    struct clock_watch *w = arg;
    w->asking = false;
    if (rc) {
        log_err(LOG_WARN, "clock_not_looked_at", err, NULL);
        loop_timer_set(w->timer, AGAIN_MS);
        return;
    }
    w->known = true;
    w->ahead_ms = w->look.ahead_ms;
    if (!w->look.by)
        return;
    char before[CLOCK_RFC3339_LEN + 1];
    clock_rfc3339(w->look.now - w->look.by, before);
    log_event(LOG_WARN, "clock_was_set", "seconds", log_num(w->look.by), "before", before, "meaning", "one of the two times is wrong, and what was issued or signed by it; see doc/time.md", NULL);
    if (w->c->ready) { /* otherwise the first look is still to come, or there is none any more */
        forecast_soon(w->c);
        loop_timer_set(w->left, LEFT_MS);
    }
}

static void look(void *arg) {
    struct clock_watch *w = arg;
    int64_t now_ms = clock_now_ms(), ahead_ms = now_ms - clock_boot_ms();
    loop_timer_set(w->timer, EVERY_MS);
    if (w->asking || (w->known && !clock_look_differs(ahead_ms, w->ahead_ms)))
        return;
    w->look = (struct clock_look){.boot = w->boot, .now = now_ms / 1000, .ahead_ms = ahead_ms};
    w->asking = !store_write(w->c->registry, w->c->loop, clock_look_run, looked, &w->look, NULL);
}

struct clock_watch *clock_watch_new(struct control *c, int64_t boot, struct err *err) {
    struct clock_watch *w = calloc(1, sizeof *w);
    if (w) {
        w->timer = loop_timer_new(c->loop, look, w);
        w->left = loop_timer_new(c->loop, left, w);
    }
    if (!w || !w->timer || !w->left) {
        clock_watch_free(w);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    w->c = c;
    w->boot = boot;
    loop_timer_set(w->timer, 0);
    return w;
}

void clock_watch_free(struct clock_watch *w) {
    if (!w)
        return;
    loop_timer_free(w->timer);
    loop_timer_free(w->left);
    free(w);
}
