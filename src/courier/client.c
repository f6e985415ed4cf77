/* courier/client: see client.h. */
#include "courier/client.h"

#include "base/clock.h"
#include "base/log.h"
#include "loop/record.h"

#define ANSWER_MS 30000 /* the courier gives up an order after 10 s: this one hangs */
#define LOOK_MS 5000

struct courier_client {
    struct loop *loop;
    struct loop_watch *watch;
    struct loop_timer *timer;
    int fd; /* -1: none */
    uint32_t last_id;
    size_t n;
    struct {
        uint32_t id; /* 0: free */
        courier_fn fn;
        void *arg;
        int64_t by;
    } at[COURIER_OUTSTANDING];
    uint8_t in[COURIER_MESSAGE_MAX];
};

/* The channel first: whoever is told may send again. */
static void give_up(struct courier_client *c, const char *why) {
    loop_watch_free(TAKE(c->watch));
    fd_close(TAKE_FD(c->fd));
    if (why)
        log_event(LOG_WARN, "courier_lost", "why", why, NULL);
    for (size_t i = 0; i < COURIER_OUTSTANDING; i++)
        if (c->at[i].id) {
            c->at[i].id = 0;
            c->n--;
            c->at[i].fn(c->at[i].arg, NULL);
        }
}

static bool settle(struct courier_client *c, const struct courier_report *r) {
    for (size_t i = 0; i < COURIER_OUTSTANDING; i++)
        if (c->at[i].id == r->id) {
            c->at[i].id = 0;
            c->n--;
            c->at[i].fn(c->at[i].arg, r);
            return true;
        }
    return false;
}

static void readable(void *arg) {
    struct courier_client *c = arg;
    struct courier_report report;
    struct span message;
    while (c->fd >= 0) {
        int rc = record_receive(c->fd, c->in, sizeof c->in, &message);
        if (rc == RECORD_LATER)
            return;
        if (rc == RECORD_ENDED)
            give_up(c, c->n ? "it has ended" : NULL); /* with nothing under way it was replaced, or the supervisor says why */
        else if (rc < 0 || courier_report_read(message, &report) || !settle(c, &report))
            give_up(c, "it sent what is no report");
    }
}

static void look(void *arg) {
    struct courier_client *c = arg;
    int64_t now = clock_mono_ms();
    bool late = false;
    for (size_t i = 0; i < COURIER_OUTSTANDING; i++)
        late = late || (c->at[i].id && c->at[i].by < now);
    if (late)
        give_up(c, "it does not answer");
    loop_timer_set(c->timer, LOOK_MS);
}

struct courier_client *courier_client_new(struct loop *l, struct err *err) {
    struct courier_client *c = calloc(1, sizeof *c);
    if (c) {
        c->loop = l;
        c->fd = -1;
        c->timer = loop_timer_new(l, look, c);
    }
    if (!c || !c->timer) {
        free(c);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    loop_timer_set(c->timer, LOOK_MS);
    return c;
}

void courier_client_free(struct courier_client *c) {
    if (!c)
        return;
    give_up(c, NULL);
    loop_timer_free(c->timer);
    free(c);
}

int courier_client_attach(struct courier_client *c, int fd, struct err *err) {
    give_up(c, NULL);
    c->fd = fd;
    c->watch = loop_watch_new(c->loop, fd, readable, c);
    if (!c->watch) {
        fd_close(TAKE_FD(c->fd));
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    return 0;
}

bool courier_client_ready(const struct courier_client *c) { return c->fd >= 0 && c->n < COURIER_OUTSTANDING; }

int courier_client_send(struct courier_client *c, struct courier_order *order, courier_fn fn, void *arg, struct err *err) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(COURIER_MESSAGE_MAX);
    size_t free_at = 0;
    if (c->fd < 0)
        return err_retry(err, MUSTER_EUNAVAILABLE, 5, "The process that delivers webhooks is not there at the moment.");
    while (free_at < COURIER_OUTSTANDING && c->at[free_at].id)
        free_at++;
    if (free_at == COURIER_OUTSTANDING)
        return err_retry(err, MUSTER_EBUSY, 5, "Too many webhooks are being delivered at the moment.");
    order->id = ++c->last_id ? c->last_id : ++c->last_id;
    if (courier_order_write(order, &message))
        return err_set(err, MUSTER_EINTERNAL, "An order to the courier does not have its shape.");
    if (record_send(c->fd, buf_span(&message)))
        return err_retry(err, MUSTER_EBUSY, 5, "The process that delivers webhooks does not read at the moment.");
    c->at[free_at].id = order->id;
    c->at[free_at].fn = fn;
    c->at[free_at].arg = arg;
    c->at[free_at].by = clock_mono_ms() + ANSWER_MS;
    c->n++;
    return 0;
}
