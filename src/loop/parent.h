/* parent: messages between the supervisor and a child, one a SOCK_SEQPACKET record.
 *
 * The child's half runs on a loop; the supervisor's half are plain calls.  A child whose supervisor has gone stops its loop. */
#ifndef MUSTER_LOOP_PARENT_H
#define MUSTER_LOOP_PARENT_H

#include "base/span.h"
#include "loop/loop.h"

#define PARENT_TEXT_MAX 8192

enum parent_type {
    PARENT_READY = 1,   /* child: it serves; text: what the supervisor needs to know of it */
    PARENT_CHANNEL,     /* supervisor: `index` gets a new channel to the vault (the token: from it), the descriptor that comes along */
    PARENT_RELOAD,      /* supervisor: read certificates (and configuration) again */
    PARENT_DRAIN,       /* supervisor: finish what is under way, then end */
    PARENT_EPOCH,       /* child: something changed that the other children look at; supervisor: passed on */
    PARENT_MASTER,      /* vault: a master key, in hex: the one in force, then the one about to take its place; the supervisor starts the next vault with both */
    PARENT_SERVER_CAS,  /* vault: the server CAs in PEM, the current one first; the supervisor writes them into server-ca.pem and passes them on to the gateway */
    PARENT_OCSP,        /* supervisor: a channel between control and loop `index` of a gateway, the descriptor that comes along */
    PARENT_COURIER,     /* supervisor: a new channel between control and the courier, the descriptor that comes along */
};

struct parent_message {
    enum parent_type type;
    uint32_t index;
    int fd; /* -1: none; the receiver's */
    char text[PARENT_TEXT_MAX + 1];
};

int parent_send(int socket, enum parent_type type, uint32_t index, int fd, const char *text, struct err *err) MUSTER_MUST_CHECK;
/* 1: a message; 0: nothing there (non-blocking); MUSTER_EUNAVAILABLE: the other side has gone; MUSTER_EINVALID: malformed. */
int parent_recv(int socket, struct parent_message *out, struct err *err) MUSTER_MUST_CHECK;

struct parent;
typedef void (*parent_fn)(void *arg, struct parent_message *m); /* takes m->fd over by setting it to -1 */
/* socket stays the caller's.  fn sees every message; when the supervisor has gone the loop is stopped. */
struct parent *parent_new(struct loop *l, int socket, parent_fn fn, void *arg);
void parent_free(struct parent *p);

#endif
