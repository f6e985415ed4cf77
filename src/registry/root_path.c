/* root_path: see root_path.h. */
#include "registry/root_path.h"

static bool is_past(const struct cert *c, const struct hash *past, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (hash_eq(&past[i], &c->key.spki))
            return true;
    return false;
}

bool root_path_reaches(const struct root_path *p, const struct cert *root, const struct hash *past, size_t n_past) {
    const struct cert *on[1 + CHAIN_MAX_CERTS] = {p->leaf};
    bool taken[CHAIN_MAX_CERTS] = {false};
    size_t n = 1;
    if (is_past(root, past, n_past))
        return false;
    for (size_t at = 0; at < n; at++) {
        if (hash_eq(&on[at]->key.spki, &root->key.spki) || cert_signed_by(on[at], root))
            return true;
        for (size_t i = 0; i < p->n && i < CHAIN_MAX_CERTS; i++)
            if (!taken[i] && !is_past(p->cas[i], past, n_past) && cert_signed_by(on[at], p->cas[i])) {
                taken[i] = true;
                on[n++] = p->cas[i];
            }
    }
    return false;
}
