/* Certificate chains as devices present them: u16 length and DER, leaf first, again and again.  Judged under fixed anchors (anchors.inc)
 * before, in and after the time for which the seeds were made; and each device ID rule over the leaf. */
#include "base/clock.h"
#include "base/cursor.h"
#include "cert_once.h"
#include "fuzz.h"
#include "pki/chain.h"

#include "anchors.inc" /* ANCHORS: an anchor and an issuing CA under it, each in DER */

#define CERTS_MAX 10

static const int64_t TIMES[] = {1767225600 /* 2026 */, 1546300800 /* 2019 */, 2366841600 /* 2045 */};

static struct anchor_set *anchors(void) {
    static struct anchor_set *set;
    if (set)
        return set;
    set = anchor_set_new();
    for (size_t i = 0; i < sizeof ANCHORS / sizeof *ANCHORS; i++) {
        struct cert *cert = NULL, **under = NULL;
        MUST(set && cert_from_der(ANCHORS[i].cert, &cert, NULL) == 0);
        if (ANCHORS[i].under.n) {
            under = calloc(1, sizeof *under);
            MUST(under && cert_from_der(ANCHORS[i].under, under, NULL) == 0);
        }
        MUST(anchor_set_add(set, cert, under, ANCHORS[i].under.n ? 1 : 0, NULL) == 0);
    }
    MUST(anchor_set_size(set) == sizeof ANCHORS / sizeof *ANCHORS);
    return set;
}

static void check_ids(const struct cert *leaf) {
    for (enum id_rule rule = ID_RULE_CN; rule <= ID_RULE_FINGERPRINT; rule++) {
        CLEANUP(buf_fini) struct buf id = BUF_INIT(200);
        struct err err = ERR_INIT;
        enum id_rule same;
        int rc = cert_device_id(leaf, rule, &id, &err);
        MUST(id_rule_parse(span_str(id_rule_name(rule)), &same) == 0 && same == rule);
        if (rc == 0)
            MUST(id.n >= 1 && id.n <= 128 && span_is_utf8(buf_span(&id)) && !span_has_control(buf_span(&id)));
        else
            MUST(rc == err.code && (rc == MUSTER_EIDNONE || rc == MUSTER_EIDSEVERAL || rc == MUSTER_EIDUNDECODABLE) && id.n == 0);
        MUST(rc == 0 || rule != ID_RULE_FINGERPRINT);
    }
}

/* What is known of a verdict without judging again. */
static void check_verdict(int rc, const struct err *err, const struct cert *leaf, const struct chain_found *found, int64_t now) {
    if (rc) {
        MUST(rc == err->code && err_text(err)[0] && found->n <= 1);
        MUST(rc == MUSTER_ECHAINLONG || rc == MUSTER_ECERTISCA || rc == MUSTER_ECERTPURPOSE || rc == MUSTER_ECERTWEAKKEY || rc == MUSTER_ECERTWEAKHASH ||
             rc == MUSTER_ECERTEXPIRED || rc == MUSTER_ECERTEARLY || rc == MUSTER_ECHAININVALID || rc == MUSTER_ECERTUNTRUSTED);
        MUST(found->n == 0 || (rc != MUSTER_ECERTUNTRUSTED && rc != MUSTER_ECHAINLONG));
        return;
    }
    MUST(found->n >= 1 && found->n <= CHAIN_FOUND_MAX && !leaf->ca && cert_allows_client(leaf) && key_acceptable(&leaf->key, NULL) == 0);
    MUST(leaf->not_before <= now && now <= found->until && found->until <= leaf->not_after);
    for (size_t i = 0; i < found->n; i++) {
        const struct cert *anchor = found->at[i]->cert;
        MUST(anchor->not_before <= now && found->until <= anchor->not_after);
        for (size_t k = 0; k < i; k++)
            MUST(found->at[i] != found->at[k]);
    }
}

static int judge_under(const struct anchor_set *set, const struct cert *leaf, struct cert *const *presented, size_t n, int64_t now) {
    struct chain_found found;
    struct err err = ERR_INIT;
    int rc = chain_judge(set, leaf, presented, n, now, &found, &err);
    check_verdict(rc, &err, leaf, &found, now);
    return rc;
}

static int judge(const struct cert *leaf, struct cert *const *presented, size_t n, int64_t now) { return judge_under(anchors(), leaf, presented, n, now); }

/* As the proof of an uploaded root does it: the last certificate is the only anchor. */
static void check_own_anchor(const struct cert *leaf, struct cert *const *presented, size_t n) {
    struct anchor_set *set = anchor_set_new();
    struct cert *copy = NULL;
    MUST(set && cert_from_x509(presented[n - 1]->x, &copy, NULL) == 0 && anchor_set_add(set, copy, NULL, 0, NULL) == 0);
    anchor_set_ref(set);
    anchor_set_unref(set);
    int rc = judge_under(set, leaf, presented, n - 1, TIMES[0]);
    if (rc == 0 && n == 1)
        MUST(cert_signed_by(leaf, presented[0]));
    anchor_set_unref(set);
}

static void check_roles(const struct cert *leaf, struct cert *const *presented, size_t n) {
    struct err err = ERR_INIT;
    struct cert *roots[sizeof ANCHORS / sizeof *ANCHORS];
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        roots[i] = anchor_set_at(anchors(), i)->cert;
    if (chain_root_fit(leaf, TIMES[0], &err) == 0)
        MUST(leaf->ca && leaf->not_before <= TIMES[0] && TIMES[0] <= leaf->not_after);
    else
        MUST(err.code == MUSTER_EROOTUNFIT && err.text[0]);
    err = ERR_INIT;
    if (chain_judge_server(roots, 2, leaf, presented, n, TIMES[0], &err))
        MUST(err.code && err.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct cursor c = cursor_of(span_of(data, n));
    struct cert *certs[CERTS_MAX] = {NULL}, *turned[CERTS_MAX];
    size_t count = 0;
    while (c.rest.n && count < CERTS_MAX) {
        struct span der = cursor_bytes(&c, cursor_u16(&c));
        struct err err = ERR_INIT;
        if (c.failed)
            break;
        if (cert_once(der, &certs[count], &err) == 0)
            count++;
        else
            MUST(err.code == MUSTER_ECERTMALFORMED && err.text[0]);
    }
    if (count) {
        check_ids(certs[0]);
        check_roles(certs[0], certs + 1, count - 1);
        if (count > 1)
            check_own_anchor(certs[0], certs + 1, count - 1);
        for (size_t i = 0; i < sizeof TIMES / sizeof *TIMES; i++) {
            int rc = judge(certs[0], certs + 1, count - 1, TIMES[i]);
            if (count == 3 && i == 0) {
                /* Devices may send the rest in any order. */
                turned[0] = certs[2];
                turned[1] = certs[1];
                MUST((judge(certs[0], turned, 2, TIMES[i]) == 0) == (rc == 0));
            }
        }
    }
    for (size_t i = 0; i < count; i++)
        cert_free(certs[i]);
    return 0;
}
