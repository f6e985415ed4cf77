/* vault/serve_account: the requests that make, change, show and end an account's CAs; see serve.h. */
#include "vault/policy.h"
#include "vault/serve.h"

int serve_shared_account(struct vault *v, struct span name, struct account **out, struct err *err) {
    int rc = account_get(v->accounts, name, out, err);
    if (rc)
        return rc;
    if (!((*out)->method & VAULT_SHARED) || !(*out)->fleet_root)
        return err_set(err, MUSTER_EMETHODOFF, "The account %s does not use shared credentials.", (*out)->name);
    return 0;
}

static int view_of(struct vault *v, const struct account *a, bool changed, struct vault_account_view *view, struct err *err) {
    *view = (struct vault_account_view){
        .version = records_version(v->records), .changed = changed, .kind = a->kind, .method = a->method, .backend = (enum vault_backend)a->backend, .policy = a->policy};
    if (!a->fleet_root)
        return 0;
    int rc = serve_der(v, 0, a->fleet_root->cert, &view->fleet_root, err);
    if (rc || (rc = serve_der(v, 1, a->issuing_ca->cert, &view->issuing_ca, err)))
        return rc;
    if ((rc = serve_der(v, 2, a->provisioning_ca->cert, &view->provisioning_ca, err)))
        return rc;
    if ((rc = former_roots_der(a->former, a->n_former, &v->der[3], &v->der[4], err)))
        return rc;
    buf_clear(&v->der[5]);
    for (size_t i = 0; i < a->n_former_provisioning; i++)
        if ((rc = cert_der(a->former_provisioning[i], &v->der[5])))
            return err_set(err, rc, NULL);
    view->former_provisioning = buf_span(&v->der[5]);
    view->former = buf_span(&v->der[3]);
    view->crosses = buf_span(&v->der[4]);
    return 0;
}

/* What an account is to be. */
struct wanted {
    enum vault_kind kind;
    enum vault_method method;
    enum key_backend backend;
    struct vault_policy policy;
};

static int wanted_backend(const struct vault *v, const struct account *a, enum vault_backend given, enum key_backend *out, struct err *err) {
    *out = given == VAULT_BACKEND_AS_IS ? a->backend : given == VAULT_BACKEND_SEALED ? KEY_BACKEND_SEALED : KEY_BACKEND_PKCS11;
    if (given > VAULT_BACKEND_PKCS11)
        return err_set(err, MUSTER_EINVALID, "There is no such backend of keys.");
    if (given == VAULT_BACKEND_PKCS11 && a->backend != KEY_BACKEND_PKCS11 && (!v->park || park_token(v->park, clock_mono_ms()) == VAULT_TOKEN_NONE))
        return err_set(err, MUSTER_EINVALID, "No security module is configured (pkcs11_module in musterd.conf).");
    return 0;
}

/* The request's fields over what the account has, judged as a whole; touches nothing. */
static int wanted_of(const struct vault *v, const struct account *a, const struct vault_account *rq, bool kind, bool method, struct wanted *w, struct err *err) {
    *w = (struct wanted){kind ? rq->kind : a->kind, method ? rq->method : a->method, a->backend, a->policy};
    int rc = policy_kind(w->kind, err);
    if (rc || (rc = policy_method(w->method, err)) || (rc = wanted_backend(v, a, rq->backend, &w->backend, err)))
        return rc;
    return policy_apply(&w->policy, &rq->policy, err);
}

/* Takes `a` over.  What stands in the cache must not differ from the disk: on a failure account_put drops it, and before that
 * nothing of it has been changed but what is put back here. */
static int put_wanted(struct vault *v, struct account *a, bool is_new, const struct wanted *w, int64_t now, struct vault_account_view *view, struct err *err) {
    bool makes_cas = (w->method & VAULT_SHARED) && !a->fleet_root;
    bool changed = is_new || makes_cas || w->kind != a->kind || w->method != a->method || w->backend != a->backend || !policy_eq(&w->policy, &a->policy);
    if (!changed)
        return view_of(v, a, false, view, err);
    struct vault_policy before = a->policy;
    enum key_backend backend = a->backend;
    a->policy = w->policy;
    account_make_in(a, w->backend);
    int rc = makes_cas ? account_make_cas(a, &v->core->lives, now, err) : 0;
    if (rc) {
        a->policy = before;
        account_make_in(a, backend);
        if (is_new)
            account_free(a);
        return rc;
    }
    a->kind = w->kind;
    a->method = w->method;
    if ((rc = account_put(v->accounts, a, err)))
        return rc;
    if (is_new)
        count_forget(v->counts, a->name);
    return view_of(v, a, true, view, err);
}

int serve_account_create(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *answer, struct err *err) {
    const struct vault_account *given = &rq->account;
    struct account *a = NULL;
    struct wanted w;
    int rc = account_get(v->accounts, given->name, &a, err);
    if (!rc) {
        rc = wanted_of(v, a, given, true, true, &w, err);
        return rc ? rc : put_wanted(v, a, false, &w, now, &answer->view, err);
    }
    if (rc != MUSTER_ENOTFOUND)
        return rc;
    CLEANUP(account_free) struct account *fresh = NULL;
    if ((rc = account_new(given->name, &fresh, err)) || (rc = wanted_of(v, fresh, given, true, true, &w, err)))
        return rc;
    return put_wanted(v, TAKE(fresh), true, &w, now, &answer->view, err);
}

int serve_account_policy(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *answer, struct err *err) {
    const struct vault_account *given = &rq->account;
    struct account *a;
    struct wanted w;
    int rc = account_get(v->accounts, given->name, &a, err);
    if (rc || (rc = wanted_of(v, a, given, given->policy.set & VAULT_SET_KIND, given->policy.set & VAULT_SET_METHOD, &w, err)))
        return rc;
    return put_wanted(v, a, false, &w, now, &answer->view, err);
}

int serve_account_show(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *answer, struct err *err) {
    struct account *a;
    int rc = account_get(v->accounts, rq->name, &a, err);
    return rc ? rc : view_of(v, a, false, &answer->view, err);
}

/* Made while the clock ran ahead, and good for nothing until that day. */
static bool begins_later(const struct account *a, int64_t now) { return a->issuing_ca->cert->not_before > now && a->fleet_root->cert->not_before <= now; }

int serve_issuing_renew(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *answer, struct err *err) {
    struct account *a;
    int64_t end;
    int rc = serve_shared_account(v, rq->name, &a, err);
    if (rc)
        return rc;
    if (!policy_issuing_due(&a->policy, now, a->issuing_ca->cert->not_after, a->fleet_root->cert->not_after, v->core->lives.issuing_ca, &end) && !begins_later(a, now))
        return view_of(v, a, false, &answer->view, err);
    if ((rc = account_renew_issuing(a, now, end, err)) || (rc = account_put(v->accounts, a, err)))
        return rc;
    return view_of(v, a, true, &answer->view, err);
}

int serve_root_rotate(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *answer, struct err *err) {
    struct account *a;
    int rc = serve_shared_account(v, rq->rotate.account, &a, err);
    if (rc)
        return rc;
    if (!hash_eq(&a->fleet_root->cert->key.spki, &rq->rotate.from))
        return view_of(v, a, false, &answer->view, err);
    enum key_backend backend, before = a->backend;
    if ((rc = wanted_backend(v, a, rq->rotate.backend, &backend, err)))
        return rc;
    account_make_in(a, backend);
    if ((rc = account_rotate_root(a, &v->core->lives, now, err))) {
        account_make_in(a, before);
        return rc;
    }
    if ((rc = account_put(v->accounts, a, err)))
        return rc;
    return view_of(v, a, true, &answer->view, err);
}

int serve_account_delete(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *answer, struct err *err) {
    char name[VAULT_ACCOUNT_MAX + 1] = "";
    bool existed = false;
    int rc = account_drop(v->accounts, rq->name, &existed, err);
    if (rc)
        return rc;
    memcpy(name, rq->name.p, rq->name.n); /* account_drop has judged its length */
    count_forget(v->counts, name);
    answer->version.version = records_version(v->records);
    answer->version.changed = existed;
    return 0;
}
