/* server_identity: the gateway's own certificates.  Control writes them to DIR/tls, one file a name: "default.pem" and
 * ACCOUNT.account.pem, the chain and then the key.  The operator's own certificate takes the place of "default". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/log.h"
#include "base/secret.h"
#include "gateway/internal.h"
#include "metrics/metrics.h"

#define PEM_MAX (256 * 1024)

/* One PEM file, and the name that it is good for. */
struct loaded {
    struct buf pem;
    char name[600];
};

struct loading {
    struct loaded **at; /* each owned: the identities point into them */
    struct tls_identity *ids;
    size_t n, cap;
};

static void loading_fini(struct loading *l) {
    for (size_t i = 0; i < l->n; i++) {
        buf_wipe(&l->at[i]->pem);
        free(l->at[i]);
    }
    free(l->at);
    free(l->ids);
}
DEFINE_CLEANUP_FINI(loading_fini, struct loading)

/* Room for one more, of which the caller fills pem and name; ids[n - 1] is still to be set. */
static struct loaded *more(struct loading *l) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        void *at = realloc(l->at, cap * sizeof *l->at);
        l->at = at ? at : l->at;
        void *ids = at ? realloc(l->ids, cap * sizeof *l->ids) : NULL;
        l->ids = ids ? ids : l->ids;
        if (!ids)
            return NULL;
        l->cap = cap;
    }
    struct loaded *one = calloc(1, sizeof *one);
    if (!one)
        return NULL;
    one->pem = BUF_INIT(PEM_MAX);
    l->at[l->n] = one;
    l->ids[l->n++] = (struct tls_identity){.name = one->name};
    return one;
}

/* The account whose certificate the file holds; empty for the default one. */
static bool is_identity(const char *file, struct span *account) {
    *account = span_str(file);
    if (strcmp(file, "default.pem") == 0) {
        account->n = 0;
        return true;
    }
    if (!span_ends(*account, SPAN_LIT(".account.pem")))
        return false;
    account->n -= sizeof ".account.pem" - 1;
    return account_name_check(*account, NULL) == 0;
}

static int add_file(struct gateway *g, struct loading *l, int dir, const char *file, struct span account, struct err *err) {
    struct loaded *one = more(l);
    if (!one)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (account.n)
        snprintf(one->name, sizeof one->name, "%.*s.%s", SPAN_FMT(account), g->hosts[0]);
    int rc = file_read(dir, file, &one->pem, err);
    l->ids[l->n - 1].chain = l->ids[l->n - 1].key = buf_span(&one->pem);
    return rc;
}

static int read_dir(struct gateway *g, struct loading *l, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    buf_addf(&path, "%s/tls", g->o->dir);
    int fd = open(buf_str(&path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        fd_close(fd);
        return err_set(err, MUSTER_EIO, "The directory %s cannot be opened: %s.", buf_str(&path), strerror(errno));
    }
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        struct span name;
        bool own_default = g->o->settings->server_certificate[0] && strcmp(e->d_name, "default.pem") == 0;
        if (is_identity(e->d_name, &name) && !own_default)
            rc = add_file(g, l, dirfd(d), e->d_name, name, err);
    }
    closedir(d);
    return rc;
}

/* The operator's own certificate with its key, as files hold them. */
static int read_own(struct gateway *g, struct buf *chain, struct buf *key, struct err *err) {
    const struct settings *s = g->o->settings;
    int rc = file_read(AT_FDCWD, s->server_certificate, chain, err);
    return rc ? rc : file_read(AT_FDCWD, s->server_key, key, err);
}

struct anchors *server_identity_anchors(struct gateway *g) {
    pthread_mutex_lock(&g->anchors_lock);
    struct anchors *a = anchors_ref(g->anchors);
    pthread_mutex_unlock(&g->anchors_lock);
    return a;
}

static int keep(struct buf *kept, const struct buf *now) {
    buf_wipe(kept);
    *kept = BUF_INIT(PEM_MAX);
    buf_add(kept, buf_span(now));
    return buf_ok(kept) ? 0 : MUSTER_ENOMEM;
}

/* What control has written of them; a device's PKCS#12 does without. */
static void read_crosses(struct gateway *g, struct buf *out) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    struct err err = ERR_INIT;
    buf_addf(&path, "%s/tls/crosses.pem", g->o->dir);
    if (file_read(AT_FDCWD, buf_str(&path), out, &err) && err.code != MUSTER_ENOTFOUND)
        log_err(LOG_ERROR, "crosses_not_read", &err, NULL);
}

/* /cacerts leaves it out (est.c); its operator may not know. */
static void warn_of_fleet(struct gateway *g, const struct anchors *a) {
    for (size_t i = 0; i < a->n; i++) {
        CLEANUP(buf_fini) struct buf subject = BUF_INIT(4096);
        if (!verifier_is_fleet_key(g->verifier, &a->at[i]->key.spki))
            continue;
        cert_subject_text(a->at[i], &subject);
        log_event(LOG_WARN, "anchor_is_fleet_root", "subject", buf_str(&subject), "meaning", "a fleet's CA stands in server-ca.pem; /cacerts leaves it out, since a device could pass for the gateway", NULL);
    }
}

/* Those of `pem`, and g->anchors_pem is that. */
static int set_anchors(struct gateway *g, const struct buf *pem, struct err *err) {
    CLEANUP(buf_fini) struct buf crosses = BUF_INIT(PEM_MAX);
    CLEANUP(anchors_unref) struct anchors *read = NULL;
    read_crosses(g, &crosses);
    int rc = anchors_read(buf_span(pem), buf_span(&crosses), &read, err);
    if (rc || (pem != &g->anchors_pem && keep(&g->anchors_pem, pem)))
        return rc ? rc : err_set(err, MUSTER_ENOMEM, NULL);
    warn_of_fleet(g, read);
    pthread_mutex_lock(&g->anchors_lock);
    struct anchors *before = g->anchors;
    g->anchors = TAKE(read);
    pthread_mutex_unlock(&g->anchors_lock);
    anchors_unref(before); /* a worker may have it still */
    return 0;
}

/* A file that was replaced while this process runs is another one, which it may not read: then what the vault has said since stands for it. */
static int read_anchors(struct gateway *g, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf file = BUF_INIT(PEM_MAX);
    buf_addf(&path, "%s/server-ca.pem", g->o->dir);
    int rc = file_read(AT_FDCWD, buf_str(&path), &file, g->anchors_pem.n ? NULL : err);
    if (rc && !g->anchors_pem.n)
        return rc;
    return set_anchors(g, rc ? &g->anchors_pem : &file, err);
}

void server_identity_told(struct gateway *g, struct span own) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(PEM_MAX);
    struct err err = ERR_INIT;
    int rc = server_cas_merge(buf_span(&g->anchors_pem), own, &pem, &err);
    if (rc > 0)
        rc = set_anchors(g, &pem, &err);
    if (rc)
        log_err(LOG_ERROR, "server_cas_not_taken", &err, NULL);
}

/* Devices know the anchors of server-ca.pem and no others: under another one they would never come back. */
static int check_own(struct gateway *g, struct span own, struct err *err) {
    const struct settings *s = g->o->settings;
    struct cert *chain[CHAIN_MAX_CERTS];
    size_t n = 0;
    if (!s->server_chain_check)
        return 0;
    int rc = cert_chain_from_file(own, chain, CHAIN_MAX_CERTS, &n, err);
    if (rc)
        return rc;
    rc = chain_judge_server(g->anchors->at, g->anchors->n, chain[0], chain + 1, n - 1, clock_now(), err);
    for (size_t i = 0; i < n; i++)
        cert_free(chain[i]);
    if (!rc)
        return 0;
    err_prefix(err, "%s does not chain to an anchor that enrolled devices were given (server-ca.pem); they would be stranded. Add its root there first, or set server_chain_check = no",
               s->server_certificate);
    return err ? (err->code = MUSTER_ECONFIG) : MUSTER_ECONFIG;
}

/* The end of the certificate that clients without a name of their own see, for whoever watches.  The file may have its key behind. */
static void note_end(const struct loading *l) {
    static const char begins[] = "-----BEGIN CERTIFICATE-----", ends[] = "-----END CERTIFICATE-----\n";
    for (size_t i = 0; i < l->n; i++) {
        CLEANUP(cert_free) struct cert *leaf = NULL;
        struct span file = l->ids[i].chain;
        long from = l->ids[i].name[0] ? -1 : span_find(file, SPAN_LIT(begins));
        struct span rest = from >= 0 ? span_sub(file, (size_t)from, file.n) : SPAN_NONE;
        long to = span_find(rest, SPAN_LIT(ends));
        if (to >= 0 && cert_from_file(span_sub(rest, 0, (size_t)to + sizeof ends - 1), &leaf, NULL) == 0)
            metrics_set(METRIC_SERVER_NOT_AFTER, 0, leaf->not_after);
    }
}

/* All of DIR/tls, and the operator's own certificate where there is one. */
static int set_all(struct gateway *g, const struct buf *chain, const struct buf *key, struct err *err) {
    CLEANUP(loading_fini) struct loading l = {0};
    int rc = read_dir(g, &l, err);
    if (rc)
        return rc;
    if (chain) {
        if (!more(&l))
            return err_set(err, MUSTER_ENOMEM, NULL);
        l.ids[l.n - 1].chain = buf_span(chain);
        l.ids[l.n - 1].key = buf_span(key);
    }
    rc = tls_server_set(g->tls, l.ids, l.n, err);
    if (!rc)
        note_end(&l);
    return rc;
}

int server_identity_load(struct gateway *g, struct err *err) {
    CLEANUP(buf_wipe) struct buf chain = BUF_INIT(PEM_MAX);
    CLEANUP(buf_wipe) struct buf key = BUF_INIT(PEM_MAX);
    int rc = read_anchors(g, err);
    if (rc || !g->o->settings->server_certificate[0])
        return rc ? rc : set_all(g, NULL, NULL, err);
    if (!(rc = read_own(g, &chain, &key, err)) && !(rc = check_own(g, buf_span(&chain), err)) && !(rc = set_all(g, &chain, &key, err)))
        return keep(&g->own_chain, &chain) || keep(&g->own_key, &key) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
    if (!g->own_chain.n) /* the start: nobody would notice in time */
        return rc;
    /* The one in use goes on in its place, and accounts get theirs. */
    struct err why = ERR_INIT;
    log_err(LOG_ERROR, "server_certificate_kept", err, NULL);
    rc = set_all(g, &g->own_chain, &g->own_key, &why);
    if (err)
        *err = why;
    return rc;
}
