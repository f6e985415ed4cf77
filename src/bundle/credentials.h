/* credentials: credentials.zip, the form in which a stock aktualizr and aktualizr-cert-provider take a provisioning key (doc/wire.md). */
#ifndef MUSTER_BUNDLE_CREDENTIALS_H
#define MUSTER_BUNDLE_CREDENTIALS_H

#include "base/buf.h"
#include "pki/key.h"

struct credentials {
    struct span url;       /* of the gateway: autoprov.url */
    struct span p12;       /* the provisioning key, its certificate and the gateway's anchors: autoprov_credentials.p12 */
    struct span server_ca; /* the gateway's anchors in PEM: server_ca.pem */
};
/* The zip's bytes hold a private key: buf_wipe them. */
int credentials_zip(const struct credentials *c, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

/* What a credentials.zip holds, read back.  Entries that a device does not read are passed over. */
struct credentials_found {
    struct buf url, p12, server_ca; /* server_ca empty where there is none; p12 holds a private key */
    bool pushes;                    /* holds what a build server publishes with, which no device should have */
    struct hash key;                /* SHA-256 of the provisioning key's SubjectPublicKeyInfo */
    int64_t not_after;              /* of its certificate; both after credentials_check */
};
#define CREDENTIALS_FOUND_INIT ((struct credentials_found){.url = BUF_INIT(4096), .p12 = BUF_INIT(65536), .server_ca = BUF_INIT(65536)})
static inline void credentials_found_fini(struct credentials_found *f) {
    buf_fini(&f->url);
    buf_wipe(&f->p12);
    buf_fini(&f->server_ca);
}
/* MUSTER_EINVALID with what is wrong: no zip, an entry missing, twice, encrypted or too large. */
int credentials_read(struct span zip, struct credentials_found *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether the PKCS#12 opens with the empty password and holds a key, its certificate, which has not expired, and the gateway's anchors. */
int credentials_check(struct credentials_found *found, int64_t now, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(credentials_found_fini, struct credentials_found)

#endif
