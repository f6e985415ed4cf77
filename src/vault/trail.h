/* vault/trail: how a request is served whose keys are in a token, without waiting for it.
 *
 * A handler runs from its beginning to its end, or until it needs something of the token that is not there yet.  Then it fails, having changed
 * nothing, and is run again from its beginning when the token has answered; until then the vault serves others.  So that it asks the same
 * questions again, all that it drew by chance or read off the clock is written down at the first time and read at the next: the trail.
 * Where it asks something else all the same (its account was changed meanwhile) the trail is begun anew.
 *
 * One trail is entered at a time: the vault has one thread.  Called by serve.c (enter, leave), by what makes certificates (trail_serial, …),
 * and by park.c, which brings the answers. */
#ifndef MUSTER_VAULT_TRAIL_H
#define MUSTER_VAULT_TRAIL_H

#include "keys/keys.h"
#include "pki/make.h"

#define TRAIL_MAX 32
#define TRAIL_STRAYS_MAX 3

enum trail_kind { TRAIL_SERIAL, TRAIL_NAME, TRAIL_SEALED, TRAIL_GENERATED, TRAIL_SIGNED };
struct trail_item {
    enum trail_kind kind;
    uint8_t serial[MAKE_SERIAL_LEN];
    uint8_t id[TOKEN_ID_LEN], point[TOKEN_POINT_LEN];               /* GENERATED; id also SIGNED */
    uint8_t digest[TOKEN_DIGEST_LEN], signature[TOKEN_SIGNATURE_LEN]; /* SIGNED */
    struct buf ref;                                                   /* SEALED; the key itself: */
    EVP_PKEY *key;
};

enum trail_state { TRAIL_GOES_ON, TRAIL_WANTS, TRAIL_FAILED, TRAIL_STRAYED };
struct trail {
    int64_t now;          /* the request's reading of the clock */
    bool counted;         /* the certificate has been counted against its account's ceiling */
    enum trail_state state;
    struct token_request want; /* WANTS: without its id */
    struct err why;       /* FAILED */
    unsigned strays;
    size_t n, at;         /* items; the next one that is read */
    struct trail_item item[TRAIL_MAX];
};

void trail_init(struct trail *t, int64_t now);
void trail_fini(struct trail *t);
/* The trail of the handler that is about to run, from its beginning; NULL: none. */
void trail_enter(struct trail *t);
/* The token's answer to `want`, or (rc not 0) why there is none. */
void trail_answer(struct trail *t, const struct token_answer *a);
void trail_refuse(struct trail *t, const struct err *why);
/* Keys that it has had made in the token, for whoever gives the request up. */
size_t trail_generated(const struct trail *t, uint8_t ids[TRAIL_MAX][TOKEN_ID_LEN]);

/* Without a trail: what they are without one. */
void trail_serial(uint8_t out[MAKE_SERIAL_LEN]);
void trail_name(uint8_t out[4]);
bool *trail_counted(void); /* NULL: no trail */
enum trail_state trail_state_now(void);
/* A sealed key that was made at an earlier run: appends to ref, *key is the caller's.  False: none yet; then it is made, and kept here. */
bool trail_sealed(struct buf *ref, EVP_PKEY **key);
int trail_keep_sealed(struct span ref, EVP_PKEY *key, struct err *err) MUSTER_MUST_CHECK;
/* Asks by the trail that is entered; one for the whole process. */
const struct key_oracle *trail_oracle(void);

#endif
