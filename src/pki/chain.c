/* chain: see chain.h.  Paths are enumerated here, by names; chain_path.h judges each. */
#include "pki/chain.h"

#include <openssl/err.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "pki/chain_path.h"
#include "pki/pki.h"

/* --- anchors ---------------------------------------------------------------------------------------------------------------- */

/* A CA certificate that issues leaves or intermediates, found by its subject. */
struct issuer {
    unsigned long name; /* hash of the subject */
    uint32_t anchor;
    const struct cert *cert;
    bool is_anchor; /* else one of its `under` */
};

struct anchor_set {
    atomic_int refs;
    struct anchor *anchors;
    size_t n, cap;
    struct issuer *issuers; /* sorted by name */
    size_t n_issuers, cap_issuers;
};

static unsigned long subject_hash(const struct cert *c) { return X509_subject_name_hash(c->x); }

struct anchor_set *anchor_set_new(void) {
    struct anchor_set *s = calloc(1, sizeof *s);
    if (s)
        atomic_init(&s->refs, 1);
    return s;
}

static size_t first_of(const struct anchor_set *s, unsigned long name) {
    size_t low = 0, high = s->n_issuers;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->issuers[mid].name < name)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int grow(void **p, size_t *cap, size_t need, size_t each) {
    if (need <= *cap)
        return 0;
    size_t more = *cap ? *cap * 2 : 8;
    while (more < need)
        more *= 2;
    void *q = realloc(*p, more * each);
    if (!q)
        return MUSTER_ENOMEM;
    *p = q;
    *cap = more;
    return 0;
}

static void add_issuer(struct anchor_set *s, const struct cert *cert, size_t anchor, bool is_anchor) {
    struct issuer one = {.name = subject_hash(cert), .anchor = (uint32_t)anchor, .cert = cert, .is_anchor = is_anchor};
    size_t at = first_of(s, one.name);
    while (at < s->n_issuers && s->issuers[at].name == one.name) /* of equals, in the order of adding */
        at++;
    memmove(&s->issuers[at + 1], &s->issuers[at], (s->n_issuers - at) * sizeof one);
    s->issuers[at] = one;
    s->n_issuers++;
}

static void anchor_fini(struct anchor *a) {
    cert_free(a->cert);
    for (size_t i = 0; i < a->n_under; i++)
        cert_free(a->under[i]);
    free(a->under);
}

int anchor_set_add(struct anchor_set *s, struct cert *cert, struct cert **under, size_t n_under, void *tag) {
    struct anchor a = {.cert = cert, .under = under, .n_under = n_under, .tag = tag};
    if (grow((void **)&s->anchors, &s->cap, s->n + 1, sizeof *s->anchors) ||
        grow((void **)&s->issuers, &s->cap_issuers, s->n_issuers + 1 + n_under, sizeof *s->issuers)) {
        anchor_fini(&a);
        return MUSTER_ENOMEM;
    }
    s->anchors[s->n] = a;
    add_issuer(s, cert, s->n, true);
    for (size_t i = 0; i < n_under; i++)
        add_issuer(s, under[i], s->n, false);
    s->n++;
    return 0;
}

void anchor_set_ref(struct anchor_set *s) { atomic_fetch_add(&s->refs, 1); }

void anchor_set_unref(struct anchor_set *s) {
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    for (size_t i = 0; i < s->n; i++)
        anchor_fini(&s->anchors[i]);
    free(s->anchors);
    free(s->issuers);
    free(s);
}

size_t anchor_set_size(const struct anchor_set *s) { return s->n; }
const struct anchor *anchor_set_at(const struct anchor_set *s, size_t i) { return &s->anchors[i]; }

/* --- all paths ----------------------------------------------------------------------------------------------------------------- */

struct search {
    const struct anchor_set *anchors;
    struct cert *const *presented;
    size_t n;
    int64_t now;
    int budget; /* signatures */
    int steps;
    const struct cert *path[CHAIN_PATH_MAX];
    size_t depth;
    struct chain_found good;
    /* the first path with good signatures that breaks a rule */
    struct chain_found refused;
    int rc;
    struct err err;
};

/* By name, and by key identifiers where both have them; whatever else is wrong is for the judgement to say. */
static bool issued_by_name(const struct cert *c, const struct cert *issuer) {
    if (X509_NAME_cmp(X509_get_issuer_name(c->x), X509_get_subject_name(issuer->x)) != 0)
        return false;
    int rc = X509_check_issued(issuer->x, c->x);
    ERR_clear_error();
    return rc != X509_V_ERR_AKID_SKID_MISMATCH && rc != X509_V_ERR_AKID_ISSUER_SERIAL_MISMATCH;
}

static bool on_path(const struct search *s, const struct cert *c) {
    for (size_t i = 0; i < s->depth; i++)
        if (hash_eq(&s->path[i]->fingerprint, &c->fingerprint))
            return true;
    return false;
}

static bool was_found(const struct search *s, const struct anchor *a) {
    for (size_t i = 0; i < s->good.n; i++)
        if (s->good.at[i] == a)
            return true;
    return false;
}

/* One that could stand in the place of a CA of the path: its renewed certificate, shown beside the old one. */
static bool is_twin(struct search *s, const struct cert *c, const struct cert *of, const struct cert *issuer) {
    return c != of && c->ca && hash_eq(&c->key.spki, &of->key.spki) && X509_NAME_cmp(X509_get_subject_name(c->x), X509_get_subject_name(of->x)) == 0 && issued_by_name(c, issuer) &&
           s->budget > 0 && s->budget-- > 0 && cert_signed_by(c, issuer);
}

static unsigned used_by(struct search *s, size_t depth) {
    unsigned used = 0;
    for (size_t i = 1; i < depth; i++)
        for (size_t k = 0; k < s->n; k++)
            if (s->path[i] == s->presented[k] || (i + 1 < depth && is_twin(s, s->presented[k], s->path[i], s->path[i + 1])))
                used |= 1U << k;
    return used;
}

static void keep(struct search *s, const struct anchor *a, size_t depth) {
    s->good.at[s->good.n++] = a;
    for (size_t i = 0; i < depth; i++)
        if (s->path[i]->not_after < s->good.until)
            s->good.until = s->path[i]->not_after;
    s->good.used |= used_by(s, depth);
}

/* Whether the path was good at its very end; when that was, or 0. */
static int64_t was_good_until(struct search *s, size_t depth) {
    int64_t end = INT64_MAX;
    for (size_t i = 0; i < depth; i++)
        if (s->path[i]->not_after < end)
            end = s->path[i]->not_after;
    s->budget -= (int)depth - 1;
    return end < s->now && s->budget >= 0 && chain_path_judge(s->path, depth, end - 1, NULL) == 0 ? end : 0; /* the end itself is too late for the library */
}

/* Judges path + anchor; true: the search is over, its budget is spent. */
static bool try_path(struct search *s, const struct anchor *a, const struct cert *under) {
    size_t depth = s->depth;
    if (was_found(s, a))
        return false;
    if (under)
        s->path[depth++] = under;
    s->path[depth++] = a->cert;
    s->budget -= (int)depth - 1;
    if (s->budget < 0)
        return true;
    struct err err = ERR_INIT;
    int rc = chain_path_judge(s->path, depth, s->now, &err);
    if (rc == 0) {
        keep(s, a, depth);
    } else if (rc != MUSTER_ECERTUNTRUSTED && !s->refused.n) {
        s->refused = (struct chain_found){.at = {a}, .n = 1, .until = INT64_MAX, .ended = rc == MUSTER_ECERTEXPIRED ? was_good_until(s, depth) : 0};
        s->refused.used = used_by(s, depth);
        s->rc = rc;
        s->err = err;
    }
    return s->good.n == CHAIN_FOUND_MAX;
}

/* Of several candidates of one name those whose key did not sign are dropped by that one signature, so that namesakes, which anybody can
 * make, cost no more than that and hide nobody. */
static bool signed_by(struct search *s, const struct cert *c, const struct cert *candidate, size_t n_candidates) {
    if (n_candidates == 1)
        return true; /* the judgement of the path will tell */
    return s->budget-- > 0 && cert_signed_by(c, candidate);
}

static size_t count_candidates(const struct search *s, const struct cert *c, unsigned long name) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->presented[i]->ca && issued_by_name(c, s->presented[i]) && !on_path(s, s->presented[i]);
    for (size_t i = first_of(s->anchors, name); i < s->anchors->n_issuers && s->anchors->issuers[i].name == name; i++)
        n += issued_by_name(c, s->anchors->issuers[i].cert) && !on_path(s, s->anchors->issuers[i].cert);
    return n;
}

static bool try_anchors(struct search *s, const struct cert *c, unsigned long name, size_t n_candidates) {
    for (size_t i = first_of(s->anchors, name); i < s->anchors->n_issuers && s->anchors->issuers[i].name == name; i++) {
        const struct issuer *one = &s->anchors->issuers[i];
        const struct anchor *a = &s->anchors->anchors[one->anchor];
        if (issued_by_name(c, one->cert) && !on_path(s, one->cert) && signed_by(s, c, one->cert, n_candidates) && try_path(s, a, one->is_anchor ? NULL : one->cert))
            return true;
    }
    return false;
}

static bool search_from(struct search *s, const struct cert *c) {
    if (++s->steps > CHAIN_MAX_STEPS)
        return true;
    s->path[s->depth++] = c;
    unsigned long name = X509_issuer_name_hash(c->x);
    size_t n = count_candidates(s, c, name);
    /* What the device itself sent comes first: of namesakes among the anchors there may be many. */
    if (s->depth < CHAIN_MAX_CERTS)
        for (size_t i = 0; i < s->n; i++)
            if (s->presented[i]->ca && issued_by_name(c, s->presented[i]) && !on_path(s, s->presented[i]) && signed_by(s, c, s->presented[i], n) &&
                search_from(s, s->presented[i]))
                return true;
    if (try_anchors(s, c, name, n))
        return true;
    s->depth--;
    return s->budget < 0;
}

static int check_size(const struct cert *leaf, struct cert *const *presented, size_t n, struct err *err) {
    int bytes = i2d_X509(leaf->x, NULL);
    if (n + 1 > CHAIN_MAX_CERTS)
        return err_set(err, MUSTER_ECHAINLONG, "The device sent %zu certificates; at most %d are accepted.", n + 1, CHAIN_MAX_CERTS);
    for (size_t i = 0; i < n; i++)
        bytes += i2d_X509(presented[i]->x, NULL);
    if (bytes > CHAIN_MAX_BYTES)
        return err_set(err, MUSTER_ECHAINLONG, "The device sent %d bytes of certificates; at most %d are accepted.", bytes, CHAIN_MAX_BYTES);
    return 0;
}

int chain_judge(const struct anchor_set *anchors, const struct cert *leaf, struct cert *const *presented, size_t n, int64_t now,
                struct chain_found *found, struct err *err) {
    *found = (struct chain_found){.until = INT64_MAX};
    int rc = check_size(leaf, presented, n, err);
    if (rc)
        return rc;
    struct search s = {.anchors = anchors, .presented = presented, .n = n, .now = now, .budget = CHAIN_MAX_SIGNATURES, .good = {.until = INT64_MAX}};
    bool over = search_from(&s, leaf);
    if (s.good.n) {
        *found = s.good;
        return 0;
    }
    if (s.refused.n) {
        *found = s.refused;
        if (err)
            *err = s.err;
        return s.rc;
    }
    if (leaf->ca)
        return err_set(err, MUSTER_ECERTISCA, NULL);
    if (over)
        return err_set(err, MUSTER_ECHAINLONG, "Too many CA certificates have the names that this chain leads through: it was given up after %d signatures.", CHAIN_MAX_SIGNATURES);
    CLEANUP(buf_fini) struct buf issuer = BUF_INIT(4096);
    cert_issuer_text(leaf, &issuer);
    return err_set(err, MUSTER_ECERTUNTRUSTED, "The certificate's issuer (%.150s) is no fleet root that is known here, nor under one.", buf_str(&issuer));
}

/* --- roots ------------------------------------------------------------------------------------------------------------------- */

static int unfit(struct err *err, const char *what) { return err_set(err, MUSTER_EROOTUNFIT, "The certificate cannot be a fleet root: %s.", what); }

int chain_root_fit(const struct cert *cert, int64_t now, struct err *err) {
    if (!cert->ca)
        return unfit(err, "it is not a CA certificate (basicConstraints CA:TRUE)");
    uint32_t flags = X509_get_extension_flags(cert->x);
    if (flags & EXFLAG_INVALID)
        return unfit(err, "its extensions cannot be decoded");
    if ((flags & EXFLAG_KUSAGE) && !(X509_get_key_usage(cert->x) & KU_KEY_CERT_SIGN))
        return unfit(err, "its key usage does not allow signing certificates");
    if (flags & EXFLAG_CRITICAL)
        return unfit(err, "it has a critical extension that is not understood");
    if (key_acceptable(&cert->key, NULL))
        return unfit(err, "its key is too weak or of a kind that is not accepted (RSA from 2048 bits, EC P-256, P-384, P-521, Ed25519)");
    if (cert->not_after < now)
        return unfit(err, "it has expired");
    if (cert->not_before > now)
        return unfit(err, "it is not valid yet");
    int bits = 0;
    if (X509_get_signature_info(cert->x, NULL, NULL, &bits, NULL) == 1 && cert->self_signed && bits < 112)
        return unfit(err, "it is signed with a hash that is too weak");
    ERR_clear_error();
    return 0;
}
