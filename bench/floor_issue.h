/* floor_issue: what POST /devices costs at least: a P-256 key, a certificate of the shape that Muster's have, one signature, and a PKCS#12
 * with the three of them; and what EST does: the certificate alone, in a PKCS#7 in base64.  Written for bench_floor alone, on libcrypto's primitives and its own DER. */
#ifndef MUSTER_BENCH_FLOOR_ISSUE_H
#define MUSTER_BENCH_FLOOR_ISSUE_H

#include "floor_csr.h"

/* PEM files: the CA that signs, its key, and the certificate that goes along as the server's CA. */
void floor_issue_init(const char *ca_cert, const char *ca_key, const char *server_ca);
/* The PKCS#12 for this device, in storage that the next call overwrites. */
const unsigned char *floor_issue(const char *device_id, size_t device_id_n, size_t *n);
/* The certificate for the device and key of this request; likewise. */
const unsigned char *floor_certify(const struct floor_csr *csr, size_t *n);

#endif
