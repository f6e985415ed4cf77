/* transport: the bytes of one connection, under TLS or as they are; conn.c drives it and does not know which.
 *
 * Non-blocking throughout.  The descriptor stays the caller's.  libssl's error queue is empty after each call. */
#ifndef MUSTER_HTTP_TRANSPORT_H
#define MUSTER_HTTP_TRANSPORT_H

#include "http/tls.h"

enum transport_result {
    TRANSPORT_DONE,
    TRANSPORT_WANT_READ,  /* again once the socket is readable */
    TRANSPORT_WANT_WRITE,
    TRANSPORT_END,        /* the peer sends no more */
    TRANSPORT_BROKEN,
};

struct transport_ops;
struct transport {
    const struct transport_ops *ops;
    int fd;
    struct tls_server *tls; /* NULL: plain */
    SSL *ssl; /* NULL: plain, or not started */
    bool offers; /* sessions can be resumed */
    unsigned long fault; /* libssl's reason for TRANSPORT_BROKEN; 0: it was the network */
};

/* tls NULL: plain.  Takes no memory: that comes with the first transport_handshake(), for which the client should have said something. */
void transport_init(struct transport *t, struct tls_server *tls, int fd);
/* The same memory without a handshake, for who wants to speak of it; does nothing where it is there.  MUSTER_ENOMEM. */
int transport_start(struct transport *t) MUSTER_MUST_CHECK;
/* in_order: the peer may resume its session although the connection is not shut down. */
void transport_close(struct transport *t, bool in_order);
enum transport_result transport_handshake(struct transport *t);
/* *n bytes where TRANSPORT_DONE, at least one. */
enum transport_result transport_read(struct transport *t, void *to, size_t max, size_t *n);
enum transport_result transport_write(struct transport *t, const void *from, size_t size, size_t *n);
/* Bytes that no event on the socket would announce. */
bool transport_pending(const struct transport *t);
/* Says that nothing more is sent (close_notify); the socket stays open. */
void transport_end(struct transport *t);
/* The session cannot be resumed any more. */
void transport_forget(struct transport *t);
/* Behind the handshake: the peer gets what it needs to resume, which TLS 1.2 gave it before.  Nothing of the kind is sent without it. */
void transport_offer(struct transport *t);

#endif
