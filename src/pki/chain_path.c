/* chain_path: see chain_path.h.  What RFC 5280 says of a path is X509_verify_cert's to decide, and never which path. */
#include "pki/chain_path.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "base/clock.h"
#include "pki/pki.h"

#define SECURITY_LEVEL 2 /* 112 bits: no SHA-1, no RSA under 2048 */

DEFINE_CLEANUP(X509_STORE_CTX_free, X509_STORE_CTX *)
DEFINE_CLEANUP(X509_STORE_free, X509_STORE *)
static inline void stack_free(STACK_OF(X509) *s) { sk_X509_free(s); } /* the certificates stay their owners' */
DEFINE_CLEANUP(stack_free, STACK_OF(X509) *)

/* --- what is said of a refusal ---------------------------------------------------------------------------------------------------- */

static const char *who(size_t at, size_t n) { return at == 0 ? "The device's certificate" : at == n - 1 ? "The fleet root" : "An intermediate CA"; }

static void subject_of(const struct cert *c, struct buf *out) {
    cert_subject_text(c, out);
    if (out->n > 100) {
        out->n = 100;
        while (out->n && (out->p[out->n] & 0xc0) == 0x80)
            out->n--;
        out->p[out->n] = '\0';
    }
}

static void ago(int64_t seconds, char *out, size_t n) {
    const char *unit = seconds >= 2 * CLOCK_DAY ? "days" : seconds >= 2 * CLOCK_HOUR ? "hours" : "seconds";
    int64_t each = seconds >= 2 * CLOCK_DAY ? CLOCK_DAY : seconds >= 2 * CLOCK_HOUR ? CLOCK_HOUR : 1;
    snprintf(out, n, "%lld %s", (long long)(seconds / each), unit);
}

static int refuse(struct err *err, int code, const struct cert *c, size_t at, size_t n, const char *what) {
    CLEANUP(buf_fini) struct buf name = BUF_INIT(4096);
    subject_of(c, &name);
    return err_set(err, code, "%s (%s) %s.", who(at, n), buf_str(&name), what);
}

static int refuse_time(struct err *err, const struct cert *c, size_t at, size_t n, int64_t now, bool expired) {
    char span[40], what[100];
    ago(expired ? now - c->not_after : c->not_before - now, span, sizeof span);
    snprintf(what, sizeof what, expired ? "expired %s ago" : "is not valid for another %s", span);
    return refuse(err, expired ? MUSTER_ECERTEXPIRED : MUSTER_ECERTEARLY, c, at, n, what);
}

/* What the library's verdict means here.  MUSTER_ECERTUNTRUSTED: no path at all. */
static int translate(int verdict, struct err *err, const struct cert *c, size_t at, size_t n, int64_t now) {
    switch (verdict) {
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return MUSTER_ECERTUNTRUSTED;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return refuse_time(err, c, at, n, now, true);
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return refuse_time(err, c, at, n, now, false);
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
        return refuse(err, MUSTER_ECERTWEAKKEY, c, at, n, "has a key that is too weak");
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return refuse(err, MUSTER_ECERTWEAKHASH, c, at, n, "is signed with a hash that is too weak");
    case X509_V_ERR_INVALID_CA:
        return refuse(err, MUSTER_ECHAININVALID, c, at, n, "has issued a certificate without being a CA");
    case X509_V_ERR_OUT_OF_MEM:
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    char what[120];
    snprintf(what, sizeof what, "breaks a rule of RFC 5280: %s", X509_verify_cert_error_string(verdict));
    return refuse(err, MUSTER_ECHAININVALID, c, at, n, what);
}

/* --- judging --------------------------------------------------------------------------------------------------------------------- */

/* The rules that are Muster's own. */
static int judge_own(const struct cert *const *path, size_t n, struct err *err) {
    if (path[0]->ca)
        return refuse(err, MUSTER_ECERTISCA, path[0], 0, n, "is a CA certificate");
    if (!cert_allows_client(path[0]))
        return refuse(err, MUSTER_ECERTPURPOSE, path[0], 0, n, "does not allow TLS client authentication in its key usages");
    for (size_t i = 0; i < n; i++)
        if (key_acceptable(&path[i]->key, NULL))
            return refuse(err, MUSTER_ECERTWEAKKEY, path[i], i, n, "has a key that is too weak or of a kind that is not accepted");
    return 0;
}

static bool signatures_hold(const struct cert *const *path, size_t n) {
    for (size_t i = 0; i + 1 < n; i++)
        if (!cert_signed_by(path[i], path[i + 1]))
            return false;
    return true;
}

/* What one judgement is of. */
struct path {
    const struct cert *const *at;
    size_t n;
};

/* The library takes the next certificate of the path for an issuer, and nothing else: left to itself it takes an anchor of the same name before what
 * stands between, and would judge another path than the one that is asked about. */
static int issued_by_next(X509_STORE_CTX *ctx, X509 *x, X509 *issuer) {
    const struct path *p = X509_STORE_CTX_get_app_data(ctx);
    for (size_t i = 0; x != issuer && i < p->n; i++)
        if (p->at[i]->x == x)
            return i + 1 < p->n && p->at[i + 1]->x == issuer && X509_check_issued(issuer, x) == X509_V_OK;
    return x == issuer && X509_check_issued(issuer, x) == X509_V_OK;
}

/* What the library has built is the path, or where it failed its beginning: in the place of a self-signed certificate that was presented it puts the anchor. */
static bool is_built(X509_STORE_CTX *ctx, const struct path *p, bool whole) {
    STACK_OF(X509) *built = X509_STORE_CTX_get0_chain(ctx);
    size_t n = built ? (size_t)sk_X509_num(built) : 0;
    for (size_t i = 0; i < n && i < p->n; i++)
        if (sk_X509_value(built, (int)i) != p->at[i]->x)
            return false;
    return whole ? n == p->n : n <= p->n;
}

/* exactly: the certificates are a path, each issued by the next; else they are what a server sent, in any order, and an anchor. */
static int verify(const struct path *path, bool exactly, int purpose, int64_t now, int *verdict, size_t *at, struct err *err) {
    CLEANUP(X509_STORE_free) X509_STORE *store = X509_STORE_new();
    CLEANUP(X509_STORE_CTX_free) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    CLEANUP(stack_free) STACK_OF(X509) *trusted = sk_X509_new_null();
    CLEANUP(stack_free) STACK_OF(X509) *between = sk_X509_new_null();
    size_t n = path->n;
    if (!store || !ctx || !trusted || !between || sk_X509_push(trusted, path->at[n - 1]->x) <= 0)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 1; i + 1 < n; i++)
        if (sk_X509_push(between, path->at[i]->x) <= 0)
            return err_set(err, MUSTER_ENOMEM, NULL);
    if (exactly)
        X509_STORE_set_check_issued(store, issued_by_next);
    if (X509_STORE_CTX_init(ctx, store, path->at[0]->x, between) != 1 || X509_STORE_CTX_set_app_data(ctx, (void *)path) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Judging a certificate chain");
    X509_STORE_CTX_set0_trusted_stack(ctx, trusted);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_purpose(param, purpose);
    X509_VERIFY_PARAM_set_auth_level(param, SECURITY_LEVEL);
    X509_VERIFY_PARAM_set_depth(param, CHAIN_PATH_MAX);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    X509_VERIFY_PARAM_set_time(param, (time_t)now);
    bool good = X509_verify_cert(ctx) == 1;
    *verdict = good ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    int depth = X509_STORE_CTX_get_error_depth(ctx);
    *at = depth < 0 ? 0 : (size_t)depth < n ? (size_t)depth : n - 1;
    ERR_clear_error();
    if (!good && *verdict == X509_V_OK) /* a failure without a verdict */
        *verdict = X509_V_ERR_UNSPECIFIED;
    if (exactly && *verdict != X509_V_ERR_OUT_OF_MEM && !is_built(ctx, path, good))
        *verdict = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT;
    return 0;
}

int chain_path_judge(const struct cert *const *path, size_t n, int64_t now, struct err *err) {
    int verdict;
    size_t at;
    int rc = verify(&(struct path){path, n}, true, X509_PURPOSE_ANY, now, &verdict, &at, err);
    if (rc)
        return rc;
    if (verdict == X509_V_OK)
        return judge_own(path, n, err);
    struct err why = ERR_INIT;
    rc = translate(verdict, &why, path[at], at, n, now);
    if (rc == MUSTER_ECERTUNTRUSTED || rc == MUSTER_ENOMEM || !signatures_hold(path, n))
        return rc == MUSTER_ENOMEM ? err_set(err, rc, NULL) : MUSTER_ECERTUNTRUSTED;
    /* The leaf's own faults come first: they are what its maker can mend. */
    int own = judge_own(path, n, err);
    if (own)
        return own;
    if (err)
        *err = why;
    return rc;
}

/* --- servers -------------------------------------------------------------------------------------------------------------------- */

int chain_judge_server(struct cert *const *anchors, size_t n_anchors, const struct cert *leaf, struct cert *const *presented, size_t n, int64_t now,
                       struct err *err) {
    int verdict = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
    for (size_t i = 0; i < n_anchors; i++) {
        const struct cert *path[CHAIN_PATH_MAX] = {leaf};
        size_t depth = 1, at;
        for (size_t k = 0; k < n && depth + 1 < CHAIN_PATH_MAX; k++)
            path[depth++] = presented[k];
        path[depth++] = anchors[i];
        int one, rc = verify(&(struct path){path, depth}, false, X509_PURPOSE_SSL_SERVER, now, &one, &at, err);
        if (rc || one == X509_V_OK)
            return rc;
        verdict = one;
    }
    return err_set(err, MUSTER_ECERTUNTRUSTED, "The server's certificate does not verify under any of the anchors: %s.", X509_verify_cert_error_string(verdict));
}
