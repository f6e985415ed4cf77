/* place: the agent's directory, and the only writer in it (and hardware.c).
 *
 *   DIR/current           a link to the identity in use; what other programs open
 *   DIR/identity-N/       client.pem, pkey.pem (0600), root.crt, gateway.url: what a stock aktualizr imports with device credentials
 *                         (a key in a token or a TPM: pkey.uri and pkey.pub in the place of pkey.pem; agent/hardware.h)
 *   DIR/state.json        what the agent remembers
 *   DIR/pins-refused      which PINs a token or TPM has refused (keyring_refusals()); whoever uses the key of this directory writes it
 *   DIR/hooks-due         a change of which hooks were not told yet
 *   DIR/hooks-key         the key in use before that change
 *   DIR/lock              held by the one that works here
 *
 * An identity whose number is above the current one's is on its way: it has a key, and a certificate once that was issued.  It becomes the current
 * one by a new link in the place of the old, so that whoever opens DIR/current finds a key and its certificate at any instant, power cuts
 * included.  Every file is replaced whole (base/file.h); nothing counts before it is durable. */
#ifndef MUSTER_AGENT_PLACE_H
#define MUSTER_AGENT_PLACE_H

#include <sys/types.h>

#include "agent/back_off.h"
#include "agent/certs.h"
#include "agent/device_id.h"
#include "agent/true_time.h"
#include "base/buf.h"
#include "keyring/keyring.h"
#include "pki/cert.h"

#define PLACE_NAME_MAX 32

struct state {
    char device_id[DEVICE_ID_MAX + 1], gateway[OPTIONS_VALUE_MAX], account[64];
    char method[16];                /* "shared" or "device": how the identity came; "" before */
    char source[OPTIONS_VALUE_MAX]; /* the credentials that it came from */
    int64_t keep_credentials;       /* 1: the provisioning key stays in them */
    char import[2 * PKI_HASH_LEN + 1];  /* the certificate of the factory that was looked at last: its fingerprint in hex */
    int64_t import_refused_at;      /* when the gateway refused it; 0: it did not */
    char import_gateway[OPTIONS_VALUE_MAX]; /* the URL beside it that was followed last; "" for none */
    char key[16];                   /* "own", or "server" where the server made it and it was not swapped yet */
    int64_t newest_time;            /* the newest that was accepted */
    struct candidate waiting;       /* one that was not, yet */
    int64_t anchors_at;             /* when the gateway's anchors were last looked at */
    int64_t asked_at, wait;         /* the gateway asked not to come again for so many seconds from then */
    char wait_code[64], wait_text[480];
    struct back_off asking, moving, importing, looking; /* the gateway in use, or the first one; another that is named; that of a file; for anchors */
    int64_t contact_at, failed_at;  /* when the gateway last admitted this device; when it last did not */
    int64_t failed_status;          /* the HTTP status by which it said so; 0: nothing came from it */
    char failed_code[64], failed_text[480];
};

struct place {
    const char *dir; /* as it was named */
    int fd, lock;    /* owned; -1: none */
};
#define PLACE_INIT ((struct place){NULL, -1, -1})

/* Opens the directory, and makes it where `make` says so.  MUSTER_EINVALID where somebody else than this user or root owns it or may write to it: whoever can
 * exchange files here is this device. */
int place_open(struct place *p, const char *dir, bool make, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_ELOCKED: another agent is at work here. */
int place_lock(struct place *p, struct err *err) MUSTER_MUST_CHECK;
void place_fini(struct place *p);

/* What is not there, or damaged, is as if nothing was ever remembered: all of it can be found out again. */
void place_state(const struct place *p, struct state *s);
int place_remember(const struct place *p, const struct state *s, struct err *err) MUSTER_MUST_CHECK;

unsigned place_current(const struct place *p); /* its number; 0: there is none */
unsigned place_next(const struct place *p);    /* that of the one on its way; 0: none */

/* One identity.  key NULL: it is damaged or missing; cert NULL: none was issued yet. */
struct identity {
    unsigned number;
    EVP_PKEY *key;
    bool hidden; /* the key is there, and this user may not read it */
    char where[KEYRING_URI_MAX]; /* the key's URI, where it is in a token or a TPM; "" for pkey.pem */
    struct cert *cert;
    struct certs above; /* behind it in client.pem */
    struct certs anchors;
    char gateway[OPTIONS_VALUE_MAX];
};
#define IDENTITY_INIT ((struct identity){0})
/* Key, certificate, anchors and URL, as far as they are there and whole; MUSTER_EIO where they cannot be read at all. */
int place_identity(const struct place *p, unsigned number, struct identity *out, struct err *err) MUSTER_MUST_CHECK;
/* Of that alone: where its key lies. */
int place_where(const struct place *p, unsigned number, char where[KEYRING_URI_MAX], struct err *err) MUSTER_MUST_CHECK;
bool place_has(const struct place *p, unsigned number, const char *name); /* a file in it */
void identity_fini(struct identity *id);
/* Whether it can be used: key and certificate belong together, and there are anchors and a URL. */
bool identity_whole(const struct identity *id);

/* A new identity on its way, with these in it; what was on its way before is dropped. */
int place_begin(const struct place *p, unsigned *number, struct err *err) MUSTER_MUST_CHECK;
int place_get(const struct place *p, unsigned number, const char *name, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
int place_put(const struct place *p, unsigned number, const char *name, struct span content, mode_t mode, struct err *err) MUSTER_MUST_CHECK;
/* Makes it the current one. */
int place_switch(const struct place *p, unsigned number, struct err *err) MUSTER_MUST_CHECK;
int place_drop(const struct place *p, unsigned number, struct err *err) MUSTER_MUST_CHECK;
/* Removes identities before the current one, and what power cuts have left. */
void place_clean(const struct place *p);

DEFINE_CLEANUP_FINI(place_fini, struct place)
DEFINE_CLEANUP_FINI(identity_fini, struct identity)

#endif
