/* chain_path: the judgement of one path, from a leaf to an anchor (RFC 5280, 6).  A part of chain. */
#ifndef MUSTER_PKI_CHAIN_PATH_H
#define MUSTER_PKI_CHAIN_PATH_H

#include "pki/chain.h"

#define CHAIN_PATH_MAX (CHAIN_MAX_CERTS + 2) /* certificates: what is presented, an issuing CA of ours, and the anchor */

/* Judges path[0], the device's certificate, under path[n - 1], an anchor (2 <= n <= CHAIN_PATH_MAX), each certificate issued by the one behind it.
 * The codes are those of chain_judge(); MUSTER_ECERTUNTRUSTED: this is no path, by names or signatures (and err is not set). */
int chain_path_judge(const struct cert *const *path, size_t n, int64_t now, struct err *err) MUSTER_MUST_CHECK;

#endif
