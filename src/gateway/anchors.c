/* anchors: see anchors.h. */
#include "gateway/anchors.h"

#include "base/hex.h"
#include "pki/pkcs7.h"

#define CACERTS_MAX (SERVER_CAS_MAX + ANCHORS_CROSSES_MAX)
_Static_assert(CACERTS_MAX <= PKCS7_CERTS_MAX, "all of them go into one answer");
#define DER_MAX (CACERTS_MAX * CERT_DER_MAX + 256)

struct anchors *anchors_ref(struct anchors *a) {
    atomic_fetch_add(&a->refs, 1);
    return a;
}

void anchors_unref(struct anchors *a) {
    if (!a || atomic_fetch_sub(&a->refs, 1) > 1)
        return;
    for (size_t i = 0; i < a->n; i++)
        cert_free(a->at[i]);
    for (size_t i = 0; i < a->n_crosses; i++)
        cert_free(a->crosses[i]);
    buf_fini(&a->cacerts);
    free(a);
}

/* --- what is in /cacerts --------------------------------------------------------------------------------------------------------- */

/* The anchor whose key it certifies, and one that has signed it: Muster's own both; their places, or n. */
static size_t subject_of(const struct anchors *a, const struct cert *cross) {
    size_t i = 0;
    while (i < a->n && !(server_ca_is_own(a->at[i]) && hash_eq(&a->at[i]->key.spki, &cross->key.spki)))
        i++;
    return i;
}

static size_t signer_of(const struct anchors *a, const struct cert *cross) {
    size_t i = 0;
    while (i < a->n && !(server_ca_is_own(a->at[i]) && !hash_eq(&a->at[i]->key.spki, &cross->key.spki) && cert_signed_by(cross, a->at[i])))
        i++;
    return i;
}

static void keep_crosses(struct anchors *a, struct cert **read, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (subject_of(a, read[i]) < a->n && signer_of(a, read[i]) < a->n)
            a->crosses[a->n_crosses++] = read[i];
        else
            cert_free(read[i]);
}

static bool is_oldest(const struct anchors *a, size_t at) {
    for (size_t i = at + 1; i < a->n; i++)
        if (server_ca_is_own(a->at[i]))
            return false;
    return true;
}

/* An operator's, the oldest of Muster's own, or one of which an older one says that the key is good. */
static bool is_vouched(const struct anchors *a, size_t at) {
    if (!server_ca_is_own(a->at[at]) || is_oldest(a, at))
        return true;
    for (size_t i = 0; i < a->n_crosses; i++) {
        size_t by = signer_of(a, a->crosses[i]);
        if (subject_of(a, a->crosses[i]) == at && by < a->n && by > at)
            return true;
    }
    return false;
}

int anchors_cacerts(const struct anchors *a, const bool left_out[SERVER_CAS_MAX], struct buf *out, struct err *err) {
    CLEANUP(buf_fini) struct buf all = BUF_INIT(DER_MAX);
    CLEANUP(buf_fini) struct buf pkcs7 = BUF_INIT(DER_MAX);
    size_t from[CACERTS_MAX + 1] = {0}, n = 0;
    struct span certs[CACERTS_MAX];
    int rc = 0;
    for (size_t i = 0; !rc && i < a->n; i++) {
        if (left_out[i] || !is_vouched(a, i))
            continue;
        rc = cert_der(a->at[i], &all);
        from[++n] = all.n;
    }
    for (size_t i = 0; !rc && i < a->n_crosses; i++) {
        rc = cert_der(a->crosses[i], &all);
        from[++n] = all.n;
    }
    if (rc)
        return err_set(err, rc, NULL);
    if (!n)
        return err_set(err, MUSTER_ENOTFOUND, "Every certificate in server-ca.pem is a fleet's CA, which no device may take for the gateway's.");
    for (size_t i = 0; i < n; i++)
        certs[i] = span_sub(buf_span(&all), from[i], from[i + 1] - from[i]);
    if ((rc = pkcs7_certs(certs, n, &pkcs7, err)))
        return rc;
    base64_add_lines(out, buf_span(&pkcs7));
    return buf_check(out, err);
}

/* --- reading ------------------------------------------------------------------------------------------------------------------------ */

int anchors_read(struct span pem, struct span crosses, struct anchors **out, struct err *err) {
    CLEANUP(anchors_unref) struct anchors *a = calloc(1, sizeof *a);
    struct cert *read[ANCHORS_CROSSES_MAX];
    size_t n = 0;
    if (!a)
        return err_set(err, MUSTER_ENOMEM, NULL);
    atomic_init(&a->refs, 1);
    a->cacerts = BUF_INIT(2 * DER_MAX);
    int rc = cert_chain_from_file(pem, a->at, SERVER_CAS_MAX, &a->n, err);
    const bool none[SERVER_CAS_MAX] = {false};
    if (rc || (!span_empty(span_trim(crosses)) && (rc = cert_chain_from_file(crosses, read, ANCHORS_CROSSES_MAX, &n, err))))
        return rc;
    keep_crosses(a, read, n);
    for (size_t i = 0; i < a->n; i++) {
        const bool own = server_ca_is_own(a->at[i]);
        a->has_theirs = a->has_theirs || !own;
        if (own && !a->newest)
            a->newest = &a->at[i]->key.spki;
    }
    for (size_t i = 0; i < a->n && !a->newest_in_cacerts; i++)
        if (server_ca_is_own(a->at[i]) && is_vouched(a, i))
            a->newest_in_cacerts = &a->at[i]->key.spki;
    if ((rc = anchors_cacerts(a, none, &a->cacerts, err)))
        return rc;
    *out = TAKE(a);
    return 0;
}
