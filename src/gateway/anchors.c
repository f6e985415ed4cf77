/* anchors: see anchors.h. */
#include "gateway/anchors.h"

#include "base/hex.h"
#include "pki/pkcs7.h"

#define DER_MAX (ANCHORS_MAX * CERT_DER_MAX + 256)

struct anchors *anchors_ref(struct anchors *a) {
    atomic_fetch_add(&a->refs, 1);
    return a;
}

void anchors_unref(struct anchors *a) {
    if (!a || atomic_fetch_sub(&a->refs, 1) > 1)
        return;
    for (size_t i = 0; i < a->n; i++)
        cert_free(a->at[i]);
    buf_fini(&a->cacerts);
    free(a);
}

static int make_cacerts(struct anchors *a, struct err *err) {
    CLEANUP(buf_fini) struct buf all = BUF_INIT(DER_MAX);
    CLEANUP(buf_fini) struct buf pkcs7 = BUF_INIT(DER_MAX);
    size_t from[ANCHORS_MAX + 1] = {0};
    struct span certs[ANCHORS_MAX];
    for (size_t i = 0; i < a->n; i++) {
        int rc = cert_der(a->at[i], &all);
        if (rc)
            return err_set(err, rc, NULL);
        from[i + 1] = all.n;
    }
    for (size_t i = 0; i < a->n; i++)
        certs[i] = span_sub(buf_span(&all), from[i], from[i + 1] - from[i]);
    int rc = pkcs7_certs(certs, a->n, &pkcs7, err);
    if (rc)
        return rc;
    base64_add_lines(&a->cacerts, buf_span(&pkcs7));
    return buf_check(&a->cacerts, err);
}

int anchors_read(struct span pem, struct anchors **out, struct err *err) {
    CLEANUP(anchors_unref) struct anchors *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, MUSTER_ENOMEM, NULL);
    atomic_init(&a->refs, 1);
    a->cacerts = BUF_INIT(2 * DER_MAX);
    int rc = cert_chain_from_file(pem, a->at, ANCHORS_MAX, &a->n, err);
    if (rc || (rc = make_cacerts(a, err)))
        return rc;
    *out = TAKE(a);
    return 0;
}
