/* courier/url: which URLs a webhook may have.  A strict subset: ASCII, scheme http or https, a host name, IPv4 or [IPv6] address, a port, a
 * path with a query; no credentials, no fragment. */
#ifndef MUSTER_COURIER_URL_H
#define MUSTER_COURIER_URL_H

#include <stdbool.h>

#include "base/err.h"
#include "base/span.h"

#define COURIER_URL_MAX 1024

struct courier_url {
    bool tls;
    struct span host; /* without brackets */
    uint16_t port;    /* the scheme's own where none is named */
    bool literal;     /* the host is an address */
};
/* MUSTER_EINVALID.  The spans point into url. */
int courier_url_parse(struct span url, struct courier_url *out, struct err *err) MUSTER_MUST_CHECK;
/* What an operator may enter: besides, plain http only to loopback, and no address that would be refused (address.h). */
int courier_url_check(struct span url, const char *networks, struct err *err) MUSTER_MUST_CHECK;

#endif
