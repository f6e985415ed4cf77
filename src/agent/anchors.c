/* anchors: see anchors.h. */
#include "agent/anchors.h"

#include <openssl/x509v3.h>

/* Named in so many words: a CA without an extended key usage, or for any, may be a device CA as well. */
static bool for_servers(const struct cert *c, int64_t now) {
    uint32_t eku = X509_get_extended_key_usage(c->x);
    return c->ca && eku != UINT32_MAX && (eku & XKU_SSL_SERVER) && (X509_get_key_usage(c->x) & KU_KEY_CERT_SIGN) && c->not_before <= now && now <= c->not_after;
}

static bool vouched(const struct certs *mine, const struct certs *offered, const struct cert *c, int64_t now) {
    for (size_t i = 0; i < offered->n; i++) {
        const struct cert *x = offered->cert[i];
        if (x->self_signed || !hash_eq(&x->key.spki, &c->key.spki) || X509_NAME_cmp(X509_get_subject_name(x->x), X509_get_subject_name(c->x)) || !for_servers(x, now))
            continue;
        for (size_t k = 0; k < mine->n; k++) {
            const struct cert *a = mine->cert[k];
            if (a->ca && a->not_before <= now && now <= a->not_after && X509_NAME_cmp(X509_get_issuer_name(x->x), X509_get_subject_name(a->x)) == 0 && cert_signed_by(x, a))
                return true;
        }
    }
    return false;
}

/* An ended one, or CERTS_MAX. */
static size_t find_room(const struct certs *a, int64_t now) {
    if (a->n < CERTS_MAX)
        return a->n;
    for (size_t i = 0; i < a->n; i++)
        if (a->cert[i]->not_after < now)
            return i;
    return CERTS_MAX;
}

int anchors_take(struct certs *mine, const struct certs *offered, int64_t now, size_t *taken, struct err *err) {
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
        size_t at = find_room(mine, now);
        if (at == CERTS_MAX)
            return err_set(err, MUSTER_EINVALID, "There is no room for another anchor: %d are there, and none has ended.", CERTS_MAX);
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
