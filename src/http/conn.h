/* conn: what server.c, the files of conn_step.h and exchange.c share, and nobody else includes.
 *
 * Who holds what: a server outlives its connections' memory, a connection's memory its exchanges.  A connection whose socket
 * has gone is `dead`: its transport is closed, its peer stays until the last exchange lets go. */
#ifndef MUSTER_HTTP_CONN_H
#define MUSTER_HTTP_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/uuid.h"
#include "http/chunked.h"
#include "http/route.h"
#include "http/server.h"
#include "http/transport.h"

#define CONN_READ_MAX 16384 /* the content of a TLS record: what one SSL_read gives, and one SSL_write takes without a second record */

enum conn_state {
    CONN_HANDSHAKE,
    CONN_HEAD,   /* a head is arriving, or the first one is awaited */
    CONN_WAIT,   /* admit() or the handler has it */
    CONN_BODY,   /* admitted: the body is arriving */
    CONN_WRITE,  /* the answer leaves */
    CONN_IDLE,   /* between requests: owns no buffer */
    CONN_LINGER, /* all said; what the client still sends is thrown away for a bounded time, lest a RST destroys the answer */
};

struct http_conn {
    TAILQ_ENTRY(http_conn) all, idle; /* idle: in the server's list of idle ones, or of silent ones */
    struct http_server *server; /* a reference */
    int refs;                   /* the socket's, one an exchange, one while conn_run is on the stack */
    int fd;
    struct transport transport;
    enum conn_state state;
    bool awaits_header;          /* of a balancer, in front of the handshake */
    bool silent;                 /* no head has come yet */
    bool running, dead, eof;     /* eof: the client sends no more */
    bool read_on, write_on;      /* events that are added */
    bool want_write;             /* what TLS waits for, besides reading */
    bool asked_close;            /* close after the answer under way */
    bool paused;                 /* in CONN_BODY: who takes the body wants no more for now */
    bool starved;                /* in CONN_WRITE: all that was there has gone, and the answer's source has no more yet */
    int fault;                   /* MUSTER_E…: why TLS is at its end; 0: nothing to tell */
    bool sessionless;            /* the layer above does not want the session kept */
    bool handshaken, identified; /* identified: peer_ops.identify has returned */
    struct event ev_read, ev_write, ev_timer, ev_again; /* ev_again: goes on in the loop's next turn */
    int64_t since;               /* accepted; ms, monotonic */
    int64_t began, deadline, armed; /* ms, monotonic; deadline of the state, and when the timer fires (0: it does not) */
    struct buf in;               /* received and not yet understood */
    struct head_scan scan;       /* of the head at its beginning */
    struct buf out, body;        /* what has to be sent: out, then body from body_at */
    size_t out_at, body_at, drained;
    size_t sent;                 /* of the answer, since `began` */
    bool secret;                 /* wipe `out` and `body` */
    struct http_exchange *x;     /* the exchange under way */
    void *peer;
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } address;
};
TAILQ_HEAD(conns, http_conn);
/* glibc's sys/queue.h lacks it. */
#ifndef TAILQ_FOREACH_SAFE
#define TAILQ_FOREACH_SAFE(var, head, field, next)                                                                             \
    for ((var) = TAILQ_FIRST(head); (var) && ((next) = TAILQ_NEXT(var, field), 1); (var) = (next))
#endif

struct http_server {
    struct http_server_options o;
    int refs; /* the owner's, and one a connection */
    int listen_fd, spare_fd; /* spare_fd: given up for a moment where descriptors have run out, to refuse politely */
    struct event ev_accept, ev_resume, ev_drain, ev_trim;
    size_t n, most; /* most: since memory was given back */
    struct conns all, idle, silent; /* idle and silent: oldest first */
    bool draining;
    loop_fn drained;
    void *drained_arg;
    int64_t date_at, warned_at;
    struct log_budget balancers; /* balancer.c */
    char date[HTTP_DATE_MAX];
    uint8_t scratch[CONN_READ_MAX]; /* where SSL_read puts things: an idle connection owns no buffer */
};

struct http_exchange {
    int refs; /* the connection's, the one of whoever owes the answer, and http_exchange_ref()'s */
    struct http_conn *conn; /* memory is held; may be dead */
    struct arena *arena;
    struct buf head_bytes; /* head's spans point into it; wiped: it may hold a token */
    struct http_head head;
    struct route_match match;
    struct span params[ROUTE_PARAMS_MAX]; /* decoded */
    struct buf body, fields; /* fields: of the answer */
    struct chunked chunked;
    uint64_t taken;   /* of a body with a length */
    struct err fault; /* known from the head, answered once admitted */
    const char *allow; /* of a 405, likewise; in the arena */
    struct span claimed; /* http_claimed_path(); in the arena */
    bool complete;    /* the request was read to its end */
    bool answered, close, bad_field;
    char id[UUID_TEXT_LEN + 1]; /* "" nobody has asked yet */
    int64_t began;              /* monotonic, microseconds */
    void *data;
    void *peer; /* its own, instead of the connection's; NULL: none */
    const struct http_stream_ops *stream; /* stream.c; NULL: an ordinary exchange */
    void *stream_arg;
    enum { STREAM_NONE, STREAM_OPEN, STREAM_ENDED } answer;
    bool chunks, full, counted; /* of the answer: in chunks; http_stream_room() said no; left counts */
    int status;
    uint64_t moved;             /* bytes of the answer, added */
    int64_t left;               /* bytes of the answer's length that have not been added */
};

/* server.c */
void server_unref(struct http_server *s);
void server_conn_gone(struct http_conn *c); /* unlinks; may end a drain */
const char *server_date(struct http_server *s);
void server_warn(struct http_server *s, const char *event); /* into the log, once in ten seconds */

/* room.c */
/* There is room for one more connection, or now there is: one that says nothing, an idle or a slow one has gone. */
bool server_make_room(struct http_server *s);

/* conn.c, and the files of conn_step.h */
/* It runs once the client has said something. */
struct http_conn *conn_new(struct http_server *s, int fd, const struct sockaddr *address);
void conn_unref(struct http_conn *c);
/* Runs the state machine until it has to wait; called from events and after whatever changed the state. */
void conn_run(struct http_conn *c);
/* Closes now.  Memory stays while anybody holds it. */
void conn_close(struct http_conn *c);
/* Ends an idle connection in order (close_notify). */
void conn_end(struct http_conn *c);
/* Sends head and body (taken over) and goes on with the next request, or closes. */
void conn_send(struct http_conn *c, struct buf *head, struct buf *body, bool secret, bool close);

void conn_set_address(struct http_conn *c, const struct sockaddr *a);
/* Whether options.turns_away says so. */
bool conn_turned_away(const struct http_conn *c);
/* Whether the next step is not the client's: nothing of him is read then. */
bool conn_waits(const struct http_conn *c);
/* A head has come. */
void conn_spoke(struct http_conn *c);

/* The server drains: a client that has asked nothing yet has a moment to do so. */
void conn_hurry(struct http_conn *c);
/* Watches the client while the exchange waits, where it did not. */
void conn_watch(struct http_conn *c);
/* The head of an answer that goes on: bytes follow in c->body as they come. */
void conn_stream(struct http_conn *c, struct buf *head, bool close);
/* More lies in c->body, or the answer has ended. */
void conn_stream_more(struct http_conn *c);
void conn_pause(struct http_conn *c, bool pause);

/* The exchange's owner has it now: nothing is read, no deadline runs. */
void conn_wait(struct http_conn *c);
/* Reads the body of the exchange under way; invite: 100 Continue first (RFC 9110, 10.1.1). */
void conn_read_body(struct http_conn *c, bool invite);

/* balancer.c */
/* Where a header is awaited: reads of it what is there, and takes the client's address from it; closes where it is none. */
void conn_read_balancer(struct http_conn *c);
/* Says why in the log, and closes. */
void conn_refuse_balancer(struct http_conn *c, const struct err *why);

/* exchange.c */
/* An exchange for the head in `bytes` (taken over): the head is read, routed and refused or given to admit().  False: out of memory. */
bool exchange_begin(struct http_conn *c, struct buf *bytes, size_t head_n);
/* An exchange that has nothing but a refusal: for what never became a request. */
bool exchange_refuse(struct http_conn *c, const struct err *err);
/* Once admitted: refuses what the head showed to be at fault. */
bool exchange_fault(struct http_exchange *x);
/* Takes body bytes; *used says how many.  Sets x->complete at the end. */
int exchange_feed(struct http_exchange *x, struct span in, size_t *used, struct err *err) MUSTER_MUST_CHECK;
void exchange_handle(struct http_exchange *x);
/* Tells options.answered, before an answer leaves or when a streamed one has ended; refusal: NULL for none. */
void exchange_answered(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal);
/* stream.c: all that was there has been written.  True: more is there now, or the answer has ended. */
bool stream_written(struct http_exchange *x);
/* Whoever streams learns that the client has gone. */
void stream_gone(struct http_exchange *x);
/* A piece of the body, or why there is none. */
void stream_body(struct http_exchange *x, struct span part, const struct err *err);

/* reply.c */
bool reply_has_body(int status);
/* The head of an answer; n: Content-Length, -1: none is sent. */
void reply_head(struct http_exchange *x, int status, const char *content_type, int64_t n, bool closes, bool date, struct buf *out);
bool reply_closes(const struct http_exchange *x);

/* The connection lets go.  owed: nobody else will answer it any more. */
void exchange_detach(struct http_exchange *x, bool owed);

#endif
