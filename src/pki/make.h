/* make: building certificates.  Only the vault's process (and the offline fleet CA) links a signing key to this.
 *
 * A profile fixes every extension; a caller chooses names, keys and dates inside it and nothing else. */
#ifndef MUSTER_PKI_MAKE_H
#define MUSTER_PKI_MAKE_H

#include "pki/cert.h"
#include "pki/subject.h"

#define MAKE_SERIAL_LEN 16 /* bytes: 6 of time in ms, 10 random; positive */

enum cert_profile {
    PROFILE_FLEET_ROOT,      /* CA, pathlen absent, EKU clientAuth, keyCertSign + cRLSign; self-signed */
    PROFILE_ISSUING_CA,      /* CA, pathlen 0, EKU clientAuth */
    PROFILE_PROVISIONING_CA, /* CA, pathlen 0, EKU clientAuth; self-signed: never chains to a fleet root */
    PROFILE_LINE_CA,         /* of a factory line: CA, pathlen 0, EKU clientAuth, name constraints (critical): only subjects that begin with its own O and OU */
    PROFILE_SERVER_CA,       /* CA, pathlen absent, EKU serverAuth; self-signed */
    PROFILE_DEVICE,          /* EKU clientAuth only, digitalSignature (+ keyEncipherment for RSA), CA false */
    PROFILE_PROVISIONING_KEY,/* as device, under the provisioning CA */
    PROFILE_SERVER,          /* EKU serverAuth, SANs */
    PROFILE_TIME,            /* EKU timeStamping alone, critical (RFC 3161, 2.3); under the server CA */
    PROFILE_OCSP,            /* EKU OCSPSigning alone and id-pkix-ocsp-nocheck (RFC 6960, 4.2.2.2); under a fleet root or an issuing CA */
    PROFILE_CHALLENGE,       /* leaf for tests and the offline CA: subject CN only */
};

/* What the registry keeps of a certificate that was made here, known without reading it again: d2i_X509 costs more than making one. */
struct made_cert {
    struct span der, serial;
    struct hash fingerprint, spki;
    int64_t not_before, not_after;
};

/* Key usages of PROFILE_DEVICE where they are not the usual ones. */
enum make_usage { MAKE_USE_SIGN = 1, MAKE_USE_ENCIPHER = 2, MAKE_USE_AGREE = 4, MAKE_USE_COMMIT = 8 };
#define MAKE_SANS 4
#define MAKE_URL_MAX 255 /* bytes */
struct make_san {
    bool uri; /* or a DNS name */
    struct span value;
};

struct make_request {
    enum cert_profile profile;
    struct subject subject;    /* its common_name 1..64 characters; longer device IDs: see device_id */
    struct span device_id;     /* PROFILE_DEVICE only: over 64 characters it goes to a SAN (otherName-free: URI "urn:muster:device:" percent-encoded) and CN is left to the subject */
    struct make_san san[MAKE_SANS]; /* PROFILE_DEVICE only */
    size_t n_san;
    uint32_t usages;           /* PROFILE_DEVICE only, enum make_usage; 0: the profile's. digitalSignature is always there, and what does not fit the key's kind is left out */
    struct span ocsp;          /* PROFILE_DEVICE only: URL of its CA's OCSP responder (authorityInfoAccess), printable ASCII, at most MAKE_URL_MAX bytes; empty: none is named */
    const char *const *dns;    /* PROFILE_SERVER: NULL-terminated; dNSName SANs; a value that parses as an IP address becomes iPAddress */
    struct span public_key;    /* SubjectPublicKeyInfo */
    int64_t not_before, not_after;
    uint8_t serial[MAKE_SERIAL_LEN];
};

/* Characters of UTF-8: what the bounds of names count. */
size_t make_characters(struct span s);
/* A serial that never repeats: time first (costs.md: narrow index), 80 random bits. */
void make_serial(uint8_t out[MAKE_SERIAL_LEN]);
/* Signs with issuer_key under issuer (NULL: self-signed, public_key must be issuer_key's).  SHA-256 (P-384 keys SHA-384).
 * subjectKeyIdentifier and authorityKeyIdentifier always. */
int make_cert(const struct make_request *rq, const struct cert *issuer, EVP_PKEY *issuer_key, struct buf *der, struct err *err) MUSTER_MUST_CHECK;

/* PKCS#12 (RFC 7292) as a stock aktualizr expects: the leaf's key and certificate, and `cas` as CA certificates, under an empty password.
 * Such a password protects nothing, so nothing is encrypted and the MAC (SHA-256), on which old clients insist, has one iteration.
 * public_key: the key's SubjectPublicKeyInfo where the caller has it (asking the key for it takes an inversion), or SPAN_NONE.
 * out holds a private key: wipe it. */
int make_pkcs12(EVP_PKEY *key, struct span public_key, struct span leaf, struct cert *const *cas, size_t n_cas, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

/* Reads a PKCS#12 of empty password back: key, its certificate, and how many further certificates it has.  MUSTER_EINVALID. */
int make_pkcs12_read(struct span der, EVP_PKEY **key, struct cert **leaf, size_t *n_cas, struct err *err) MUSTER_MUST_CHECK;

#endif
