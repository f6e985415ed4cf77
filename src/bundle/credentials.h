/* credentials: credentials.zip, the form in which a stock aktualizr and aktualizr-cert-provider take a provisioning key (doc/wire.md). */
#ifndef MUSTER_BUNDLE_CREDENTIALS_H
#define MUSTER_BUNDLE_CREDENTIALS_H

#include "base/buf.h"

struct credentials {
    struct span url;       /* of the gateway: autoprov.url */
    struct span p12;       /* the provisioning key, its certificate and the gateway's anchors: autoprov_credentials.p12 */
    struct span server_ca; /* the gateway's anchors in PEM: server_ca.pem */
};
/* The zip's bytes hold a private key: buf_wipe them. */
int credentials_zip(const struct credentials *c, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

#endif
