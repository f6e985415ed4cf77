/* transport: see transport.h.  A kind of transport is a row of functions; a plain one stands on a Unix socket, whose other end the layer
 * above knows by the file's mode and the kernel's word for who it is. */
#include "http/transport.h"

#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>

struct transport_ops {
    int (*start)(struct transport *t);
    enum transport_result (*handshake)(struct transport *t);
    enum transport_result (*read)(struct transport *t, void *to, size_t max, size_t *n);
    enum transport_result (*write)(struct transport *t, const void *from, size_t size, size_t *n);
    bool (*pending)(const struct transport *t);
    void (*end)(struct transport *t);
    void (*close)(struct transport *t, bool in_order);
    void (*forget)(struct transport *t);
    void (*offer)(struct transport *t);
};

/* --- TLS ----------------------------------------------------------------------------------------------------------------------- */

static enum transport_result tls_result(struct transport *t, int result) {
    if (result == 1)
        return TRANSPORT_DONE;
    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return TRANSPORT_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TRANSPORT_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TRANSPORT_END;
    }
    t->fault = ERR_peek_error();
    ERR_clear_error();
    return TRANSPORT_BROKEN;
}

/* So that what is found behind a call is the call's.  There is hardly ever one, and to look costs a tenth of clearing. */
static void forget_errors(void) {
    if (ERR_peek_error())
        ERR_clear_error();
}

/* Not before the client's first bytes: an SSL in its handshake has 40 KB, and who says nothing is not worth that. */
static int tls_start(struct transport *t) {
    if (t->ssl)
        return 0;
    t->ssl = tls_server_accept(t->tls);
    if (t->ssl && SSL_set_fd(t->ssl, t->fd) == 1) {
        t->offers = SSL_get_num_tickets(t->ssl) > 0;
        SSL_set_num_tickets(t->ssl, 0);
        return 0;
    }
    SSL_free(t->ssl);
    t->ssl = NULL;
    ERR_clear_error();
    return MUSTER_ENOMEM;
}

static enum transport_result tls_handshake(struct transport *t) {
    if (tls_start(t))
        return TRANSPORT_BROKEN;
    forget_errors();
    return tls_result(t, SSL_do_handshake(t->ssl));
}

static enum transport_result tls_read(struct transport *t, void *to, size_t max, size_t *n) {
    forget_errors();
    return tls_result(t, SSL_read_ex(t->ssl, to, max, n));
}

static enum transport_result tls_write(struct transport *t, const void *from, size_t size, size_t *n) {
    forget_errors();
    return tls_result(t, SSL_write_ex(t->ssl, from, size, n));
}

static bool tls_pending(const struct transport *t) { return SSL_has_pending(t->ssl); }

static void tls_end(struct transport *t) {
    if (!t->ssl)
        return;
    SSL_shutdown(t->ssl);
    ERR_clear_error();
}

/* libssl forgets the session of a connection that was not shut down; a device whose network failed may resume all the same.
 * Fatal alerts and transport_forget() have removed it already. */
static void tls_close(struct transport *t, bool in_order) {
    if (in_order && t->ssl)
        SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(t->ssl);
    t->ssl = NULL;
}

static void tls_forget_session(struct transport *t) {
    if (t->ssl)
        tls_forget(t->ssl);
}

/* A ticket, written by the next read or write.  Not by the handshake itself: only then is it known whether the session is worth keeping. */
static void tls_offer(struct transport *t) {
    if (t->offers && SSL_version(t->ssl) == TLS1_3_VERSION)
        SSL_new_session_ticket(t->ssl);
    ERR_clear_error();
}

static const struct transport_ops TLS_OPS = {tls_start, tls_handshake, tls_read, tls_write, tls_pending, tls_end, tls_close, tls_forget_session, tls_offer};

/* --- plain ---------------------------------------------------------------------------------------------------------------------- */

static enum transport_result plain_result(ssize_t result, enum transport_result want, size_t *n) {
    *n = result > 0 ? (size_t)result : 0;
    if (result > 0)
        return TRANSPORT_DONE;
    if (result == 0)
        return TRANSPORT_END;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? want : TRANSPORT_BROKEN;
}

static enum transport_result plain_handshake(struct transport *t) { return TRANSPORT_DONE; }
static enum transport_result plain_read(struct transport *t, void *to, size_t max, size_t *n) {
    return plain_result(recv(t->fd, to, max, 0), TRANSPORT_WANT_READ, n);
}
static enum transport_result plain_write(struct transport *t, const void *from, size_t size, size_t *n) {
    return plain_result(send(t->fd, from, size, MSG_NOSIGNAL), TRANSPORT_WANT_WRITE, n);
}
static bool plain_pending(const struct transport *t) { return false; }
static int plain_start(struct transport *t) { return 0; }
static void plain_nothing(struct transport *t) {}
static void plain_close(struct transport *t, bool in_order) {}

static const struct transport_ops PLAIN_OPS = {plain_start, plain_handshake, plain_read, plain_write, plain_pending, plain_nothing, plain_close, plain_nothing, plain_nothing};

/* --- either ----------------------------------------------------------------------------------------------------------------------- */

void transport_init(struct transport *t, struct tls_server *tls, int fd) { *t = (struct transport){.ops = tls ? &TLS_OPS : &PLAIN_OPS, .tls = tls, .fd = fd}; }
int transport_start(struct transport *t) { return t->ops->start(t); }
void transport_close(struct transport *t, bool in_order) {
    t->ops->close(t, in_order);
    t->fd = -1;
}
enum transport_result transport_handshake(struct transport *t) { return t->ops->handshake(t); }
enum transport_result transport_read(struct transport *t, void *to, size_t max, size_t *n) { return t->ops->read(t, to, max, n); }
enum transport_result transport_write(struct transport *t, const void *from, size_t size, size_t *n) { return t->ops->write(t, from, size, n); }
bool transport_pending(const struct transport *t) { return t->ops->pending(t); }
void transport_end(struct transport *t) { t->ops->end(t); }
void transport_forget(struct transport *t) { t->ops->forget(t); }
void transport_offer(struct transport *t) { t->ops->offer(t); }
