/* server_cas: see server_cas.h. */
#include "pki/server_cas.h"

struct certs {
    struct cert *at[SERVER_CAS_MAX];
    size_t n;
};

static void certs_fini(struct certs *c) {
    for (size_t i = 0; i < c->n; i++)
        cert_free(c->at[i]);
    c->n = 0;
}
DEFINE_CLEANUP_FINI(certs_fini, struct certs)

bool server_ca_is_own(const struct cert *c) {
    CLEANUP(buf_fini) struct buf cn = BUF_INIT(512);
    return cert_common_name(c, &cn, NULL) == 0 && strcmp(buf_str(&cn), SERVER_CA_NAME) == 0;
}

bool server_ca_stays(const struct cert *oldest, int64_t now) { return X509_get_pathlen(oldest->x) == 0 && oldest->not_after > now + SERVER_CA_LEAVES; }

size_t server_cas_signing(const struct cert *const cas[], size_t n, int64_t now) {
    size_t i = 0;
    if (n > 1 && server_ca_stays(cas[0], now))
        return 0;
    while (i + 1 < n && cas[i + 1]->not_before <= now)
        i++;
    return cas[i]->not_before <= now && cas[i]->not_after > now ? i : n - 1;
}

static const struct cert *next_own(const struct certs *c, size_t *at) {
    while (*at < c->n)
        if (server_ca_is_own(c->at[(*at)++]))
            return c->at[*at - 1];
    return NULL;
}

static bool has_own(const struct certs *c) {
    size_t at = 0;
    return next_own(c, &at) != NULL;
}

static bool same_own(const struct certs *a, const struct certs *b) {
    for (size_t i = 0, j = 0;;) {
        const struct cert *x = next_own(a, &i), *y = next_own(b, &j);
        if (!x || !y)
            return x == y;
        if (!hash_eq(&x->fingerprint, &y->fingerprint))
            return false;
    }
}

static int add(const struct certs *c, bool own, struct buf *out, size_t *n) {
    int rc = 0;
    for (size_t i = 0; !rc && i < c->n; i++)
        if (server_ca_is_own(c->at[i]) == own) {
            rc = cert_pem(c->at[i], out);
            ++*n;
        }
    return rc;
}

int server_cas_merge(struct span file, struct span own, struct buf *out, struct err *err) {
    CLEANUP(certs_fini) struct certs before = {.n = 0}, now = {.n = 0};
    size_t n = 0;
    int rc = cert_chain_from_file(own, now.at, SERVER_CAS_MAX, &now.n, err);
    if (!rc && !has_own(&now))
        return err_set(err, MUSTER_EINVALID, "There is no server CA of Muster's own among the certificates.");
    if (!rc && !span_empty(span_trim(file)))
        rc = cert_chain_from_file(file, before.at, SERVER_CAS_MAX, &before.n, err);
    if (rc || (before.n && (!has_own(&before) || same_own(&before, &now))))
        return rc;
    if ((rc = add(&now, true, out, &n)) || (rc = add(&before, false, out, &n)) || (rc = buf_check(out, err)))
        return rc;
    return n > SERVER_CAS_MAX ? err_set(err, MUSTER_EINVALID, "server-ca.pem would have %zu certificates; devices take %d.", n, SERVER_CAS_MAX) : 1;
}
