/* server: what a device has to know of the gateway: its URL, and the CA certificates by which it knows the gateway from others. */
#ifndef MUSTER_CA_SERVER_H
#define MUSTER_CA_SERVER_H

#include "base/buf.h"

struct ca_server {
    struct buf root; /* PEM: certificates and nothing else; empty: not given */
    struct buf url;  /* one line with its newline; empty: not given */
};
#define CA_SERVER_INIT ((struct ca_server){.root = BUF_INIT(65536), .url = BUF_INIT(512)})
static inline void ca_server_fini(struct ca_server *s) {
    buf_fini(&s->root);
    buf_fini(&s->url);
}

/* Takes PEM as `musterd init` writes server-ca.pem: CA certificates that have not expired at `now`; MUSTER_EINVALID with what is wrong. */
int ca_server_set_root(struct ca_server *s, struct span pem, int64_t now, struct err *err) MUSTER_MUST_CHECK;
/* Takes "https://HOST[:PORT]", blanks around it trimmed.  A path or a slash at the end is refused: a stock client puts its paths right behind. */
int ca_server_set_url(struct ca_server *s, struct span url, struct err *err) MUSTER_MUST_CHECK;

#endif
