/* client_part: what the calls of the client (client.c) and its connections (client_wire.c) share. */
#ifndef MUSTER_HTTP_CLIENT_PART_H
#define MUSTER_HTTP_CLIENT_PART_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <sys/queue.h>

#include "http/chunked.h"
#include "http/client.h"

struct wire {
    TAILQ_ENTRY(wire) entry; /* of the client's list: busy or idle */
    struct http_client *client;
    const struct http_origin *to;
    struct bufferevent *bev;
    struct loop_timer *timer;
    struct http_call *call; /* NULL: idle */
    bool connected, used;   /* used: it carried a request before */
};
TAILQ_HEAD(wires, wire);

struct http_client {
    struct loop *loop;
    struct evdns_base *names; /* NULL: addresses alone */
    struct wires busy, idle;
    size_t n_idle;
};

enum call_state { CALL_CONNECT, CALL_HEAD, CALL_BODY };

struct http_call {
    struct http_client *client;
    const struct http_origin *to;
    const struct http_call_ops *ops;
    void *arg;
    struct wire *wire;
    struct evbuffer *request; /* what has to be sent, kept until there is a wire for it; repeatable: the whole of it, for a second try */
    struct http_request rq;
    enum call_state state;
    bool sent;                /* the request is complete */
    bool paused, full, got;   /* full: room() is owed; got: a byte of the answer has come */
    bool deaf, lost;          /* the server takes no more of the request; a part of it was lost for want of memory */
    short ended;              /* BEV_EVENT_…: the connection has ended, and what came before is still being given; 0: it goes on */
    size_t waiting;           /* bytes of the request that had not left when somebody looked last */
    struct head_scan scan;
    struct http_response head;
    struct http_field fields[HEAD_FIELDS_MAX];
    struct chunked chunked;
    int64_t left;
    struct buf piece;
    int refs;                 /* give()'s besides: a callback may end the call */
    bool over;
};

/* A wire ends, or is kept for another request; its call, if it has one, has none then. */
void client_wire_free(struct wire *w);
void client_wire_return(struct wire *w);
/* One that is new, or idle, becomes the call's. */
void client_wire_borrow(struct wire *w, struct http_call *call);
/* The newest idle one that is fit to be used again; NULL: none. */
struct wire *client_wire_idle(struct http_client *c, const struct http_origin *to);
/* How many are busy. */
size_t client_busy_with(const struct http_client *c, const struct http_origin *to);
struct bufferevent *client_bev_new(struct http_client *c, const struct http_origin *to); /* that connects and verifies as the origin wants; NULL: out of memory */

#endif
