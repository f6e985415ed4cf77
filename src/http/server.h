/* server: HTTP/1.1 over TLS, for the gateway's and the admin listener alike; and without TLS for a proxy on a Unix socket.
 *
 * One http_server lives on one loop and accepts on a listening socket that somebody else made.  It reads the accepted subset
 * of RFC 9112 only (head.h) and refuses anything else; every phase has an absolute deadline that no byte restarts; every size
 * has a bound.  It knows nothing of devices, accounts or tokens: `struct peer_ops` is how a layer above says who the peer is
 * and whether a request may go on.
 *
 * An exchange (one request and its answer) outlives its connection where a handler still holds it: replies to a client that
 * has gone are dropped.  All functions run on the server's loop.  The process has to ignore SIGPIPE; http_server_new() sees to it. */
#ifndef MUSTER_HTTP_SERVER_H
#define MUSTER_HTTP_SERVER_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/uuid.h"
#include "http/head.h"
#include "http/router.h"
#include "http/tls.h"
#include "loop/loop.h"

struct http_server;
struct http_conn;
struct http_exchange;

struct http_limits {
    int handshake_ms;     /* 10000 */
    int head_ms;          /* 10000, from the first byte of the head (or the end of the handshake) */
    int body_ms;          /* 30000, or as long as body_rate is kept on average */
    int body_rate;        /* bytes a second: 1000 */
    int idle_ms;          /* 300000 between requests */
    int write_ms;         /* 30000 for an answer, or as long as the client takes body_rate on average */
    int linger_ms;        /* 2000 for the client to read the last answer before the socket is closed */
    size_t head_bytes;    /* 16384, request line and fields */
    size_t target_bytes;  /* 4096; at most HEAD_TARGET_MAX */
    size_t fields;        /* 64; at most HEAD_FIELDS_MAX */
    bool names_in_path;   /* false; true: %2f and %5c may stand in a path, for names in {parameters} */
    bool old_version;     /* false; true: HTTP/1.0 is served as well, for simple clients of what anybody may read */
    size_t connections;   /* 4096 per server; above, one is closed: the oldest that has asked nothing for a second, the oldest idle one, or a slow one */
};
extern const struct http_limits HTTP_LIMITS_DEFAULT;

/* How a layer above judges peers.  Every member may be NULL. */
struct peer_ops {
    /* The handshake (full or resumed; ssl is NULL where there is none) is done: who is this?  May do bounded CPU work, may not block.  *peer is the layer's own,
     * kept with the connection.  May call http_conn_abort(). */
    void (*identify)(struct http_conn *c, SSL *ssl, void **peer, void *arg);
    /* The head of a request is there and routed; nothing of the body has been read, no 100 Continue sent.  Exactly one of
     * http_exchange_admit() or http_reply…() must follow, now or later. */
    void (*admit)(struct http_exchange *x, void *peer, void *arg);
    /* Nothing holds the peer any more, the connection and all its exchanges are gone: free it.  Called where *peer was set. */
    void (*gone)(void *peer, void *arg);
    /* TLS has ended the connection before it came to a request: a handshake that failed, or a client that says only after it, as TLS 1.3
     * has it, that it does not accept us.  peer: as identify left it; NULL before.  The connection closes in any case. */
    void (*tls_failed)(struct http_conn *c, SSL *ssl, const struct err *why, void *peer, void *arg);
};

struct http_server_options {
    struct loop *loop;
    int listen_fd;                 /* owned by the server from now on, also where http_server_new() fails */
    struct tls_server *tls;        /* shared by servers on several loops; not owned.  NULL: plain, on a Unix socket */
    /* Whether a connection from there begins with a PROXY header (version 2), out of which http_conn_address() then comes.  NULL: none
     * does.  One of whom it is expected and that does not send it in time is closed. */
    bool (*is_balancer)(const struct sockaddr *from, void *arg);
    /* Whether a client of that address is not worth a handshake: its connection is closed at once.  NULL: every one is. */
    bool (*turns_away)(const struct sockaddr *from, void *arg);
    const struct http_router *router; /* not owned, immutable */
    const struct http_route *fallback; /* takes what no row of the router does, any method (path is not looked at); NULL: 404 and 405 */
    struct http_limits limits;
    const struct peer_ops *peer_ops;
    void *arg;                     /* for peer_ops, handlers and http_conn_arg() */
    const char *server_name;       /* value of the Server field; NULL: none */
    /* Shapes an error's body: NULL for the default, RFC 9457 problem details.  OTA Connect's shape: gateway.  The exchange may
     * be one whose head was never understood: then http_path() and the like are empty. */
    void (*error_body)(struct http_exchange *x, const struct err *err, struct buf *body, const char **content_type);
    const char *challenge;         /* WWW-Authenticate of every 401; NULL: whoever answers it says it by itself */
    int (*error_status)(const struct http_exchange *x, const struct err *err); /* NULL: the table's (base/errors.def) */
    /* For logs and counters: called once an exchange that is answered, before the first byte of an answer that is whole leaves, or once one
     * that is streamed has ended.  bytes: of the body; refusal: what http_reply_err() was given, or NULL.  NULL: not called. */
    void (*answered)(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal);
};

struct http_server *http_server_new(const struct http_server_options *o, struct err *err);
/* Stops accepting, closes idle connections, answers what is under way with Connection: close, calls drained(arg) from the loop
 * when the last connection is gone or after_ms have passed (what is left is then closed). */
void http_server_drain(struct http_server *s, int after_ms, loop_fn drained, void *arg);
/* Closes everything at once; not from a handler or peer_ops, but well from drained().  Exchanges that are still held stay valid,
 * so `arg`, router and peer_ops have to live until they were let go. */
void http_server_free(struct http_server *s);
size_t http_server_connections(const struct http_server *s);
/* Calls fn for every open connection that has a peer; fn may call http_conn_abort on that one. */
void http_server_each(struct http_server *s, void (*fn)(struct http_conn *c, void *peer, void *arg), void *arg);

/* A time as header fields have it (RFC 9110, 5.6.7). */
#define HTTP_DATE_MAX 40
void http_date(int64_t t, char out[HTTP_DATE_MAX]);

/* Connection. */
const struct sockaddr *http_conn_address(const struct http_conn *c); /* the client's; IPv4-mapped ones already as IPv4; AF_UNIX: none */
#define HTTP_ADDRESS_MAX 64
void http_conn_address_text(const struct http_conn *c, char out[HTTP_ADDRESS_MAX]); /* numeric, without the port; "" for NULL and AF_UNIX */
void http_address_text(const struct sockaddr *a, char out[HTTP_ADDRESS_MAX]);
SSL *http_conn_ssl(struct http_conn *c); /* NULL: plain */
/* Who opened the other end of a Unix socket, by the kernel's word.  False: no such connection. */
bool http_conn_user(const struct http_conn *c, uid_t *uid);
void *http_conn_peer(struct http_conn *c);
struct loop *http_conn_loop(struct http_conn *c);
void *http_conn_arg(struct http_conn *c); /* options.arg */
/* The exchange under way, or NULL. */
struct http_exchange *http_conn_exchange(struct http_conn *c);
/* In identify(): the session is not worth keeping, and the client gets nothing to resume it with. */
void http_conn_forget(struct http_conn *c);
/* Ends the connection at once, in whatever phase, without an answer where one has begun.  Its TLS session is dropped as well. */
void http_conn_abort(struct http_conn *c);

/* The request. */
struct span http_method(const struct http_exchange *x);
struct span http_target(const struct http_exchange *x); /* raw path and query, for whoever passes the request on */
/* Checked: no "..", no "//", no %2f, no %5c, no NUL, encodings complete and of UTF-8.  Normalised once (RFC 3986, 6.2.2: what needs no encoding
 * has none, hexadecimal digits are capitals), where limits.names_in_path is false; otherwise as sent.  A decoded path is never made. */
struct span http_path(const struct http_exchange *x);
/* The same; of a head that was refused, what seems to be the beginning of its path, unchecked: good for the shape of an error and nothing else. */
struct span http_claimed_path(const struct http_exchange *x);
struct span http_query(const struct http_exchange *x);  /* raw, without '?' */
struct span http_host(const struct http_exchange *x);   /* Host without port, as sent, brackets kept */
/* The one field of that name (any case); SPAN_NONE: absent.  Fields that may not repeat were refused already; others: joined with ", ". */
struct span http_field(const struct http_exchange *x, const char *name);
/* All of them in their order. */
const struct http_field *http_fields(const struct http_exchange *x, size_t *n);
/* Path parameter of the route, percent-decoded, UTF-8; SPAN_NONE: absent. */
struct span http_param(const struct http_exchange *x, const char *name);
/* Query parameter, the first of that name, decoded, UTF-8; false: absent. */
bool http_query_param(const struct http_exchange *x, const char *name, struct span *value);
struct span http_body(const struct http_exchange *x);   /* whole; complete when the handler runs */
const struct http_route *http_exchange_route(const struct http_exchange *x); /* NULL: no route matched (a 404 is under way; admit is still asked first) */
/* What the table alone says to this request, MUSTER_ENOTFOUND or MUSTER_EHTTPMETHOD; for the fallback's handler, which may have nothing else. */
void http_reply_unrouted(struct http_exchange *x);
/* NULL once the connection has ended.  Nothing is read while somebody holds the exchange: a client that goes then is noticed when it is
 * answered (http/stream.h: at once); http_conn_abort(), a drain's end and http_server_free() show at once. */
struct http_conn *http_exchange_conn(const struct http_exchange *x);
void *http_exchange_peer(const struct http_exchange *x); /* valid as long as the exchange is held, even when the connection has gone */
/* A peer of the exchange's own, where a connection carries the requests of many; once, in admit().  Taken over: gone() is called when the
 * exchange ends. */
void http_exchange_set_peer(struct http_exchange *x, void *peer);
void *http_exchange_arg(const struct http_exchange *x); /* options.arg, likewise */
struct arena *http_exchange_arena(struct http_exchange *x); /* at most 256 KiB */
/* The id of the request: a UUID, made when it is asked for first.  It stands in every log line about the request and in the answer's
 * X-Request-Id.  None is ever taken from a client. */
const char *http_exchange_id(struct http_exchange *x);
/* Gives it another one, as long as nobody has asked. */
void http_exchange_set_id(struct http_exchange *x, const struct uuid *id);
int64_t http_exchange_ms(const struct http_exchange *x); /* since its head was read */
/* A slot for the layer above between admit and handler. */
void http_exchange_set_data(struct http_exchange *x, void *data);
void *http_exchange_data(const struct http_exchange *x);
/* The exchange lives until it was answered, by itself; a hold makes it live longer. */
void http_exchange_ref(struct http_exchange *x);
void http_exchange_unref(struct http_exchange *x);

/* After admit(): read the body (at most the route's limit) and run the route's handler; without a route: the 404 (or 405 with
 * Allow).  Where the client has gone, the exchange ends here and no handler runs. */
void http_exchange_admit(struct http_exchange *x);

/* The answer, exactly one; on a client that has gone: dropped.  The exchange may be freed by it.  Small answers leave in one
 * write and one TLS record.  Where the body was not read to its end, the connection closes after the answer. */
void http_reply_field(struct http_exchange *x, const char *name, const char *value); /* before the reply; one with control characters turns the answer into a 500 */
void http_reply(struct http_exchange *x, int status, const char *content_type, struct span body); /* copies body */
void http_reply_buf(struct http_exchange *x, int status, const char *content_type, struct buf *body, bool secret); /* takes the bytes over; secret: wiped after sending */
/* By the table of errors: status, Retry-After, body by error_body. */
void http_reply_err(struct http_exchange *x, const struct err *err);
/* A status and no body at all (targets; 204). */
void http_reply_empty(struct http_exchange *x, int status);
/* Close the connection after this answer; before the reply. */
void http_reply_close(struct http_exchange *x);

DEFINE_CLEANUP(http_server_free, struct http_server *)

#endif
