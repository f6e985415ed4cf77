/* line_ca: whether a certificate is fit to be the CA of a factory line. */
#ifndef MUSTER_PKI_LINE_CA_H
#define MUSTER_PKI_LINE_CA_H

#include "pki/cert.h"

/* A CA of path length 0 with keyCertSign, for TLS clients and nothing else where it says what for, and constrained, critically, to one subtree of directory names:
 * O=account, OU=line.  MUSTER_EROOTUNFIT with what is wrong. */
int line_ca_fit(const struct cert *c, struct span account, struct span line, int64_t now, struct err *err) MUSTER_MUST_CHECK;

#endif
