/* forwarded_cert: the client certificate that another proxy hands over in header fields.
 *
 * Possession of its key was proven to that proxy, not to us: whoever may send these fields may name any certificate, so they are read on
 * the /auth socket alone (auth.c).  Pure functions over what was sent. */
#ifndef MUSTER_GATEWAY_FORWARDED_CERT_H
#define MUSTER_GATEWAY_FORWARDED_CERT_H

#include "http/head.h"
#include "pki/chain.h"

/* The fields, exactly one form of which has to be there:
 *   X-Muster-Client-Cert        PEM, percent-encoded: nginx's $ssl_client_escaped_cert, which is the leaf alone; more may follow it
 *   X-Forwarded-Client-Cert     Envoy's: one element with Cert="…", Chain="…" or both
 *   X-Muster-Client-Der         DER in base64, with X-Muster-Client-Chain-Der, DER after DER in base64: haproxy's ssl_c_der and ssl_c_chain_der
 * An empty field counts as absent: proxies send one where the client had no certificate. */
struct forwarded_field {
    int form;
    struct span value, more; /* into the head */
};
/* MUSTER_ECERTREQUIRED: none; MUSTER_EINVALID: several forms, or one field twice. */
int forwarded_cert_find(const struct http_field *fields, size_t n, struct forwarded_field *out, struct err *err) MUSTER_MUST_CHECK;

struct forwarded_cert {
    struct cert *at[CHAIN_MAX_CERTS]; /* leaf first; owned */
    size_t n;
};
/* MUSTER_ECERTMALFORMED, MUSTER_ECHAINLONG. */
int forwarded_cert_read(const struct forwarded_field *from, struct forwarded_cert *out, struct err *err) MUSTER_MUST_CHECK;
void forwarded_cert_fini(struct forwarded_cert *c);

DEFINE_CLEANUP_FINI(forwarded_cert_fini, struct forwarded_cert)

#endif
