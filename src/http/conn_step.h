/* conn_step: what the files of a connection's state machine share, and nobody else includes: conn.c moves it on, conn_read.c and
 * conn_write.c are its steps, conn_timer.c says how long each state may last.
 *
 * A step does what can be done without waiting.  It may have closed the connection: ask `dead` afterwards. */
#ifndef MUSTER_HTTP_CONN_STEP_H
#define MUSTER_HTTP_CONN_STEP_H

#include "http/conn.h"
#include "http/tls_fault.h"

enum progress {
    GO_ON, /* the next step can run at once */
    WAIT,  /* for an event, or for whoever has the exchange */
};

/* conn_read.c */
enum progress conn_step_handshake(struct http_conn *c);
enum progress conn_step_head(struct http_conn *c); /* the next request's, if there is one */
enum progress conn_step_body(struct http_conn *c);
/* Answers what never became a request; closes where that cannot be done. */
void conn_refuse(struct http_conn *c, const struct err *err);

/* conn_write.c */
enum progress conn_step_write(struct http_conn *c);
enum progress conn_step_linger(struct http_conn *c);
void conn_drop_answer(struct http_conn *c); /* wiped where it is a secret */

/* conn_timer.c */
/* Into a state, with the deadline that belongs to it. */
void conn_enter(struct http_conn *c, enum conn_state state);
/* Another one, in ms from now. */
void conn_deadline(struct http_conn *c, int ms);
void conn_no_deadline(struct http_conn *c);
void conn_on_timer(evutil_socket_t fd, short what, void *conn);

/* conn.c */
void conn_set_events(struct http_conn *c);
/* Tells the layer above why TLS is at its end, where that is worth telling. */
void conn_tell_fault(struct http_conn *c, enum tls_end how);
/* What a call of transport.h that is not done means: true: wait; false: the connection was closed, or eof is set. */
bool conn_transport_wait(struct http_conn *c, enum transport_result result);

#endif
