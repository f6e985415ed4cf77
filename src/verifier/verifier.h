/* verifier: who is at the other end, and may he go on?
 *
 * In two halves.  identity_new() judges the certificate chain against a snapshot of the registry's roots: processor time alone, once a
 * connection.  verifier_admit() asks the registry about the certificate, once a connection and again whenever the registry's epoch has
 * changed; its verdict is kept with the identity, and a good one also for the next connection that presents the same (known.h).  A verdict is
 * never taken from a TLS session: resumed or not, a connection is judged by what it presents and the name that it asks for now. */
#ifndef MUSTER_VERIFIER_VERIFIER_H
#define MUSTER_VERIFIER_VERIFIER_H

#include <openssl/x509.h>

#include "loop/loop.h"
#include "registry/snapshot.h"

struct verifier;
struct verifier_options {
    struct store *store;     /* the registry's; not owned */
    const char *const *hosts; /* host names of the gateway; hosts[0] is the one under which accounts have theirs; not owned */
    size_t n_hosts;
};
/* Loads the first snapshot, waiting for it. */
int verifier_new(const struct verifier_options *o, struct verifier **out, struct err *err) MUSTER_MUST_CHECK;
void verifier_free(struct verifier *v); /* after every identity and every admission under way */
/* Looks whether the registry has changed and loads a new snapshot then; calls changed(arg) on `loop` when there is one.  Cheap where
 * nothing changed.  From one loop only; not again before that. */
void verifier_poll(struct verifier *v, struct loop *loop, loop_fn changed, void *arg);
/* Makes sure that the snapshot is the registry's newest: for a chain that is not known, before it is refused.  done(arg) is called later,
 * on `loop`, with a negative code where the registry could not be read; never where one is returned here.  From any loop. */
typedef void (*verifier_fn)(void *arg, int rc, const struct err *err);
int verifier_refresh(struct verifier *v, struct loop *loop, verifier_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* Whether it is already, as far as this server's processes know: nothing has changed since it was looked at.  From any thread.  Says
 * nothing of a judgement from before it was asked: a newer snapshot may have come in between. */
bool verifier_is_fresh(struct verifier *v);
int64_t verifier_epoch(struct verifier *v); /* from any thread */
/* The account that a host name names: "" for names that belong to none.  A name under the gateway's that is no account's is given as it
 * is, so that nothing is admitted under it. */
void verifier_account_of(struct verifier *v, struct span host, char out[ACCOUNT_NAME_MAX + 1]);
bool verifier_in_recovery(struct verifier *v); /* snapshot_in_recovery(); from any thread */
bool verifier_has_account(struct verifier *v, const char *name); /* from any thread */
uint32_t verifier_account_keys(struct verifier *v, const char *name); /* snapshot_account_keys(); from any thread */
bool verifier_is_fleet_key(struct verifier *v, const struct hash *spki); /* snapshot_is_fleet_key(); from any thread */
const struct enrol_reserved *verifier_reserved(const struct verifier *v);

/* One connection's peer.  Used on one loop; reference counted because admissions outlive connections. */
struct identity {
    int refs;
    struct verifier *verifier;
    struct cert *leaf;              /* NULL: no certificate, or one that cannot be read */
    X509 *more[CHAIN_MAX_CERTS];    /* what was presented besides; references */
    size_t n_more;
    struct cert *presented[CHAIN_MAX_CERTS]; /* the same, read; only once the chain has to be judged */
    size_t n_presented;
    bool read;                      /* `presented` holds all of `more` that can be read */
    struct hash known_by;           /* what was presented, and the account that SNI names; known.h */
    char sni_account[ACCOUNT_NAME_MAX + 1];
    char address[64];
    int64_t judged_epoch;           /* of the chain */
    bool newest;                    /* the caller's: by roots that were looked at for this request */
    int64_t chain_until;            /* the chain is good until then */
    struct err chain;               /* code 0: it is */
    int64_t ended;                  /* nothing but time is wrong with it, which ends then: its device may renew late; 0: no such */
    struct err above;               /* code 0, or: the uploaded root or a CA below it has expired, and nothing else is wrong; chain.code is 0 then, and the root's rule decides */
    enum admit_class class;         /* where chain.code is 0 */
    struct hash anchors[CHAIN_FOUND_MAX]; /* fingerprints */
    size_t n_anchors;
    unsigned used;                  /* of `presented`, what stands on a path that holds, or on the one that has ended; bits */
    bool used_known;                /* the chain was judged at this connection, and holds */
    struct hash provisioning_ca;    /* of ADMIT_KEY, where chain.code is 0: its fingerprint; an account has its own */
    int64_t admitted_epoch;         /* of `admit`; 0: not asked yet */
    uint64_t admitted_trust;        /* likewise: registry/trust.h */
    struct admit admit;
};
/* leaf NULL: the client sent no certificate.  chain: what it sent besides. NULL: out of memory. */
struct identity *identity_new(struct verifier *v, X509 *leaf, STACK_OF(X509) *chain, const char *sni, const char *address);
void identity_ref(struct identity *id);
void identity_unref(struct identity *id);
/* Judges the chain again where the registry or the time has gone on. */
void identity_judge(struct identity *id);
/* Before the registry is asked: it is asked about the CAs between as well, and of a verdict that was known nobody has read them.  False: there is
 * nothing to read. */
bool identity_judge_unread(struct identity *id);
/* A request of the device was noted, at that time. */
void identity_seen(struct identity *id, int64_t at);
/* The verdict that is known already and still counts, or NULL. */
const struct admit *identity_admitted(const struct identity *id);
/* The same identity without a connection, for explain.h: judged against this snapshot, at this time. */
struct identity *identity_of(X509 *leaf, STACK_OF(X509) *chain, const char *sni_account, const char *address);
void identity_judge_at(struct identity *id, const struct snapshot *s, int64_t now);
/* What the registry is asked about it. */
void identity_admission(const struct identity *id, const struct enrol_reserved *reserved, struct admit *out);
/* The account that a name under the gateway's own names, as verifier_account_of() says it. */
void account_of_host(const char *gateway_host, struct span host, char out[ACCOUNT_NAME_MAX + 1]);

/* Whether a request may go on: pure.  asked: id->admit holds the registry's word.  VERDICT_ASK: it has to be asked first.  REFUSED: *why. */
enum verdict {
    VERDICT_ADMITTED,
    VERDICT_REFUSED,
    VERDICT_ASK,
    VERDICT_INVITED, /* nobody yet, who brings the code of an invitation: it has to be held against the registry first */
};
enum request_kind {
    REQUEST_DEVICE,    /* of a device that is in */
    REQUEST_DEVICES,   /* POST /devices: of a provisioning key */
    REQUEST_ENROL,     /* EST's simpleenroll: likewise, or of who was invited */
    REQUEST_RENEW,     /* EST's simplereenroll: of a device, even where its certificate is good for nothing else any more */
    REQUEST_PUBLIC,    /* what anybody may read (EST's cacerts and csrattrs), whatever is wrong with its certificate */
};
struct verdict_request {
    enum request_kind kind;
    const char *host_account; /* that Host names; "" none */
    const char *path_account; /* that the path names (EST's label); "" none */
    bool code;                /* the code of an invitation comes with it */
    bool recovery;            /* the server was put back from a backup, and issues nothing yet */
};
enum verdict verdict_of(const struct identity *id, bool asked, const struct verdict_request *rq, struct err *why) MUSTER_MUST_CHECK;

/* id->chain.code is 0, or id->ended is not.  done is called later, on `loop`, exactly once, with the storage's code, the verdict in id->admit;
 * or never where a negative code is returned. */
int verifier_admit(struct verifier *v, struct loop *loop, struct identity *id, verifier_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(identity_unref, struct identity *)

#endif
