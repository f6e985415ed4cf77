/* line_ca: see line_ca.h. */
#include "pki/line_ca.h"

#include "base/clock.h"
#include "pki/pki.h"
#include "pki/subject.h"

DEFINE_CLEANUP(BASIC_CONSTRAINTS_free, BASIC_CONSTRAINTS *)
DEFINE_CLEANUP(NAME_CONSTRAINTS_free, NAME_CONSTRAINTS *)
DEFINE_CLEANUP(EXTENDED_KEY_USAGE_free, EXTENDED_KEY_USAGE *)
DEFINE_CLEANUP(X509_NAME_free, X509_NAME *)

static int unfit(struct err *err, const char *what) { return err_set(err, MUSTER_EROOTUNFIT, "The certificate is not fit for a factory line: %s.", what); }

static bool has_path_length_0(const struct cert *c) {
    CLEANUP(BASIC_CONSTRAINTS_free) BASIC_CONSTRAINTS *bc = X509_get_ext_d2i(c->x, NID_basic_constraints, NULL, NULL);
    return bc && bc->ca && bc->pathlen && ASN1_INTEGER_get(bc->pathlen) == 0;
}

static bool is_for_clients_alone(const struct cert *c) {
    int critical;
    CLEANUP(EXTENDED_KEY_USAGE_free) EXTENDED_KEY_USAGE *eku = X509_get_ext_d2i(c->x, NID_ext_key_usage, &critical, NULL);
    if (!eku)
        return critical == -1; /* none; else one that cannot be read */
    return sk_ASN1_OBJECT_num(eku) == 1 && OBJ_obj2nid(sk_ASN1_OBJECT_value(eku, 0)) == NID_client_auth;
}

static bool is_constrained(const struct cert *c, struct span account, struct span line) {
    int critical;
    CLEANUP(NAME_CONSTRAINTS_free) NAME_CONSTRAINTS *nc = X509_get_ext_d2i(c->x, NID_name_constraints, &critical, NULL);
    CLEANUP(X509_NAME_free) X509_NAME *wanted = X509_NAME_new();
    const struct subject below = {.organisation = account, .organisational_unit = line};
    if (!nc || critical != 1 || !wanted || pki_name_fill(wanted, &below, NULL) || sk_GENERAL_SUBTREE_num(nc->permittedSubtrees) != 1)
        return false;
    const GENERAL_SUBTREE *tree = sk_GENERAL_SUBTREE_value(nc->permittedSubtrees, 0);
    return tree->base->type == GEN_DIRNAME && !tree->maximum && X509_NAME_cmp(tree->base->d.directoryName, wanted) == 0;
}

int line_ca_fit(const struct cert *c, struct span account, struct span line, int64_t now, struct err *err) {
    if (!c->ca || !has_path_length_0(c))
        return unfit(err, "it is no CA certificate of path length 0");
    if (!(X509_get_key_usage(c->x) & X509v3_KU_KEY_CERT_SIGN))
        return unfit(err, "its key may not sign certificates");
    if (c->key.kind != KEY_P256 && c->key.kind != KEY_P384)
        return unfit(err, "its key is neither P-256 nor P-384");
    if (!is_for_clients_alone(c))
        return unfit(err, "it is for more than TLS clients");
    if (!is_constrained(c, account, line))
        return err_set(err, MUSTER_EROOTUNFIT, "The certificate is not fit for a factory line: its name constraints are not, critically, the one subtree O=%.*s,OU=%.*s.", SPAN_FMT(account), SPAN_FMT(line));
    return c->not_after > now ? 0 : unfit(err, "it has expired");
}
