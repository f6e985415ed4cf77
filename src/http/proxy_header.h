/* proxy_header: the reader of the PROXY protocol's binary header, version 2 (haproxy.org, doc/proxy-protocol.txt, 2.2).
 *
 * A pure function over bytes.  Accepted: PROXY for TCP over IPv4 and IPv6, and LOCAL.  Version 1, datagrams, Unix sockets and addresses
 * of no family are refused: each would leave the client's address to be guessed, and addresses are what `--source` rules judge. */
#ifndef MUSTER_HTTP_PROXY_HEADER_H
#define MUSTER_HTTP_PROXY_HEADER_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/span.h"

#define PROXY_HEADER_LEAST 16
#define PROXY_HEADER_MAX 4096 /* bytes in all, type-length-values included; what balancers send has a few hundred at most */

struct proxy_header {
    bool local; /* the balancer speaks for itself (a health check): there is no client address */
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } source; /* where not local */
};

/* How long the header is, as far as `bytes`, its beginning, shows: *total > bytes.n while more is needed.  Refuses at the first byte
 * that cannot belong to one: MUSTER_EINVALID. */
int proxy_header_scan(struct span bytes, size_t *total, struct err *err) MUSTER_MUST_CHECK;
/* Reads a whole header, exactly *total bytes.  A CRC32c among the type-length-values has to be right; the others are passed over, but
 * have to fill the header exactly.  MUSTER_EINVALID. */
int proxy_header_read(struct span bytes, struct proxy_header *out, struct err *err) MUSTER_MUST_CHECK;

#endif
