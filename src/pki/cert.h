/* cert: one X.509 certificate, parsed once (RFC 5280).  d2i_X509 is the dearest step of a handshake on OpenSSL 3.0, so the
 * parsed form is kept and everything else reads from it. */
#ifndef MUSTER_PKI_CERT_H
#define MUSTER_PKI_CERT_H

#include <openssl/x509.h>

#include "pki/key.h"

#define CERT_DER_MAX (16 * 1024) /* bytes of a certificate that is read */

struct cert {
    X509 *x;                     /* owned */
    struct hash fingerprint;     /* SHA-256 of the DER */
    struct key_facts key;
    int64_t not_before, not_after; /* seconds since 1970; not_after CLOCK_NO_EXPIRY where 99991231235959Z */
    bool ca;                     /* basicConstraints CA, or a version 1 self-signed certificate */
    bool self_signed;            /* subject equals issuer and the signature verifies with its own key */
};

/* From DER; whole input, MUSTER_ECERTMALFORMED else.  At most 16 KiB. */
int cert_from_der(struct span der, struct cert **out, struct err *err) MUSTER_MUST_CHECK;
/* The one that *all begins with; *all is what is behind it. */
int cert_from_der_next(struct span *all, struct cert **out, struct err *err) MUSTER_MUST_CHECK;
/* Takes a reference to x (X509_up_ref). */
int cert_from_x509(X509 *x, struct cert **out, struct err *err) MUSTER_MUST_CHECK;
/* The same where the facts of just this certificate are known: facts->x is not looked at. */
int cert_from_x509_known(X509 *x, const struct cert *facts, struct cert **out) MUSTER_MUST_CHECK;
int cert_fingerprint(const X509 *x, struct hash *out) MUSTER_MUST_CHECK;
/* The one certificate of a PEM or DER file; several PEM blocks: MUSTER_EINVALID "holds N certificates".  A private key in the
 * file is refused with a text that says so. */
int cert_from_file(struct span file, struct cert **out, struct err *err) MUSTER_MUST_CHECK;
/* Leaf first.  PEM (several) or DER (one); at most max certificates. */
int cert_chain_from_file(struct span file, struct cert **out, size_t max, size_t *n, struct err *err) MUSTER_MUST_CHECK;
void cert_free(struct cert *c);
int cert_der(const struct cert *c, struct buf *out) MUSTER_MUST_CHECK;
int cert_pem(const struct cert *c, struct buf *out) MUSTER_MUST_CHECK;

/* Names for people: RFC 2253 one line in UTF-8, control characters escaped. */
void cert_subject_text(const struct cert *c, struct buf *out);
void cert_issuer_text(const struct cert *c, struct buf *out);
/* Serial number as lower-case hex. */
void cert_serial_hex(const struct cert *c, struct buf *out);
/* Subject key identifier (RFC 5280, 4.2.1.2) as hex; "" where absent. */
void cert_ski_hex(const struct cert *c, struct buf *out);

/* Whether the extended key usage, where present, allows TLS clients: clientAuth or anyExtendedKeyUsage; absent: yes. */
bool cert_allows_client(const struct cert *c);

/* Where a root's rule looks for the device ID. */
enum id_rule { ID_RULE_CN, ID_RULE_SAN_URI, ID_RULE_SAN_DNS, ID_RULE_SERIAL_NUMBER, ID_RULE_FINGERPRINT };
/* "cn", "san-uri", "san-dns", "serial-number", "key-fingerprint" */
const char *id_rule_name(enum id_rule rule);
int id_rule_parse(struct span text, enum id_rule *out) MUSTER_MUST_CHECK;
/* Exactly one value, decoded to UTF-8 (PrintableString, UTF8String, IA5String, T61 as Latin-1 refused, BMP, Universal), bytes
 * as they are: no folding, no trimming.  MUSTER_EIDNONE, MUSTER_EIDSEVERAL, MUSTER_EIDUNDECODABLE (also control characters, an
 * embedded NUL, over 128 bytes). key-fingerprint: lower-case hex of SHA-256 of the SubjectPublicKeyInfo. */
int cert_device_id(const struct cert *c, enum id_rule rule, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Of a certificate that Muster issued: the ID in its URI (device_uri.h), else the subject's CN. */
int cert_own_device_id(const struct cert *c, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Subject CN by the same decoding, for challenges. */
int cert_common_name(const struct cert *c, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

/* Whether `issuer`'s key signed `c`, and nothing more. */
bool cert_signed_by(const struct cert *c, const struct cert *issuer);

DEFINE_CLEANUP(cert_free, struct cert *)

#endif
