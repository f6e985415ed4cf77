/* est_request: see est_request.h. */
#include "gateway/est_request.h"

#include "base/hex.h"
#include "pki/der.h"

static int not_base64(struct span body, struct err *err) {
    const char *what = "is not base64 of a certificate request (PKCS#10) in DER";
    if (span_find(body, SPAN_LIT("PRIVATE KEY-----")) >= 0)
        what = "holds a private key, which stays on the device; it takes the request alone";
    else if (span_find(body, SPAN_LIT("-----BEGIN ")) >= 0)
        what = "is PEM: leave out its first and last line (-----BEGIN …, -----END …) and send the base64 between them";
    else if (body.p[0] == DER_SEQUENCE && (body.n < 2 || body.p[1] & 0x80))
        what = "is DER as it is, and has to be base64 of it";
    return err_set(err, MUSTER_ECSR, "The body %s.", what);
}

int est_request_der(struct span body, struct buf *der, struct err *err) {
    if (span_trim(body).n == 0)
        return err_set(err, MUSTER_ECSR, "The body is empty; it takes base64 of a certificate request (PKCS#10) in DER.");
    int rc = base64_decode_lines(body, der);
    return rc == MUSTER_ENOMEM ? err_set(err, rc, NULL) : rc ? not_base64(body, err) : 0;
}

int est_request_read(struct span body, struct csr_claim *out, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(EST_BODY_MAX);
    int rc = est_request_der(body, &der, err);
    return rc ? rc : csr_claim_read(buf_span(&der), out, err);
}

int est_request_read_names(struct span body, struct csr_claim *out, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(EST_BODY_MAX);
    int rc = est_request_der(body, &der, err);
    return rc ? rc : csr_claim_read_names(buf_span(&der), out, err);
}
