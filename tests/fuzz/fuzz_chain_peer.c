/* A second opinion on certificate chains: X509_verify_cert() with all anchors and all that was presented in one heap, as most servers call it.
 * What it takes we take, unless a rule of ours that it does not have is broken; what we take it takes, unless certificates of one name are about,
 * of which it looks at one. */
#include "base/clock.h"
#include "base/cursor.h"
#include "cert_once.h"
#include "fuzz.h"
#include "pki/chain.h"

#include "anchors.inc"

#define CERTS_MAX 8
#define N_ANCHORS (sizeof ANCHORS / sizeof *ANCHORS)
#define NOW 1767225600 /* 2026 */

static struct cert *roots[N_ANCHORS], *under[N_ANCHORS];
static struct anchor_set *anchors;

static struct cert *read_cert(struct span der) {
    struct cert *c = NULL;
    return cert_once(der, &c, NULL) ? NULL : c;
}

static void prepare(void) {
    anchors = anchor_set_new();
    for (size_t i = 0; i < N_ANCHORS; i++) {
        struct cert **below = ANCHORS[i].under.n ? calloc(1, sizeof *below) : NULL;
        roots[i] = read_cert(ANCHORS[i].cert);
        if (below) {
            under[i] = read_cert(ANCHORS[i].under);
            *below = read_cert(ANCHORS[i].under);
        }
        MUST(anchor_set_add(anchors, read_cert(ANCHORS[i].cert), below, below ? 1 : 0, NULL) == 0);
    }
}

static bool library(struct cert *const *certs, size_t n, int *why) {
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *between = sk_X509_new_null();
    for (size_t i = 0; i < N_ANCHORS; i++) {
        MUST(X509_STORE_add_cert(store, roots[i]->x) == 1);
        if (under[i])
            sk_X509_push(between, under[i]->x);
    }
    for (size_t i = 1; i < n; i++)
        sk_X509_push(between, certs[i]->x);
    MUST(X509_STORE_CTX_init(ctx, store, certs[0]->x, between) == 1);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_X509_STRICT);
    X509_VERIFY_PARAM_set_time(param, NOW);
    X509_VERIFY_PARAM_set_auth_level(param, 2);
    bool good = X509_verify_cert(ctx) == 1;
    *why = X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_free(between);
    return good;
}

/* Two of one name among all that could stand above the leaf. */
static bool namesakes(struct cert *const *certs, size_t n) {
    const X509_NAME *names[CERTS_MAX + 2 * N_ANCHORS];
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        names[k++] = X509_get_subject_name(certs[i]->x);
    for (size_t i = 0; i < N_ANCHORS; i++) {
        names[k++] = X509_get_subject_name(roots[i]->x);
        if (under[i])
            names[k++] = X509_get_subject_name(under[i]->x);
    }
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < i; j++)
            if (X509_NAME_cmp(names[i], names[j]) == 0)
                return true;
    return false;
}

static bool has_own_rule(int code) {
    return code == MUSTER_ECERTISCA || code == MUSTER_ECERTPURPOSE || code == MUSTER_ECERTWEAKKEY || code == MUSTER_ECERTWEAKHASH || code == MUSTER_ECHAINLONG;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct cursor c = cursor_of(span_of(data, n));
    struct cert *certs[CERTS_MAX];
    size_t count = 0;
    if (!anchors)
        prepare();
    while (c.rest.n && count < CERTS_MAX) {
        struct span der = cursor_bytes(&c, cursor_u16(&c));
        if (c.failed)
            break;
        if ((certs[count] = read_cert(der)))
            count++;
    }
    if (count) {
        struct chain_found found;
        struct err err = ERR_INIT;
        int why, rc = chain_judge(anchors, certs[0], certs + 1, count - 1, NOW, &found, &err);
        bool theirs = library(certs, count, &why);
        if (theirs && rc && !has_own_rule(rc)) {
            fprintf(stderr, "taken by the library, not by us: %s\n", err_text(&err));
            MUST(!"theirs");
        }
        if (!theirs && !rc && !namesakes(certs, count)) {
            fprintf(stderr, "taken by us, not by the library: %s\n", X509_verify_cert_error_string(why));
            MUST(!"ours");
        }
    }
    for (size_t i = 0; i < count; i++)
        cert_free(certs[i]);
    return 0;
}
