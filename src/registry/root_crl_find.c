/* root_crl_find: who stands on an imported list; see root_crl.h.  Called at the gateway for each device that it has no verdict of. */
#include "pki/der_read.h"
#include "registry/root_crl.h"

/* Whether the CA of the list signed the certificate: another CA may have given out the same serial number. */
static bool is_its(struct span signer, const struct cert *c) {
    CLEANUP(cert_free) struct cert *ca = NULL;
    return cert_from_der(signer, &ca, NULL) == 0 && cert_signed_by(c, ca);
}

/* 1: it stands on one. */
static int look_up(struct store_tx *tx, int64_t account, struct span serial, const struct cert *c, struct span der, int64_t *reason, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    CLEANUP(cert_free) struct cert *read = NULL;
    int rc = store_query(tx, &row, err, SQL_ROOT_CRL_LISTED, "ib", account, serial);
    while (!rc && (rc = store_next(row, err)) > 0) {
        rc = 0;
        if (!c && !read && cert_from_der(der, &read, NULL))
            return 0;
        if (!is_its(store_blob(row, 1), c ? c : read))
            continue;
        *reason = store_int(row, 0);
        return 1;
    }
    return rc;
}

/* As an ASN1_INTEGER keeps it, which is how entries are kept: without the zero that keeps it positive. */
static struct span without_zero(struct span serial) {
    while (serial.n > 1 && serial.p[0] == 0)
        serial = span_sub(serial, 1, serial.n);
    return serial;
}

/* An uploaded root may be an intermediate that another one's list takes back. */
static int look_up_root(struct store_tx *tx, const struct root *r, int64_t *reason, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct der_certificate c;
    int found = first_row(tx, &row, err, SQL_ROOT_DER, "i", r->row);
    if (found <= 0)
        return found;
    const struct span der = store_blob(row, 0);
    return der_certificate_read(der, &c) ? look_up(tx, r->account, without_zero(c.serial), NULL, der, reason, err) : 0;
}

int root_crl_find(struct store_tx *tx, const struct root *r, const struct cert *const *certs, size_t n, int *which, int64_t *reason, struct err *err) {
    *which = -1;
    for (size_t i = 0; i < n; i++) {
        const ASN1_INTEGER *serial = X509_get0_serialNumber(certs[i]->x);
        const struct span bytes = span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
        int found = ASN1_STRING_type(serial) == V_ASN1_INTEGER ? look_up(tx, r->account, bytes, certs[i], SPAN_NONE, reason, err) : 0; /* a negative one stands on no list that was taken */
        if (found < 0)
            return found;
        if (found) {
            *which = (int)i;
            return 0;
        }
    }
    int found = look_up_root(tx, r, reason, err);
    if (found > 0)
        *which = (int)n;
    return found < 0 ? found : 0;
}
