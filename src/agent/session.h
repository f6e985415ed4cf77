/* session: one pass of the agent: its directory, what it remembers, what time it is; and the steps that provisioning and renewing share.
 *
 * What a pass does, in this order: an identity that was issued and not used yet is used, and becomes the current one where the gateway admits it; what a
 * power cut left undone is done; then whatever is due; hooks at the end.  Every step can be repeated: what counts is on the disk before the next step begins. */
#ifndef MUSTER_AGENT_SESSION_H
#define MUSTER_AGENT_SESSION_H

#include "agent/credentials.h"
#include "agent/est.h"
#include "agent/options.h"
#include "agent/place.h"
#include "agent/true_time.h"

struct session {
    const struct options *o;
    struct place place;
    struct state state;
    struct true_time time;
    struct back_off *step; /* of `state`: where failures of what is done now are counted; NULL: nobody waits, as for who asks by hand */
    int64_t asked;         /* whom session_ask let through last: back_off_what() */
    void (*say)(const char *line); /* what was done, for people; may be NULL */
};
#define HOOKS_KEY "hooks-key" /* the URI of the key that was in use when those began; "" for a file */
#define HOOKS_DUE "hooks-due" /* in the directory: changes that hooks were not told of */
#define SESSION_INIT ((struct session){.place = PLACE_INIT})

/* make: the directory is made where it is missing, and nobody else works in it until session_fini. */
int session_open(struct session *s, const struct options *o, bool make, struct err *err) MUSTER_MUST_CHECK;
void session_fini(struct session *s);
void session_say(const struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What is remembered of an attempt that came to nothing: when, why, and until when the gateway wants to be left alone.  Returns err->code; where that
 * cannot be written, the error of that, since an attempt that leaves no trace is made again and again. */
int session_failed(struct session *s, const struct refused *why, struct err *err);
/* The gateway has admitted this device, or given it a certificate. */
void session_succeeded(struct session *s);
int session_remember(struct session *s, struct err *err) MUSTER_MUST_CHECK;
/* Seconds that the gateway in use, or the first one, is left alone for, since it has failed. */
int64_t session_held(const struct session *s, const struct identity *now);
/* Seconds that are left of what the gateway asked to wait, as far as the certificate's end allows; 0: none. */
int64_t session_wait(const struct session *s);

/* The gateway to ask.  Where the clock is known to be wrong, it is asked for the time before anything else; *why: what it answered to that, where it refused. */
int session_gateway(struct session *s, const char *url, const struct certs *anchors, struct gateway *out, struct refused *why, struct err *err) MUSTER_MUST_CHECK;
/* The same before each request of a pass: MUSTER_EBUSY while the gateway wants to be left alone, or is, since it has failed (but for --now); what fails is remembered. */
int session_ask(struct session *s, const char *url, const struct certs *anchors, struct gateway *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether it is worth asking once more: a certificate was out of its dates, and the time could be learned.  Where the gateway asks to wait with that, or its
 * word is not believed, *why and *err say so from then on. */
bool session_mended(struct session *s, struct gateway *g, struct refused *why, struct err *err);

/* A key of this device's own in a new identity on its way, with anchors and URL beside it; or the one that is there already. */
int session_next(struct session *s, const struct certs *anchors, const char *url, struct identity *out, struct err *err) MUSTER_MUST_CHECK;
/* Writes the certificate, and what stands above it, into an identity. */
int session_put_certificate(const struct session *s, unsigned number, const struct cert *c, const struct certs *above, struct err *err) MUSTER_MUST_CHECK;
/* Uses the identity on its way for the first time and makes it the current one: `event` is what hooks are told.  *gone: the gateway will never admit it, and it
 * was dropped. */
int session_adopt(struct session *s, unsigned number, const char *event, bool *gone, struct err *err) MUSTER_MUST_CHECK;
/* What follows on a change, and is due until it is done: hooks are told; the provisioning key and former identities are removed. */
int session_changed(struct session *s, const char *event, struct err *err) MUSTER_MUST_CHECK; /* hooks will be told */
int session_settle(struct session *s, struct err *err) MUSTER_MUST_CHECK;

/* The anchors once more beside the identity, and what of an identity can be written anew by them and by what is remembered: anchors and URL. */
int session_keep_anchors(const struct session *s, const struct certs *anchors, struct err *err) MUSTER_MUST_CHECK;
int session_mend(struct session *s, struct identity *now, struct err *err) MUSTER_MUST_CHECK;
/* Where what was remembered is lost: as much of it as the identity itself says. */
void session_recover(struct session *s, const struct identity *now);

/* provision.c: 0 where there is an identity, or is one now. */
int provision(struct session *s, struct err *err) MUSTER_MUST_CHECK;
/* Takes a certificate over that was put in the place of the one that `now` came from, where there is another one than was taken over or refused before, and it ends
 * later. */
int provision_again(struct session *s, struct identity *now, struct err *err) MUSTER_MUST_CHECK;
/* renew.c: another gateway than `now` has, by whatever names it: that is the gateway once it has admitted this device, under the anchors that are there. */
int renew_move(struct session *s, struct identity *now, const char *url, struct err *err) MUSTER_MUST_CHECK;
/* One pass of `run`. */
int renew_pass(struct session *s, struct err *err) MUSTER_MUST_CHECK;
/* When the certificate is renewed: between two thirds and three quarters of its life, by a hash of the device ID, so that a fleet that was made on one
 * day does not come back on one. */
int64_t renew_at(const struct cert *c, const char *device_id);

/* hooks.c: runs what is in the directory, in the order of names; MUSTER_EINVALID where one fails. */
int hooks_run(const struct session *s, const char *event, struct err *err) MUSTER_MUST_CHECK;
/* Takes the PINs of this device's keys out of the environment; where: the URI of the one in use. */
void hooks_hide_pins(const struct options *o, const char *where);
/* Sets what exec and hooks find in their environment. */
int hooks_environment(const char *dir, const struct state *state, const char *gateway, const char *where, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(session_fini, struct session)

#endif
