/* chain: from a presented leaf to the anchors under which it verifies (RFC 5280, 6).
 *
 * One function judges; the gateway and `explain` share it.  It sets purpose, security level and time itself: a bare
 * X509_STORE_CTX has no level and accepts SHA-1 and RSA-1024, and X509_verify_cert picks one issuer by name and does not
 * backtrack, so that candidates of the same name are tried here one after the other, by signature. */
#ifndef MUSTER_PKI_CHAIN_H
#define MUSTER_PKI_CHAIN_H

#include "pki/cert.h"

#define CHAIN_MAX_CERTS 8
#define CHAIN_MAX_BYTES (16 * 1024)
#define CHAIN_MAX_SIGNATURES 128 /* signature checks that one judgement may cost */
#define CHAIN_MAX_STEPS 64       /* and certificates that it looks at: an honest chain takes one step each */

/* Anchors to look under.  Immutable once made, shared between threads (reference counted with atomics). */
struct anchor {
    struct cert *cert;   /* owned by the set.  An anchor may be an intermediate: nothing above it is looked at. */
    struct cert **under; /* further CA certificates that may stand between it and a leaf though the device does not send them (our own issuing CAs); owned */
    size_t n_under;
    void *tag;           /* the caller's: which root this is */
};
struct anchor_set;
struct anchor_set *anchor_set_new(void);
/* Takes cert and under over, also on failure. */
int anchor_set_add(struct anchor_set *s, struct cert *cert, struct cert **under, size_t n_under, void *tag) MUSTER_MUST_CHECK;
void anchor_set_ref(struct anchor_set *s);
void anchor_set_unref(struct anchor_set *s);
size_t anchor_set_size(const struct anchor_set *s);
const struct anchor *anchor_set_at(const struct anchor_set *s, size_t i);

#define CHAIN_FOUND_MAX 8
/* Where a chain ends.  Several anchors can be good ones: the same root in two accounts, a root and an intermediate below it. */
struct chain_found {
    const struct anchor *at[CHAIN_FOUND_MAX];
    size_t n;
    unsigned used; /* of what was presented, what stands on one of their paths, or could in the place of a CA of the same name and key: bit i is presented[i].  Of the path that a rule refuses likewise. */
    int64_t until; /* earliest end of their paths, the anchors included */
    int64_t ended; /* of MUSTER_ECERTEXPIRED, where nothing but time is wrong with a path under at[0]: when it ended; 0 otherwise */
};

/* Judges leaf + presented (0..7 further certificates, in any order, unrelated ones ignored) at time `now`.
 *
 * 0: the chain is good; *found has every anchor under which a path holds, so that no anchor that somebody else put there hides one's own.
 * Otherwise the code says why: MUSTER_ECHAINLONG, _ECERTMALFORMED, _ECERTISCA (leaf), _ECERTPURPOSE, _ECERTWEAKKEY, _ECERTWEAKHASH,
 * _ECERTEXPIRED, _ECERTEARLY, _ECHAININVALID, _ECERTUNTRUSTED; where a path under an anchor exists and only a rule fails, that
 * rule is the answer and found->at[0] that anchor, so that a refusal can be recorded under the right account.  The text names the
 * certificate at fault and the particulars ("expired 3 days ago").  An expired intermediate fails the path; roots made to the OTA Connect recipe (CA with
 * EKU serverAuth) are accepted: the purpose is checked on the leaf alone. */
int chain_judge(const struct anchor_set *anchors, const struct cert *leaf, struct cert *const *presented, size_t n, int64_t now,
                struct chain_found *found, struct err *err) MUSTER_MUST_CHECK;

/* Whether `cert` is fit to be a fleet root: CA, acceptable key, strong signature where self-signed, not expired at now, keyCertSign
 * where keyUsage is present; MUSTER_EROOTUNFIT with what is wrong. */
int chain_root_fit(const struct cert *cert, int64_t now, struct err *err) MUSTER_MUST_CHECK;

/* RFC 4158-free little check for the server side: does `leaf` (+ presented) verify as a TLS server under one of the PEM anchors? */
int chain_judge_server(struct cert *const *anchors, size_t n_anchors, const struct cert *leaf, struct cert *const *presented, size_t n, int64_t now,
                       struct err *err) MUSTER_MUST_CHECK;

#endif
