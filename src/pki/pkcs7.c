/* pkcs7: see pkcs7.h. */
#include "pki/pkcs7.h"

#include "base/cleanup.h"
#include "pki/der.h"

#define HEADS 128 /* bytes of all that is no certificate */

#define ID_SIGNED_DATA DER_BYTES(0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02)
#define NO_CONTENT DER_BYTES(0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01) /* id-data, detached */
#define VERSION_1 DER_BYTES(DER_INTEGER, 0x01, 0x01)
#define NONE DER_BYTES(DER_SET, 0x00)

/* As octets, the shorter one padded with zeros at its end: of two encodings neither is the beginning of the other, so that it never is. */
static int compare(struct span a, struct span b) {
    int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return order ? order : a.n < b.n ? -1 : a.n > b.n;
}

int pkcs7_certs(const struct span *certs, size_t n, struct buf *der, struct err *err) {
    struct span sorted[PKCS7_CERTS_MAX];
    size_t bytes = HEADS;
    if (n < 1 || n > PKCS7_CERTS_MAX)
        return err_set(err, MUSTER_EINTERNAL, "1 to %d certificates go into one answer.", PKCS7_CERTS_MAX);
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && compare(sorted[at - 1], certs[i]) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = certs[i];
        bytes += certs[i].n;
    }
    CLEANUP(buf_fini) struct buf room = BUF_INIT(bytes);
    uint8_t *b = buf_extend(&room, bytes);
    if (!b)
        return err_set(err, MUSTER_ENOMEM, NULL);
    struct der_writer w = der_writer_of(b, bytes);
    der_put(&w, NONE); /* signerInfos */
    size_t end = der_end(&w);
    for (size_t i = n; i > 0; i--)
        der_put(&w, sorted[i - 1]);
    der_wrap(&w, DER_CONTEXT(0), end);
    der_put(&w, NO_CONTENT);
    der_put(&w, NONE); /* digestAlgorithms */
    der_put(&w, VERSION_1);
    der_wrap(&w, DER_SEQUENCE, bytes);
    der_wrap(&w, DER_CONTEXT(0), bytes);
    der_put(&w, ID_SIGNED_DATA);
    der_wrap(&w, DER_SEQUENCE, bytes);
    if (w.failed)
        return err_set(err, MUSTER_EINTERNAL, "Certificates do not fit into their room.");
    buf_add(der, der_written(&w));
    return buf_check(der, err);
}
