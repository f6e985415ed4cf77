/* room: who goes where a server holds as many connections as it may; see conn.h.  Called by server.c for each one that is accepted then.
 *
 * Whoever keeps connections open without using them must never keep out those who use theirs, whatever phase he keeps them in. */
#include "http/conn.h"
#include "metrics/metrics.h"

#define SILENT_MS 1000 /* longer than a device needs for its handshake and its first head */
#define LOOK_AT 64     /* connections, for the slowest */
#define LOOK_ON 4096   /* where all of those have only just come */
#define SLOW 1024      /* bytes a second: whoever moves less makes room before one that was idle for a moment */

/* How many bytes a second a client moves that is waited for; INT64_MAX: it is not, or not for long. */
static int64_t pace(const struct http_conn *c, int64_t now) {
    int64_t age = now - c->began;
    if (age < SILENT_MS || c->silent || conn_waits(c))
        return INT64_MAX;
    size_t moved = c->state == CONN_BODY || c->state == CONN_LINGER ? c->drained : c->state == CONN_WRITE ? c->sent : 0;
    return (int64_t)moved * 1000 / age;
}

/* Of a few, and of more where none of those is slow: as many come in a second may stand in a row.  They go to the end of the list, so that others are
 * looked at next time.  *least: its pace. */
static struct http_conn *slowest(struct http_server *s, int64_t now, int64_t *least) {
    struct http_conn *found = NULL;
    *least = INT64_MAX;
    for (size_t i = 0; i < (found ? LOOK_AT : LOOK_ON) && i < s->n; i++) {
        struct http_conn *c = TAILQ_FIRST(&s->all);
        TAILQ_REMOVE(&s->all, c, all);
        TAILQ_INSERT_TAIL(&s->all, c, all);
        int64_t its = pace(c, now);
        if (its < *least) {
            *least = its;
            found = c;
        }
    }
    return found;
}

bool server_make_room(struct http_server *s) {
    if (s->n < s->o.limits.connections)
        return true;
    server_warn(s, "connections_exhausted");
    int64_t now = clock_mono_ms();
    struct http_conn *silent = TAILQ_FIRST(&s->silent), *idle = TAILQ_FIRST(&s->idle);
    const bool long_silent = silent && now - silent->since >= SILENT_MS, long_idle = idle && now - idle->began >= SILENT_MS;
    int64_t its = INT64_MAX;
    struct http_conn *slow = long_silent || long_idle ? NULL : slowest(s, now, &its);
    if (idle && !long_silent && its >= SLOW)
        conn_end(idle);
    else if (slow || silent) /* the silent one however young: who has something to say and is quick finds a place among those who have not */
        conn_close(slow ? slow : silent);
    else
        return false;
    metrics_count(METRIC_TURNED_AWAY, 0, 0);
    return true;
}
