/* worker: one event loop of the gateway, its listener, and its channel to the vault; see internal.h. */
#include <errno.h>
#include <fcntl.h>

#include "base/log.h"
#include "gateway/auth_cache.h"
#include "gateway/crl.h"
#include "gateway/internal.h"
#include "gateway/ocsp_ask.h"
#include "gateway/proxy.h"
#include "registry/model.h"

#define VAULT_OUTSTANDING 1024
#define DRAIN_MS 20000

static void *run(void *arg) {
    struct worker *w = arg;
    pthread_setname_np(pthread_self(), "loop");
    loop_run(w->loop);
    return NULL;
}

static bool is_balancer(const struct sockaddr *from, void *arg) {
    const struct worker *w = arg;
    char address[HTTP_ADDRESS_MAX];
    http_address_text(from, address);
    return sources_match(w->gateway->o->settings->proxy_from, address);
}

static bool turns_away(const struct sockaddr *from, void *arg) {
    const struct worker *w = arg;
    char address[HTTP_ADDRESS_MAX];
    http_address_text(from, address);
    return limits_turn_away(w->gateway->limits, address);
}

static const struct http_route PROXIED = {.method = "*", .path = "/", .handler = proxy_handle, .stream = true};

static int open_server(struct worker *w, int listen_fd, struct err *err) {
    struct gateway *g = w->gateway;
    const struct settings *s = g->o->settings;
    struct http_server_options o = {.loop = w->loop, .listen_fd = listen_fd, .tls = g->tls, .router = g->router, .fallback = &PROXIED, .limits = HTTP_LIMITS_DEFAULT, .peer_ops = &JUDGE_OPS, .arg = w,
                                    .server_name = "muster", .turns_away = turns_away, .error_body = refusal_body, .answered = gateway_answered};
    o.limits.connections = (size_t)s->connections;
    if (s->proxy_from[0]) /* an empty list would match everybody */
        o.is_balancer = is_balancer;
    w->server = http_server_new(&o, err);
    return w->server ? 0 : err->code;
}

/* All loops accept on the same socket: one that finds nothing there goes on. */
static int open_auth(struct worker *w, struct err *err) {
    int shared = w->gateway->o->auth_fd;
    if (shared < 0)
        return 0;
    int fd = fcntl(shared, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? err_set(err, MUSTER_EUNAVAILABLE, "The socket of /auth cannot be shared: %s.", strerror(errno)) : auth_open(w, fd, err);
}

static int open_crl(struct worker *w, struct err *err) {
    int shared = w->gateway->o->crl_fd;
    if (shared < 0)
        return 0;
    w->ocsp = ocsp_asker_new(w->loop, err);
    if (!w->ocsp)
        return err->code;
    int fd = fcntl(shared, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? err_set(err, MUSTER_EUNAVAILABLE, "The socket of the revocation lists cannot be shared: %s.", strerror(errno)) : crl_open(w, fd, err);
}

int worker_start(struct gateway *g, size_t index, int listen_fd, int vault_fd, struct err *err) {
    struct worker *w = &g->workers[index];
    w->gateway = g;
    w->loop = loop_new(err);
    w->client = w->loop ? http_client_new(w->loop, upstreams_have_names(g->behind), err) : NULL;
    w->issuer.keys = w->client ? key_maker_new(err) : NULL;
    w->vault = w->issuer.keys ? vault_client_new(w->loop, VAULT_OUTSTANDING, err) : NULL;
    if (!w->vault) {
        fd_close(listen_fd);
        fd_close(vault_fd);
        return err->code ? err->code : MUSTER_ENOMEM;
    }
    w->issuer = (struct issuer){.loop = w->loop, .store = g->store, .vault = w->vault, .keys = w->issuer.keys, .pool = g->pool, .reserved = verifier_reserved(g->verifier)};
    int rc = vault_fd >= 0 ? vault_client_attach(w->vault, vault_fd, err) : 0;
    if (rc) {
        fd_close(listen_fd);
        return rc;
    }
    if ((rc = refusals_start(w, err))) {
        fd_close(listen_fd);
        return rc;
    }
    if ((rc = open_server(w, listen_fd, err)) || (rc = open_auth(w, err)) || (rc = open_crl(w, err)))
        return rc;
    if (pthread_create(&w->thread, NULL, run, w))
        return err_set(err, MUSTER_EUNAVAILABLE, "A thread cannot be started.");
    w->started = true;
    return 0;
}

void worker_stop(struct worker *w) {
    if (w->started) {
        loop_stop(w->loop);
        pthread_join(w->thread, NULL);
    }
    w->started = false;
    http_server_free(TAKE(w->server));
    http_server_free(TAKE(w->auth));
    http_server_free(TAKE(w->crl));
    refusals_stop(w);
}

void worker_free(struct worker *w) {
    vault_client_end(w->vault);
    ocsp_asker_end(w->ocsp);
    if (w->loop)
        loop_flush(w->loop); /* answers from the store, to nobody any more */
    refusals_free(w);
    auth_cache_free(w->auth_cache);
    http_client_free(w->client);
    vault_client_free(w->vault);
    ocsp_asker_free(w->ocsp);
    key_maker_free(w->issuer.keys);
    loop_free(w->loop);
}

/* --- from the main loop ----------------------------------------------------------------------------------------------------------- */

struct new_channel {
    struct worker *worker;
    int fd;
};

static void post_channel(struct worker *w, loop_fn attach, int fd) {
    struct new_channel *n = malloc(sizeof *n);
    if (n)
        *n = (struct new_channel){w, fd};
    if (!n || loop_post(w->loop, attach, n)) {
        free(n);
        fd_close(fd);
    }
}

static void attach_ocsp(void *arg) {
    struct new_channel *n = arg;
    ocsp_asker_attach(n->worker->ocsp, n->fd);
    free(n);
}

void worker_attach_ocsp(struct worker *w, int fd) {
    if (w->ocsp)
        post_channel(w, attach_ocsp, fd);
    else
        fd_close(fd);
}

static void attach(void *arg) {
    struct new_channel *n = arg;
    struct err err = ERR_INIT;
    if (vault_client_attach(n->worker->vault, n->fd, &err))
        log_err(LOG_ERROR, "vault_attach_failed", &err, NULL);
    free(n);
}

void worker_attach_vault(struct worker *w, int fd) { post_channel(w, attach, fd); }

static void epoch_changed(void *arg) { judge_again(arg); }

void worker_epoch_changed(struct worker *w) {
    if (loop_post(w->loop, epoch_changed, w))
        log_event(LOG_ERROR, "out_of_memory", NULL);
}

static void all_drained(void *arg) {
    struct gateway *g = arg;
    if (--g->n_running == 0)
        loop_stop(g->loop);
}

static void drained(void *arg) {
    struct worker *w = arg;
    if (--w->n_serving)
        return;
    if (loop_post(w->gateway->loop, all_drained, w->gateway))
        loop_stop(w->gateway->loop);
}

static void drain(void *arg) {
    struct worker *w = arg;
    struct http_server *const servers[] = {w->server, w->auth, w->crl};
    const size_t n = sizeof servers / sizeof *servers;
    w->n_serving = 0;
    for (size_t i = 0; i < n; i++)
        w->n_serving += servers[i] != NULL;
    for (size_t i = 0; i < n; i++)
        if (servers[i])
            http_server_drain(servers[i], DRAIN_MS, drained, w);
}

void worker_drain(struct worker *w) {
    if (loop_post(w->loop, drain, w))
        loop_stop(w->gateway->loop);
}
