/* control: the process: what is opened, in which order, and what it is told; see control.h. */
#include "admin/control.h"

#include <fcntl.h>
#include <openssl/ssl.h>
#include <signal.h>

#include "admin/crl.h"
#include "admin/internal.h"
#include "admin/hook_run.h"
#include "admin/ocsp.h"
#include "admin/server_cas.h"
#include "admin/webhook_run.h"
#include "base/file.h"
#include "base/log.h"
#include "registry/audit_seal.h"
#include "registry/trust.h"

#define READERS 2 /* a walk over all devices takes one */
#define QUEUE_MAX 1000
#define VAULT_OUTSTANDING 64
#define DRAIN_MS 10000

static void serve(void *arg);

/* --- the vault ---------------------------------------------------------------------------------------------------------------------- */

static void after_greeting(void *arg) {
    struct control *c = arg;
    if (c->greeted)
        certificates_look(c->certificates);
}

static void attach(struct control *c, int fd) {
    struct err err = ERR_INIT;
    if (vault_client_attach(c->vault, fd, &err))
        log_err(LOG_ERROR, "vault_attach_failed", &err, NULL);
    else
        vault_greet(c, after_greeting, c);
}

static void vault_lost(void *arg) {
    struct control *c = arg;
    c->greeted = false;
    log_event(LOG_WARN, "vault_lost", NULL);
}

/* --- serving ---------------------------------------------------------------------------------------------------------------------------- */

static int load_identity(struct control *c, struct err *err) {
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(64 * 1024);
    int rc = certificate_default(c, &pem, err);
    const struct tls_identity id = {"", buf_span(&pem), buf_span(&pem)};
    return rc ? rc : tls_server_set(c->tls, &id, 1, err);
}

void control_certificates_changed(struct control *c) {
    struct err err = ERR_INIT;
    /* Before it is ready serve() is about to load them; but a gateway may be there already, where this process was started again. */
    if (c->ready && load_identity(c, &err))
        log_err(LOG_ERROR, "certificates_not_loaded", &err, NULL);
    if (parent_send(c->o->parent_fd, PARENT_EPOCH, 0, -1, NULL, &err))
        log_err(LOG_ERROR, "gateway_not_told", &err, NULL);
}

/* Once the first look at the certificates is done: there is one for the listener. */
static void serve(void *arg) {
    struct control *c = arg;
    struct err err = ERR_INIT;
    struct http_server_options o = {.loop = c->loop, .listen_fd = c->o->listen_fd, .tls = c->tls, .router = c->router, .limits = HTTP_LIMITS_DEFAULT,
                                          .peer_ops = &AUTHORISE_OPS, .arg = c, .server_name = "muster", .challenge = "Bearer", .answered = admin_answered};
    o.limits.names_in_path = true; /* device IDs may have slashes */
    if (load_identity(c, &err) || !(c->server = http_server_new(&o, &err))) {
        log_err(LOG_ERROR, "admin_listener_failed", &err, NULL);
        loop_stop(c->loop);
        return;
    }
    c->ready = true;
    if (parent_send(c->o->parent_fd, PARENT_READY, 0, -1, c->o->admin_url, &err)) {
        log_err(LOG_ERROR, "supervisor_unreachable", &err, NULL);
        loop_stop(c->loop);
    }
}

static void drained(void *arg) { loop_stop(((struct control *)arg)->loop); }

static void told(void *arg, struct parent_message *m) {
    struct control *c = arg;
    struct err err = ERR_INIT;
    switch (m->type) {
    case PARENT_CHANNEL:
        attach(c, TAKE_FD(m->fd));
        return;
    case PARENT_RELOAD:
        certificates_look(c->certificates);
        if (c->ready && load_identity(c, &err))
            log_err(LOG_ERROR, "certificates_not_loaded", &err, NULL);
        return;
    case PARENT_DRAIN:
        if (!c->server)
            loop_stop(c->loop);
        else if (!c->draining)
            http_server_drain(c->server, DRAIN_MS, drained, c);
        c->draining = true;
        return;
    case PARENT_OCSP:
        ocsp_desk_attach(c->ocsp, TAKE_FD(m->fd));
        return;
    case PARENT_COURIER:
        webhooks_attach(c->webhooks, TAKE_FD(m->fd));
        return;
    case PARENT_READY:
    case PARENT_MASTER:
    case PARENT_EPOCH:
    case PARENT_SERVER_CAS: /* the vault says so itself */
        return;
    }
}

/* --- opening ------------------------------------------------------------------------------------------------------------------------------ */

static int open_stores(struct control *c, struct err *err) {
    CLEANUP(buf_fini) struct buf registry = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf control = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf ca = BUF_INIT(4096);
    buf_addf(&registry, "%s/registry.db", c->o->dir);
    buf_addf(&control, "%s/control.db", c->o->dir);
    buf_addf(&ca, "%s/server-ca.pem", c->o->dir);
    const struct registry_open r = {.path = buf_str(&registry), .readers = READERS, .queue_max = QUEUE_MAX};
    const struct registry_open k = {.path = buf_str(&control), .readers = READERS, .queue_max = QUEUE_MAX};
    int rc = registry_open(&r, &c->registry, err);
    if (!rc)
        rc = control_open(&k, &c->store, err);
    if (!rc)
        rc = store_write_now(c->store, audit_seal_load_run, NULL, err);
    c->server_ca = BUF_INIT(64 * 1024);
    return rc ? rc : file_read(AT_FDCWD, buf_str(&ca), &c->server_ca, err);
}

static int open_all(struct control *c, struct err *err) {
    const struct control_options *o = c->o;
    const struct tls_options tls = {.sessions = 64, .session_seconds = 3600, .cleanse = true};
    c->loop = loop_new(err);
    if (!c->loop)
        return err->code;
    OPENSSL_init_ssl(0, NULL); /* reads its configuration while it still can */
    const int64_t boot = clock_watch_boot();
    int rc = settings_hosts(o->settings, &c->hosts, &c->n_hosts, err);
    if (rc || (o->confine && (rc = o->confine(o->confine_arg, err))) || (rc = open_stores(c, err)) || (rc = routes_new(c, err)))
        return rc;
    c->tls = tls_server_new(&tls, err);
    c->vault = c->tls ? vault_client_new(c->loop, VAULT_OUTSTANDING, err) : NULL;
    c->server_cas = c->vault ? calloc(1, sizeof *c->server_cas) : NULL;
    if (c->server_cas)
        server_cas_init(c->server_cas);
    c->certificates = c->server_cas ? certificates_new(c, serve, c, err) : NULL;
    c->anchoring = c->certificates ? anchoring_new(c, err) : NULL;
    c->pulse = c->anchoring ? pulse_new(c, err) : NULL;
    c->recent = c->pulse ? recent_new(c, err) : NULL;
    c->forecasting = c->recent ? forecasting_new(c, err) : NULL;
    c->crls = c->forecasting ? crls_new(c, err) : NULL;
    c->clock = c->crls ? clock_watch_new(c, boot, err) : NULL;
    c->webhooks = c->clock ? webhooks_new(c, err) : NULL;
    c->hooks = c->webhooks ? hooks_new(c, err) : NULL;
    c->ocsp = c->hooks ? ocsp_desk_new(c, err) : NULL;
    c->parent = c->ocsp ? parent_new(c->loop, o->parent_fd, told, c) : NULL;
    if (!c->parent)
        return err->code ? err->code : err_set(err, MUSTER_ENOMEM, NULL);
    clock_compare(c);
    vault_client_on_lost(c->vault, vault_lost, c);
    export_listen(c);
    if (o->vault_fd >= 0)
        attach(c, o->vault_fd);
    return 0;
}

static void close_all(struct control *c) {
    http_server_free(c->server);
    webhooks_stop(c->webhooks);
    c->ready = false;
    if (c->registry)
        store_stop(c->registry);
    if (c->store)
        store_stop(c->store);
    vault_client_end(c->vault);
    if (c->loop)
        loop_flush(c->loop); /* answers from the stores, to nobody any more */
    parent_free(c->parent);
    vault_client_free(c->vault);
    if (c->registry)
        store_close(c->registry);
    if (c->store)
        store_close(c->store);
    ocsp_desk_free(c->ocsp);
    webhooks_free(c->webhooks);
    hooks_free(c->hooks);
    anchoring_free(c->anchoring);
    pulse_free(c->pulse);
    recent_free(c->recent);
    forecasting_free(c->forecasting);
    crls_free(c->crls);
    clock_watch_free(c->clock);
    certificates_free(c->certificates);
    http_router_free(c->router);
    free(c->routes);
    tls_server_free(c->tls);
    settings_hosts_free(c->hosts);
    if (c->server_cas)
        server_cas_fini(c->server_cas);
    free(c->server_cas);
    buf_fini(&c->server_ca);
    buf_fini(&c->openapi);
    loop_free(c->loop);
}

int control_process_run(const struct control_options *o, struct err *err) {
    trust_share(o->trust);
    struct control c = {.o = o};
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    int rc = open_all(&c, err);
    if (!rc)
        loop_run(c.loop);
    close_all(&c);
    return rc;
}
