/* vault/serve_server: the requests that show, rotate and retire server CAs; see serve.h. */
#include "vault/serve.h"

static int view_of(struct vault *v, bool changed, struct vault_server_view *view, struct err *err) {
    const struct core *c = v->core;
    *view = (struct vault_server_view){.version = records_version(v->records), .changed = changed, .backend = (enum vault_backend)core_backend(c)};
    int rc = serve_der(v, 0, c->server_ca->cert, &view->current, err);
    if (rc || (rc = former_roots_der(c->former, c->n_former, &v->der[3], &v->der[4], err)))
        return rc;
    view->former = buf_span(&v->der[3]);
    view->crosses = buf_span(&v->der[4]);
    return 0;
}

int serve_server_ca(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) { return view_of(v, false, &a->server, err); }

static int backend_of(const struct vault *v, enum vault_backend given, enum key_backend *out, struct err *err) {
    *out = given == VAULT_BACKEND_AS_IS ? core_backend(v->core) : given == VAULT_BACKEND_SEALED ? KEY_BACKEND_SEALED : KEY_BACKEND_PKCS11;
    if (given > VAULT_BACKEND_PKCS11)
        return err_set(err, MUSTER_EINVALID, "There is no such backend of keys.");
    if (*out == KEY_BACKEND_PKCS11 && (!v->park || park_token(v->park, clock_mono_ms()) == VAULT_TOKEN_NONE))
        return err_set(err, MUSTER_EINVALID, "No security module is configured (pkcs11_module in musterd.conf).");
    return 0;
}

/* What was changed is a copy: what is served is what is on the disk. */
static int take(struct vault *v, struct core **changed, struct err *err) {
    int rc = core_store(v->records, *changed, err);
    if (rc)
        return rc;
    core_free(v->core);
    v->core = TAKE(*changed);
    v->server_cas_told = false;
    return 0;
}

int serve_server_rotate(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    CLEANUP(core_free) struct core *next = NULL;
    enum key_backend backend;
    if (!hash_eq(&v->core->server_ca->cert->key.spki, &rq->server_rotate.from))
        return view_of(v, false, &a->server, err);
    int rc = backend_of(v, rq->server_rotate.backend, &backend, err);
    if (rc || (rc = core_load(v->records, &next, err)) || (rc = core_rotate(next, backend, now, err)) || (rc = take(v, &next, err)))
        return rc;
    return view_of(v, true, &a->server, err);
}

int serve_server_retire(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) {
    CLEANUP(core_free) struct core *next = NULL;
    bool gone;
    int rc = core_load(v->records, &next, err);
    if (rc || (rc = core_retire(next, &rq->spki, now, &gone, err)) || (gone && (rc = take(v, &next, err))))
        return rc;
    return view_of(v, gone, &a->server, err);
}
