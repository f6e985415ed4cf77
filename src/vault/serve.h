/* vault/serve: one message in, one answer out.  The table of requests, and the state of the vault's process that they work on.
 *
 * Called by process.c alone.  A handler judges what it is asked by policy.c, never by what the asker says about itself.  One handler
 * runs at a time; when it returns 0 its change is durable. */
#ifndef MUSTER_VAULT_SERVE_H
#define MUSTER_VAULT_SERVE_H

#include "vault/account.h"
#include "vault/core.h"
#include "vault/count.h"
#include "vault/export.h"
#include "vault/park.h"
#include "vault/upkeep.h"
#include "vault/wire.h"

#define SERVE_RETRY_SECONDS 5 /* Retry-After of MUSTER_EVAULT */
#define SERVE_DERS 6

/* The key that signs times; time.c. */
struct time_signer {
    EVP_PKEY *key;       /* NULL: none yet */
    struct buf cert;     /* DER */
    struct hash issuer;  /* fingerprint of the server CA that signed it */
    int64_t made, until; /* when it is used */
};
void time_signer_fini(struct time_signer *t);

struct vault {
    struct records *records;
    struct core *core;
    struct accounts *accounts;
    struct counts *counts;
    struct exports *exports;
    struct upkeep upkeep;
    struct park *park;   /* process.c's */
    struct trail trail;  /* of the request at hand, unless it has been parked */
    struct time_signer time;
    const char *ocsp_url;  /* process.h */
    struct crl_maker *crl; /* the one under way; NULL: none */
    bool greeted; /* control's log is not newer than this vault */
    bool older;   /* it was: nothing is served any more */
    bool server_cas_told; /* the supervisor knows the server CAs of now */
    struct wire_request request;  /* the one at hand: too large for a stack, and its memory is used again */
    struct buf der[SERVE_DERS];   /* what the answer's spans point into; likewise */
};

/* Opens what is in dir_fd.  v->park is set before. */
int vault_open(struct vault *v, int dir_fd, const struct key_master_options *master, struct err *err) MUSTER_MUST_CHECK;
void vault_close(struct vault *v);
/* MUSTER_EVAULT until control has greeted a vault that is not older than its log. */
int vault_ready(const struct vault *v, struct err *err) MUSTER_MUST_CHECK;

/* What became of a message. */
enum { SERVE_ANSWERED, SERVE_REFUSED /* which is an answer too */, SERVE_WANTS /* something of the token: no answer yet */ };
/* Answers one message of a channel of that kind into `answer`, which is cleared first.  A failure here is no refusal: the message is
 * malformed or not allowed on the channel, and the process is to end. */
int serve_message(struct vault *v, enum vault_channel kind, struct span message, struct buf *answer, struct err *err) MUSTER_MUST_CHECK;
/* The same, with the trail of an earlier run. */
int serve_again(struct vault *v, enum vault_channel kind, struct span message, struct trail *t, struct buf *answer, struct err *err) MUSTER_MUST_CHECK;

/* A handler for each row of requests.def: fills *a, or says why not.  `now` is the request's one reading of the clock. */
#define R(NAME, name, number, channels, needs)                                                                                 \
    int serve_##name(struct vault *v, const struct wire_request *rq, int64_t now, struct wire_answer *a, struct err *err) MUSTER_MUST_CHECK;
#include "vault/requests.def"
#undef R

/* Under a server CA (core_time_ca()), for a key of time.c; its DER is in v->der[0]. */
int issue_time_certificate(struct vault *v, struct span public_key, int64_t now, struct vault_issued *out, struct err *err) MUSTER_MUST_CHECK;
/* An account with shared credentials and its CAs; MUSTER_ENOTFOUND, MUSTER_EMETHODOFF. */
int serve_shared_account(struct vault *v, struct span name, struct account **out, struct err *err) MUSTER_MUST_CHECK;
/* The CA of an account whose subject key identifier that is, and whose lists and OCSP answers are signed; MUSTER_ENOTFOUND. */
int serve_ca(struct vault *v, struct span name, const uint8_t key_id[CRL_KEY_ID_LEN], struct account **account, struct authority **ca, struct err *err) MUSTER_MUST_CHECK;
/* DER of a certificate into v->der[slot]. */
int serve_der(struct vault *v, size_t slot, const struct cert *c, struct span *out, struct err *err) MUSTER_MUST_CHECK;

#endif
