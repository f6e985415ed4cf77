/* gateway: the process: what is opened, in which order, and the main loop; see gateway.h. */
#include "gateway/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <signal.h>

#include "base/log.h"
#include "gateway/crl.h"
#include "gateway/est.h"
#include "gateway/internal.h"
#include "gateway/keep.h"
#include "gateway/ocsp.h"
#include "gateway/ocsp_cache.h"
#include "gateway/signed_time.h"
#include "metrics/metrics.h"
#include "registry/registry.h"
#include "registry/trust.h"

#define POLL_MS 100      /* how soon a change in the registry is seen */
#define READERS 2
#define QUEUE_MAX 20000
#define DEVICES_BODY_MAX 4096

/* --- the main loop ------------------------------------------------------------------------------------------------------------- */

static void reload(struct gateway *g) {
    struct err err = ERR_INIT;
    int rc = server_identity_load(g, &err);
    metrics_count(METRIC_CERTIFICATE_LOADS, rc ? RESULT_FAILED : RESULT_OK, 0);
    if (rc)
        log_err(LOG_ERROR, "certificates_not_loaded", &err, NULL);
    else
        log_event(LOG_INFO, "certificates_loaded", NULL);
}

static void registry_changed(void *arg) {
    struct gateway *g = arg;
    for (size_t i = 0; i < g->o->loops; i++)
        worker_epoch_changed(&g->workers[i]);
}

static void poll_registry(void *arg) {
    struct gateway *g = arg;
    verifier_poll(g->verifier, g->loop, registry_changed, g);
    loop_timer_set(g->poll, POLL_MS);
}

static void drain(struct gateway *g) {
    if (g->draining)
        return;
    g->draining = true;
    for (size_t i = 0; i < g->o->loops; i++)
        worker_drain(&g->workers[i]);
}

static void told(void *arg, struct parent_message *m) {
    struct gateway *g = arg;
    switch (m->type) {
    case PARENT_CHANNEL:
        if (m->index < g->o->loops)
            worker_attach_vault(&g->workers[m->index], TAKE_FD(m->fd));
        return;
    case PARENT_RELOAD:
    case PARENT_EPOCH: /* control has written a certificate */
        reload(g);
        return;
    case PARENT_OCSP:
        if (m->index < g->o->loops)
            worker_attach_ocsp(&g->workers[m->index], TAKE_FD(m->fd));
        return;
    case PARENT_SERVER_CAS:
        server_identity_told(g, span_str(m->text));
        return;
    case PARENT_DRAIN:
        drain(g);
        return;
    case PARENT_READY:
    case PARENT_MASTER:
    case PARENT_COURIER:
        return;
    }
}

/* --- opening -------------------------------------------------------------------------------------------------------------------- */

static int open_registry(struct gateway *g, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    buf_addf(&path, "%s/registry.db", g->o->dir);
    const struct registry_open o = {.path = buf_str(&path), .readers = READERS, .queue_max = QUEUE_MAX, .reruns = true};
    int rc = registry_open(&o, &g->store, err);
    if (rc)
        return rc;
    const struct verifier_options v = {.store = g->store, .hosts = (const char *const *)g->hosts, .n_hosts = g->n_hosts};
    return verifier_new(&v, &g->verifier, err);
}

int gateway_upstreams_new(const struct settings *s, struct upstreams **out, struct err *err) { return upstreams_new(s, out, err); }

/* Enrolment, the time, EST, and the rows of KEEPS.  What no row takes may be somebody's behind the gateway. */
static struct http_router *open_routes(struct gateway *g, struct err *err) {
    static const enum request_kind devices = REQUEST_DEVICES;
    const size_t own = 2, n = own + EST_ROUTES_N + KEEPS_N;
    g->routes = calloc(n, sizeof *g->routes);
    if (!g->routes) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    g->routes[0] = (struct http_route){.method = "POST", .path = "/devices", .body_max = DEVICES_BODY_MAX, .handler = devices_post, .sole = true, .data = &devices};
    g->routes[1] = SIGNED_TIME_ROUTE;
    memcpy(g->routes + own, EST_ROUTES, EST_ROUTES_N * sizeof *EST_ROUTES);
    for (size_t i = 0; i < KEEPS_N; i++)
        g->routes[own + EST_ROUTES_N + i] = (struct http_route){.method = KEEPS[i].method, .path = KEEPS[i].path, .body_max = KEEPS[i].body_max, .handler = keep_handle};
    return http_router_new(g->routes, n, err);
}

static int open_tls(struct gateway *g, struct err *err) {
    const struct settings *s = g->o->settings;
    const struct tls_options o = {.client_certificates = true, .sessions = (size_t)s->sessions, .session_seconds = (int)s->session_seconds};
    g->tls = tls_server_new(&o, err);
    g->router = g->tls ? open_routes(g, err) : NULL;
    g->auth_router = g->router ? http_router_new(NULL, 0, err) : NULL;
    return g->auth_router ? server_identity_load(g, err) : err->code;
}

static int open_crls(struct gateway *g, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    if (g->o->crl_fd < 0)
        return 0;
    buf_addf(&path, "%s/crl", g->o->dir);
    g->crls_dir = open(buf_str(&path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g->crls_dir < 0)
        return err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", buf_str(&path), strerror(errno));
    g->ocsp_cache = ocsp_cache_new(OCSP_KEPT_MAX);
    if (!g->ocsp_cache)
        return err_set(err, MUSTER_ENOMEM, NULL);
    g->crl_router = http_router_new(CRL_ROUTES, CRL_ROUTES_N, err);
    return g->crl_router ? 0 : err->code;
}

static int start_workers(struct gateway *g, struct err *err) {
    const struct gateway_options *o = g->o;
    g->workers = calloc(o->loops, sizeof *g->workers);
    if (!g->workers)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 0; i < o->loops; i++) {
        int rc = worker_start(g, i, o->listen_fds[i], o->vault_fds[i], err);
        if (rc)
            return rc;
        g->n_running++;
    }
    fd_close(o->auth_fd); /* each worker has one of its own */
    fd_close(o->crl_fd);
    return 0;
}

static int open_all(struct gateway *g, struct err *err) {
    const struct gateway_options *o = g->o;
    g->loop = loop_new(err);
    if (!g->loop)
        return err->code;
    int rc = settings_hosts(o->settings, &g->hosts, &g->n_hosts, err);
    if (rc || (rc = limits_new(o->settings, &g->limits, err)) || (rc = identity_headers_parse(o->settings->identity_headers, &g->headers, err)))
        return rc;
    /* libssl reads its configuration now, not once files are out of reach; and no thread exists before the confinement, which it would
     * otherwise escape. */
    OPENSSL_init_ssl(0, NULL);
    if ((o->confine && (rc = o->confine(o->confine_arg, err))) || (rc = open_registry(g, err)) || (rc = open_tls(g, err)) || (rc = open_crls(g, err)))
        return rc;
    g->pool = rsa_pool_new((size_t)o->settings->rsa_pool, err);
    g->parent = g->pool ? parent_new(g->loop, o->parent_fd, told, g) : NULL;
    g->poll = g->parent ? loop_timer_new(g->loop, poll_registry, g) : NULL;
    if (!g->poll)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if ((rc = start_workers(g, err)))
        return rc;
    return parent_send(o->parent_fd, PARENT_READY, 0, -1, o->url, err);
}

static void close_all(struct gateway *g) {
    for (size_t i = 0; g->workers && i < g->o->loops; i++)
        worker_stop(&g->workers[i]);
    if (g->store)
        store_stop(g->store);
    loop_timer_free(g->poll);
    if (g->loop)
        loop_flush(g->loop);
    for (size_t i = 0; g->workers && i < g->o->loops; i++)
        worker_free(&g->workers[i]);
    free(g->workers);
    parent_free(g->parent);
    if (g->store)
        store_close(g->store);
    verifier_free(g->verifier);
    rsa_pool_free(g->pool);
    limits_free(g->limits);
    http_router_free(g->router);
    free(g->routes);
    http_router_free(g->auth_router);
    http_router_free(g->crl_router);
    ocsp_cache_free(g->ocsp_cache);
    fd_close(g->crls_dir);
    tls_server_free(g->tls);
    anchors_unref(g->anchors);
    pthread_mutex_destroy(&g->anchors_lock);
    buf_fini(&g->anchors_pem);
    buf_wipe(&g->own_chain);
    buf_wipe(&g->own_key);
    settings_hosts_free(g->hosts);
    loop_free(g->loop);
}

/* SIGTERM comes to the supervisor's children too when a terminal or an operator sends it to all of them; they end when told to. */
int gateway_process_run(const struct gateway_options *o, struct err *err) {
    struct gateway g = {.o = o, .behind = o->behind, .crls_dir = -1};
    trust_share(o->trust);
    pthread_mutex_init(&g.anchors_lock, NULL);
    secret_random_bytes(g.refusal_salt, sizeof g.refusal_salt);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    int rc = open_all(&g, err);
    if (!rc) {
        loop_timer_set(g.poll, POLL_MS);
        loop_run(g.loop);
    }
    close_all(&g);
    return rc;
}
