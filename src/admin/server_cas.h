/* server_cas: what the vault says of the server CAs, as control uses it: what is behind the gateway's certificates, what credentials.zip and devices are given, and which
 * certificates are out of date.  Taken anew at each look at the certificates, and after each change. */
#ifndef MUSTER_ADMIN_SERVER_CAS_H
#define MUSTER_ADMIN_SERVER_CAS_H

#include "admin/internal.h"

struct server_cas {
    struct cert *at[SERVER_CAS_MAX]; /* owned; the oldest first, the current one last */
    size_t n;                        /* 0: nothing is known yet */
    int64_t number[SERVER_CAS_MAX];  /* theirs in the registry; 0: not known yet */
    struct buf chain;                /* PEM: what goes behind a server certificate, so that who knows an older one alone, or a newer one, can follow */
    struct buf crosses;              /* PEM: all that they say of one another; DIR/tls/crosses.pem */
    enum vault_backend backend;      /* of the current one's key */
};

void server_cas_init(struct server_cas *s);
void server_cas_fini(struct server_cas *s);
/* Takes over what the view says: c->server_cas, c->server_ca, DIR/tls/crosses.pem.  1: that file has changed, and the gateway has to look.  On a failure what was known counts on. */
int server_cas_take(struct control *c, const struct vault_server_view *view, struct err *err) MUSTER_MUST_CHECK;
const struct cert *server_cas_current(const struct control *c); /* NULL: nothing is known yet */
/* Under which the gateway's certificates have to be: server_cas_signing() of pki/server_cas.h; NULL: nothing is known yet. */
const struct cert *server_cas_signer(const struct control *c);
/* Writes it into the registry where that says something else. */
typedef void (*server_cas_fn)(void *arg, int rc, const struct err *err);
void server_cas_register(struct control *c, server_cas_fn done, void *arg);
/* Whether a certificate stands under one of them. */
bool server_cas_signed(const struct control *c, const struct cert *cert);
/* Whether every certificate in DIR/tls stands under the one where it has to. */
bool server_cas_all_current(const struct control *c);

/* server_ca.c: a change of them and a look at the certificates never run at once. */
void server_ca_go_on(struct control *c);

#endif
