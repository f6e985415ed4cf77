/* server_cas: see server_cas.h. */
#include "admin/server_cas.h"

#include <dirent.h>
#include <fcntl.h>

#include "base/file.h"
#include "registry/server_ca.h"

#define PEM_MAX (64 * 1024)

_Static_assert(SERVER_CA_TOLD_MAX >= VAULT_SERVER_FORMER_MAX + 1 && SERVER_CAS_MAX >= VAULT_SERVER_FORMER_MAX + 1, "room for all that the vault keeps");
DEFINE_CLEANUP_FINI(server_cas_fini, struct server_cas)
DEFINE_CLEANUP(closedir, DIR *)

void server_cas_init(struct server_cas *s) { *s = (struct server_cas){.chain = BUF_INIT(PEM_MAX), .crosses = BUF_INIT(PEM_MAX)}; }

void server_cas_fini(struct server_cas *s) {
    for (size_t i = 0; i < s->n; i++)
        cert_free(s->at[i]);
    s->n = 0;
    buf_fini(&s->chain);
    buf_fini(&s->crosses);
}

const struct cert *server_cas_current(const struct control *c) { return c->server_cas->n ? c->server_cas->at[c->server_cas->n - 1] : NULL; }

static size_t signing(const struct server_cas *s) { return server_cas_signing((const struct cert *const *)s->at, s->n, clock_now()); }
const struct cert *server_cas_signer(const struct control *c) { return c->server_cas->n ? c->server_cas->at[signing(c->server_cas)] : NULL; }

bool server_cas_signed(const struct control *c, const struct cert *cert) {
    for (size_t i = 0; i < c->server_cas->n; i++)
        if (cert_signed_by(cert, c->server_cas->at[i]))
            return true;
    return false;
}

/* --- taking ------------------------------------------------------------------------------------------------------------------------ */

static int take_cas(const struct vault_server_view *view, struct server_cas *s, struct err *err) {
    struct span former = view->former;
    int rc = 0;
    while (!rc && former.n && s->n + 1 < SERVER_CAS_MAX)
        if (!(rc = cert_from_der_next(&former, &s->at[s->n], err)))
            s->n++;
    if (!rc && !(rc = cert_from_der(view->current, &s->at[s->n], err)))
        s->n++;
    return rc ? rc : former.n ? err_set(err, MUSTER_EINTERNAL, "The vault has more server CAs than there is room for.") : 0;
}

/* Of each former one two certificates: the next one's key by it, and its key by the next one. */
static int take_crosses(const struct vault_server_view *view, struct server_cas *s, struct err *err) {
    struct cert *next[SERVER_CAS_MAX] = {NULL}, *back[SERVER_CAS_MAX] = {NULL};
    struct span left = view->crosses;
    size_t n = 0;
    int rc = 0;
    for (; !rc && n + 1 < s->n; n++) {
        if (!(rc = cert_from_der_next(&left, &next[n], err)) && !(rc = cert_from_der_next(&left, &back[n], err)) && !(rc = cert_pem(next[n], &s->crosses)))
            rc = cert_pem(back[n], &s->crosses);
    }
    /* From the one that signs on, as far as they are good: who follows them goes from one to the one before; from the oldest on, where the certificates stand under that. */
    const size_t signer = signing(s);
    if (!signer)
        for (size_t i = 0; !rc && i < n && back[i]->not_before <= clock_now() && back[i]->not_after > clock_now(); i++)
            rc = cert_pem(back[i], &s->chain);
    else
        for (size_t i = signer; !rc && i-- > 0 && next[i]->not_after > clock_now() && s->at[i]->not_after > clock_now();)
            rc = cert_pem(next[i], &s->chain);
    for (size_t i = 0; i < SERVER_CAS_MAX; i++) {
        cert_free(next[i]);
        cert_free(back[i]);
    }
    if (!rc && (buf_check(&s->chain, NULL) || buf_check(&s->crosses, NULL)))
        rc = MUSTER_ENOMEM;
    return rc ? err_set(err, rc, "What the vault's server CAs say of one another cannot be read.") : 0;
}

/* In the order of server-ca.pem: the current one first. */
static int take_anchors(struct control *c, const struct server_cas *s, struct err *err) {
    CLEANUP(buf_fini) struct buf own = BUF_INIT(PEM_MAX);
    struct buf merged = BUF_INIT(PEM_MAX);
    int rc = 0;
    for (size_t i = s->n; !rc && i-- > 0;)
        rc = cert_pem(s->at[i], &own);
    if (rc)
        return err_set(err, rc, NULL);
    rc = server_cas_merge(buf_span(&c->server_ca), buf_span(&own), &merged, err);
    if (rc > 0) {
        buf_fini(&c->server_ca);
        c->server_ca = merged;
        return 0;
    }
    buf_fini(&merged);
    return rc;
}

static int write_crosses(const struct control *c, const struct server_cas *s, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096), before = BUF_INIT(2 * PEM_MAX);
    buf_addf(&path, "%s/tls/crosses.pem", c->o->dir);
    int rc = file_read(AT_FDCWD, buf_str(&path), &before, NULL);
    if (!s->crosses.n)
        return rc == MUSTER_ENOTFOUND ? 0 : (rc = file_remove(AT_FDCWD, buf_str(&path), err)) ? rc : 1;
    if (!rc && span_eq(buf_span(&before), buf_span(&s->crosses)))
        return 0;
    return (rc = file_replace(AT_FDCWD, buf_str(&path), buf_span(&s->crosses), 0640, err)) ? rc : 1;
}

int server_cas_take(struct control *c, const struct vault_server_view *view, struct err *err) {
    CLEANUP(server_cas_fini) struct server_cas fresh;
    server_cas_init(&fresh);
    fresh.backend = view->backend;
    int rc = take_cas(view, &fresh, err);
    if (rc || (rc = take_crosses(view, &fresh, err)) || (rc = take_anchors(c, &fresh, err)) || (rc = write_crosses(c, &fresh, err)) < 0)
        return rc;
    struct server_cas before = *c->server_cas;
    *c->server_cas = fresh;
    fresh = before;
    return rc;
}

/* --- into the registry ---------------------------------------------------------------------------------------------------------------- */

struct registering {
    struct server_ca_told op; /* first: what the operation is given */
    struct control *c;
    server_cas_fn done;
    void *arg;
};

static void finish(struct registering *r, int rc, const struct err *err) {
    for (size_t i = 0; !rc && i < r->op.n; i++)
        r->c->server_cas->number[i] = r->op.number[i];
    r->done(r->arg, rc, err);
    free(r);
}

static void written(void *arg, int rc, const struct err *err) { finish(arg, rc, err); }

static void looked(void *arg, int rc, const struct err *err) {
    struct registering *r = arg;
    struct err why = ERR_INIT;
    if (rc || !r->op.due)
        finish(r, rc, err);
    else if ((rc = store_write(r->c->registry, r->c->loop, server_ca_told_run, written, &r->op, &why)))
        finish(r, rc, &why);
}

void server_cas_register(struct control *c, server_cas_fn done, void *arg) {
    struct err err = ERR_INIT;
    struct registering *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(&err, MUSTER_ENOMEM, NULL);
        done(arg, MUSTER_ENOMEM, &err);
        return;
    }
    *r = (struct registering){.c = c, .done = done, .arg = arg};
    for (; r->op.n < c->server_cas->n; r->op.n++) /* a look and a change never run at once: they stay until it is done */
        r->op.at[r->op.n] = c->server_cas->at[r->op.n];
    int rc = store_read(c->registry, c->loop, server_ca_told_run, looked, &r->op, &err);
    if (rc)
        finish(r, rc, &err);
}

/* --- files ------------------------------------------------------------------------------------------------------------------------------ */

bool server_cas_all_current(const struct control *c) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    buf_addf(&path, "%s/tls", c->o->dir);
    CLEANUP(closedir) DIR *d = opendir(buf_str(&path));
    bool all = d != NULL;
    for (struct dirent *e; all && (e = readdir(d));) {
        CLEANUP(cert_free) struct cert *cert = NULL;
        CLEANUP(buf_wipe) struct buf pem = BUF_INIT(PEM_MAX);
        bool own = strcmp(e->d_name, "default.pem") == 0 || span_ends(span_str(e->d_name), SPAN_LIT(".account.pem"));
        all = !own || (!file_read(dirfd(d), e->d_name, &pem, NULL) && !certificate_read(buf_span(&pem), &cert) && cert_signed_by(cert, server_cas_signer(c)));
    }
    return all;
}
