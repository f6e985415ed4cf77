/* courier: see process.h. */
#include "courier/process.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <signal.h>

#include "base/log.h"
#include "base/network.h"
#include "courier/post.h"
#include "loop/parent.h"
#include "loop/record.h"

#define WAIT_MS 5000 /* for control to come back; then a new courier with a new channel */

struct courier {
    const struct courier_options *o;
    struct loop *loop;
    struct parent *parent;
    struct posts *posts;
    struct loop_watch *watch;
    struct loop_timer *timer;
    int fd; /* the channel; -1: none */
    uint8_t in[COURIER_MESSAGE_MAX];
};

static void detach(struct courier *c) {
    loop_watch_free(TAKE(c->watch));
    fd_close(TAKE_FD(c->fd));
    posts_drop(c->posts);
    loop_timer_set(c->timer, WAIT_MS);
}

static void reported(void *arg, const struct courier_report *report) {
    struct courier *c = arg;
    CLEANUP(buf_fini) struct buf message = BUF_INIT(1024);
    if (c->fd >= 0 && (courier_report_write(report, &message) || record_send(c->fd, buf_span(&message)))) {
        log_event(LOG_WARN, "report_not_sent", NULL);
        loop_stop(c->loop); /* control would wait for it; with a new courier it asks again */
    }
}

static void readable(void *arg) {
    struct courier *c = arg;
    struct courier_order order;
    struct span message;
    while (c->fd >= 0) {
        int rc = record_receive(c->fd, c->in, sizeof c->in, &message);
        if (rc == RECORD_LATER)
            return;
        if (rc < 0 || courier_order_read(message, &order)) {
            if (rc != RECORD_ENDED)
                log_event(LOG_ERROR, "order_malformed", NULL);
            detach(c);
            return;
        }
        posts_send(c->posts, &order);
    }
}

static void alone(void *arg) { loop_stop(((struct courier *)arg)->loop); }

static void attach(struct courier *c, int fd) {
    detach(c);
    c->fd = fd;
    c->watch = loop_watch_new(c->loop, fd, readable, c);
    if (c->watch)
        loop_timer_clear(c->timer);
}

static void told(void *arg, struct parent_message *m) {
    struct courier *c = arg;
    if (m->type == PARENT_COURIER)
        attach(c, TAKE_FD(m->fd));
    else if (m->type == PARENT_DRAIN)
        loop_stop(c->loop);
}

/* The parent's messages are read once the loop runs, when the process is confined. */
static int open_all(struct courier *c, struct err *err) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return err_set(err, MUSTER_ENOMEM, "libcurl cannot be set up.");
    OPENSSL_init_ssl(0, NULL); /* reads its configuration while it still can */
    c->loop = loop_new(err);
    c->posts = c->loop ? posts_new(c->loop, c->o->networks, reported, c, err) : NULL;
    if (!c->posts)
        return err->code;
    c->timer = loop_timer_new(c->loop, alone, c);
    c->parent = parent_new(c->loop, c->o->parent_fd, told, c);
    if (!c->timer || !c->parent)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = c->o->confine ? c->o->confine(c->o->confine_arg, err) : 0;
    return rc ? rc : parent_send(c->o->parent_fd, PARENT_READY, 0, -1, NULL, err);
}

int courier_settings_check(const char *networks, struct err *err) {
    if (!networks_check(networks, err))
        return 0;
    err_prefix(err, "webhook_networks");
    return err ? (err->code = MUSTER_ECONFIG) : MUSTER_ECONFIG;
}

int courier_process_run(const struct courier_options *o, struct err *err) {
    struct courier *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, MUSTER_ENOMEM, NULL);
    c->o = o;
    c->fd = -1;
    int rc = open_all(c, err);
    if (!rc)
        loop_run(c->loop);
    parent_free(c->parent);
    loop_watch_free(c->watch);
    fd_close(c->fd);
    loop_timer_free(c->timer);
    posts_free(c->posts);
    loop_free(c->loop);
    free(c);
    return rc;
}
