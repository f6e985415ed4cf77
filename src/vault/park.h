/* vault/park: requests that wait for the token, and the channel to the process that has it.
 *
 * Nobody else waits for them: a request whose turn has not come within PARK_WAIT_MS is refused, there are at most PARK_MAX of them, and where
 * the token has not answered for so long new ones are refused at once.  While some wait, their channels are told every second that the vault is
 * well (wire.h): what is slow is the token.  Called by process.c alone. */
#ifndef MUSTER_VAULT_PARK_H
#define MUSTER_VAULT_PARK_H

#include <poll.h>

#include "vault/process.h"
#include "vault/trail.h"

#define PARK_MAX 64
#define PARK_WAIT_MS 8000 /* less than a client waits */
#define PARK_BEAT_MS 1000
#define PARK_LOOK_MS 10000 /* without an answer: it is asked how it is */

struct vault;
struct park;
struct park *park_new(bool configured, struct err *err); /* configured: there is to be a token */
void park_free(struct park *p);
/* The channel to the token's process; the one before is given up.  Takes fd over. */
void park_attach(struct park *p, int fd);

/* Takes a request whose trail wants something: a copy of the message, and the trail, which is left empty.  MUSTER_ETOKEN, _EBUSY: refused. */
int park_take(struct park *p, uint64_t channel, enum vault_channel kind, struct span message, struct trail *t, int64_t mono_ms, struct err *err) MUSTER_MUST_CHECK;
struct pollfd park_poll(const struct park *p);
/* Reads what the token says, and runs what that lets go on.  A failure ends the process. */
int park_ready(struct park *p, struct vault *v, int64_t mono_ms, struct err *err) MUSTER_MUST_CHECK;
/* Ends what has waited too long, and does what is to be done when nobody waits.  *next: when something is due, or INT64_MAX. */
int park_expire(struct park *p, struct vault *v, int64_t mono_ms, int64_t *next, struct err *err) MUSTER_MUST_CHECK;
/* The answers that are there: `deliver` says whether it is done with one (sent, or the channel is gone). */
typedef bool (*park_deliver_fn)(void *arg, uint64_t channel, struct span answer);
void park_deliver(struct park *p, park_deliver_fn deliver, void *arg);
bool park_waits(const struct park *p); /* whether any request does */
/* Whether a request of the channel waits. */
bool park_has(const struct park *p, uint64_t channel);

/* What `musterd vault status` and METRIC_TOKEN say of the token. */
enum vault_token park_token(const struct park *p, int64_t mono_ms);

#endif
