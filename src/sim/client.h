/* client: single requests to one gateway, each on a connection of its own, as devices make them; and such as no device should.
 *
 * One loop.  The gateway is always verified, by the anchors and by its name. */
#ifndef MUSTER_SIM_CLIENT_H
#define MUSTER_SIM_CLIENT_H

#include "http/response.h"
#include "loop/loop.h"
#include "sim/fleet.h"

#define ANSWER_MAX (128u << 10) /* bytes that are kept of an answer */

struct client;
/* The gateway is looked up now, by its name; each of its addresses has to be of this machine, unless `mine` says its host: MUSTER_EUSAGE. */
int client_new(struct loop *l, const char *gateway, const struct certs *anchors, const char *mine, int64_t timeout_ms, struct client **out, struct err *err) MUSTER_MUST_CHECK;
void client_free(struct client *c); /* ends what is under way; nobody is told */
const char *client_host(const struct client *c); /* HOST:PORT, for the field Host */

enum how { HOW_GOOD, HOW_NO_TLS, HOW_SLOW };
struct ask {
    const struct credential *by; /* that the connection shows; NULL: none */
    struct buf request;          /* whole; taken over */
    size_t filling;              /* so many bytes more are sent behind it */
    enum how how;
};
struct answer {
    int status;        /* 0: there is none, and fault says why */
    const char *fault;
    char code[64];     /* Muster's stable code; "" none */
    int retry_after;   /* seconds; 0: none was named */
    bool allows_post;  /* Allow names POST */
    struct span body;  /* valid during the call */
};
typedef void answered_fn(void *arg, const struct answer *a);
/* done is called later, exactly once; not where this fails: then nothing left this machine, which has no room for another connection (MUSTER_EIO), say. */
int client_send(struct client *c, struct ask *a, answered_fn *done, void *arg, struct err *err) MUSTER_MUST_CHECK;
size_t client_open(const struct client *c); /* connections */

DEFINE_CLEANUP(client_free, struct client *)

#endif
