/* network: lists of networks in CIDR form, as settings and bounds have them. */
#ifndef MUSTER_BASE_NETWORK_H
#define MUSTER_BASE_NETWORK_H

#include <stdbool.h>

#include "base/err.h"

#define NETWORKS_MAX_BYTES 1024

/* Whether one of the networks ("192.0.2.0/24 2001:db8::/32 203.0.113.9", separated by blanks) has the address; false for an empty list, and
 * for an address that is none.  IPv4 stands in its own form, never inside IPv6. */
bool networks_have(const char *networks, const char *address);
/* MUSTER_EINVALID names what is no network. */
int networks_check(const char *networks, struct err *err) MUSTER_MUST_CHECK;

#endif
