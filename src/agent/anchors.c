/* anchors: see anchors.h. */
#include "agent/anchors.h"

#include <openssl/x509v3.h>

static bool named(const struct cert *a, const struct cert *b) { return X509_NAME_cmp(X509_get_subject_name(a->x), X509_get_subject_name(b->x)) == 0; }

bool anchor_for_servers(const struct cert *a) {
    uint32_t eku = X509_get_extended_key_usage(a->x); /* UINT32_MAX: none */
    return a->ca && (eku & XKU_SSL_SERVER) && (X509_get_key_usage(a->x) & KU_KEY_CERT_SIGN);
}

/* Named in so many words: a CA without an extended key usage, or for any, may be a device CA as well. */
static bool for_servers(const struct cert *c, int64_t now) {
    return X509_get_extended_key_usage(c->x) != UINT32_MAX && anchor_for_servers(c) && c->not_before <= now && now <= c->not_after;
}

/* --- what one CA's word is good for ------------------------------------------------------------------------------------------------------------------ */

static const ASN1_OCTET_STRING *constraints(const struct cert *c) {
    int at = X509_get_ext_by_NID(c->x, NID_name_constraints, -1);
    return at < 0 ? NULL : X509_EXTENSION_get_data(X509_get_ext(c->x, at));
}

/* Whether `c` may do no more than `by`: neither constraints of names nor a bound of paths are shed. */
static bool no_wider(const struct cert *c, const struct cert *by) {
    const ASN1_OCTET_STRING *mine = constraints(c), *its = constraints(by);
    long path = X509_get_pathlen(c->x), bound = X509_get_pathlen(by->x); /* -1: none */
    return (mine && its ? ASN1_OCTET_STRING_cmp(mine, its) == 0 : !mine && !its) && (bound < 0 || (path >= 0 && path <= bound));
}

/* Whether `x` is the word of the anchor `a` that `c` is one as well.  The same name says so: it is that CA, with another key.  Any other CA below `a` becomes no
 * more than it is already, and for no longer. */
static bool vouches(const struct cert *a, const struct cert *x, const struct cert *c, int64_t now) {
    bool same = named(a, x);
    if (!anchor_for_servers(a) || a->not_before > now || now > a->not_after || X509_NAME_cmp(X509_get_issuer_name(x->x), X509_get_subject_name(a->x)) || !cert_signed_by(x, a))
        return false;
    return no_wider(c, x) && no_wider(c, a) && (same || (X509_get_pathlen(a->x) != 0 && c->not_after <= x->not_after));
}

static bool vouched(const struct certs *mine, const struct certs *offered, const struct cert *c, int64_t now) {
    for (size_t i = 0; i < offered->n; i++) {
        const struct cert *x = offered->cert[i];
        if (x->self_signed || !hash_eq(&x->key.spki, &c->key.spki) || !named(x, c) || !for_servers(x, now))
            continue;
        for (size_t k = 0; k < mine->n; k++)
            if (vouches(mine->cert[k], x, c, now))
                return true;
    }
    return false;
}

/* One that has ended by a time that is known to have passed, or CERTS_MAX. */
static size_t find_room(const struct certs *a, int64_t passed) {
    if (a->n < CERTS_MAX)
        return a->n;
    for (size_t i = 0; i < a->n; i++)
        if (a->cert[i]->not_after < passed)
            return i;
    return CERTS_MAX;
}

int anchors_take(struct certs *mine, const struct certs *offered, int64_t now, int64_t passed, size_t *taken, struct err *err) {
    const struct certs before = *mine; /* one that was taken now vouches for no other */
    bool good[CERTS_MAX];
    *taken = 0;
    for (size_t i = 0; i < offered->n; i++) {
        const struct cert *c = offered->cert[i];
        good[i] = c->self_signed && for_servers(c, now) && key_acceptable(&c->key, NULL) == 0 && !certs_have(mine, c) && vouched(&before, offered, c, now);
    }
    for (size_t i = 0; i < offered->n; i++) {
        if (!good[i] || certs_have(mine, offered->cert[i]))
            continue;
        size_t at = find_room(mine, passed);
        if (at == CERTS_MAX)
            return err_set(err, MUSTER_EINVALID, "There is no room for another anchor: none of the %d is known to have ended.", CERTS_MAX);
        struct cert *copy = NULL;
        int rc = cert_from_x509(offered->cert[i]->x, &copy, err);
        if (rc)
            return rc;
        if (at < mine->n)
            cert_free(mine->cert[at]);
        mine->n += at == mine->n;
        mine->cert[at] = copy;
        (*taken)++;
    }
    return 0;
}
