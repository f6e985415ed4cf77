/* client: HTTP/1.1 to servers behind the gateway, on one loop; bodies stream both ways and nothing grows.
 *
 * Connections are kept for a while and used again, but only by requests that may be repeated: the other side may be closing one just now.
 * Such a request is sent once more where a used connection ended without a byte of an answer; no other ever is.  Names are resolved on
 * the loop.  libevent's bufferevents carry the bytes; the answer's head is read by response.c. */
#ifndef MUSTER_HTTP_CLIENT_H
#define MUSTER_HTTP_CLIENT_H

#include <openssl/ssl.h>

#include "base/cleanup.h"
#include "http/response.h"
#include "loop/loop.h"

#define CLIENT_HIGH (128 * 1024) /* bytes of a request that wait for the server: above, http_call_room() says no */

/* Where requests go.  The caller's, immutable, and longer than the client. */
struct http_origin {
    const char *host;      /* name or address, without brackets */
    uint16_t port;
    SSL_CTX *tls;          /* NULL: plain; otherwise it verifies */
    const char *tls_name;  /* that the certificate has to hold, and SNI; an address counts as one */
    int connect_ms;        /* connection and handshake */
    int response_ms;       /* from the end of the request to the head of the answer */
    int idle_ms;           /* without a byte either way while a body moves */
    size_t connections;    /* at most, of one client */
};

struct http_client;
/* names: whether any origin has a name to be resolved: /etc/resolv.conf and /etc/hosts are read now. */
struct http_client *http_client_new(struct loop *l, bool names, struct err *err);
void http_client_free(struct http_client *c); /* after every call; NULL accepted */

struct http_call;
struct http_call_ops {
    /* The final answer's head.  It and its spans are valid during this call. */
    void (*head)(struct http_call *call, const struct http_response *head, void *arg);
    /* A piece of the body, decoded; valid during this call. */
    void (*body)(struct http_call *call, struct span part, void *arg);
    void (*turn)(struct http_call *call, void *arg); /* all that came in one turn was given */
    void (*room)(struct http_call *call, void *arg); /* http_call_room() said no, and there is room now */
    /* One of the two is the last; the call is gone with it. */
    void (*end)(void *arg);
    void (*failed)(const struct err *err, void *arg); /* MUSTER_EUPSTREAM, MUSTER_EUPSTREAMTIME, MUSTER_EBUSY; before or after head() */
};

struct http_request {
    struct span head;  /* request line and fields with the empty line, framing included; copied */
    bool repeatable;   /* a safe method without a body */
    bool to_head;      /* HEAD */
    bool body, chunked; /* http_call_body() follows */
};
/* NULL: err says why (too many connections, out of memory); no callback comes then.  None comes before it returns. */
struct http_call *http_call_new(struct http_client *c, const struct http_origin *to, const struct http_request *rq, const struct http_call_ops *ops, void *arg,
                                struct err *err);
void http_call_body(struct http_call *call, struct span part); /* copies */
void http_call_body_end(struct http_call *call);
bool http_call_room(struct http_call *call);
/* No body() while paused. */
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);
/* Ends it without another callback; the connection with it. */
void http_call_cancel(struct http_call *call); /* NULL accepted */

DEFINE_CLEANUP(http_client_free, struct http_client *)

#endif
