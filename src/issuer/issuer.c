/* issuer: see issuer.h. */
#include "issuer/issuer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "metrics/metrics.h"

#define DER_MAX 16384 /* bytes of a certificate */

struct job {
    struct enrol enrol; /* first: what the operation is given */
    struct issuer *issuer;
    char device_id[DEVICE_ID_MAX + 1], address[64], account[ACCOUNT_NAME_MAX + 1];
    int64_t life, began; /* began: monotonic, microseconds */
    EVP_PKEY *key;         /* NULL: the device has its own */
    struct key_facts own;
    struct buf spki, der; /* of the key; of the certificate */
    uint8_t serial[VAULT_SERIAL_LEN];
    struct made_cert cert;
    issuer_fn done;
    void *arg;
};

static void job_free(struct job *j) {
    EVP_PKEY_free(j->key);
    buf_fini(&j->spki);
    buf_fini(&j->enrol.same);
    buf_wipe(&j->der); /* a certificate that nobody has is nobody's business */
    free(j);
}

static void count(const struct job *j, int rc) {
    static const enum metrics_enrolment results[] = {[ENROL_REFUSED] = ENROLMENT_REFUSED, [ENROL_NEW] = ENROLMENT_NEW, [ENROL_AGAIN] = ENROLMENT_AGAIN,
                                                     [ENROL_REPLACE] = ENROLMENT_REPLACED, [ENROL_ASK] = ENROLMENT_REFUSED, [ENROL_SAME] = ENROLMENT_AGAIN};
    bool failed = rc && j->enrol.verdict.how != ENROL_REFUSED && j->enrol.verdict.how != ENROL_ASK;
    metrics_count(METRIC_ENROLMENTS, failed || (rc && err_http(rc) >= 500) ? ENROLMENT_FAILED : results[j->enrol.verdict.how], 0);
    if (!rc)
        metrics_observe(METRIC_ENROLMENT_TIME, clock_mono_us() - j->began);
}

static void finish(struct job *j, int rc, const struct err *err) {
    count(j, rc);
    const struct enrol_verdict *v = &j->enrol.verdict;
    const struct issued issued = {.key = j->key, .cert = buf_span(v->how == ENROL_SAME ? &j->enrol.same : &j->der), .account = j->enrol.account_name, .device_id = j->device_id,
                                  .device = j->enrol.device, .again = v->how == ENROL_AGAIN || v->how == ENROL_SAME, .withheld = v->withheld};
    j->done(j->arg, rc, err, rc ? NULL : &issued);
    job_free(j);
}

static bool refused(const struct job *j) { return j->enrol.verdict.how == ENROL_REFUSED || j->enrol.verdict.how == ENROL_ASK; }

/* The transaction has run: what it says counts. */
static void stored(void *arg, int rc, const struct err *err) {
    struct job *j = arg;
    if (rc)
        finish(j, rc, err);
    else if (refused(j))
        finish(j, j->enrol.verdict.err.code, &j->enrol.verdict.err);
    else
        finish(j, 0, NULL);
}

static void store(struct job *j) {
    struct err err = ERR_INIT;
    int rc = store_write(j->issuer->store, j->issuer->loop, enrol_run, stored, j, &err);
    if (rc)
        finish(j, rc, &err);
}

/* What the vault says of the certificate is taken as it is, but for the key that was asked for, which has to be in it. */
static int take_certificate(struct job *j, const struct vault_issued *issued, struct err *err) {
    struct span spki = buf_span(&j->spki);
    buf_add(&j->der, issued->der);
    memcpy(j->serial, issued->serial, sizeof j->serial);
    int rc = buf_check(&j->der, err);
    if (rc)
        return rc;
    if (!memmem(issued->der.p, issued->der.n, spki.p, spki.n))
        return err_set(err, MUSTER_EINTERNAL, "The vault's certificate is of another key.");
    j->cert = (struct made_cert){.der = buf_span(&j->der), .serial = span_of(j->serial, sizeof j->serial), .not_before = issued->not_before, .not_after = issued->not_after};
    hash_of(j->cert.der, &j->cert.fingerprint);
    hash_of(spki, &j->cert.spki);
    return 0;
}

static void signed_by_vault(void *arg, int rc, const struct err *err, const struct vault_issued *issued) {
    struct job *j = arg;
    struct err why = ERR_INIT;
    if (rc) {
        finish(j, rc, err);
        return;
    }
    if ((rc = take_certificate(j, issued, &why))) {
        finish(j, rc, &why);
        return;
    }
    j->enrol.cert = &j->cert;
    store(j);
}

static int make_key(struct job *j, struct err *err) {
    if (j->enrol.own)
        return 0; /* j->spki has it */
    return j->enrol.device_key == DEVICE_KEY_RSA ? rsa_pool_take(j->issuer->pool, &j->key, err) : key_maker_make(j->issuer->keys, &j->key, err);
}

static int ask_vault(struct job *j, struct err *err) {
    int rc = make_key(j, err);
    if (rc || (j->key && (rc = key_public_der(j->key, &j->spki, err))))
        return rc;
    int64_t most = j->enrol.device_life;
    const struct vault_issue rq = {.account = span_str(j->enrol.account_name), .device_id = span_str(j->device_id), .uuid = j->enrol.device, .public_key = buf_span(&j->spki),
                                   .life = j->life > 0 && j->life < most ? j->life : most};
    return vault_issue(j->issuer->vault, &rq, signed_by_vault, j, err);
}

static void checked(void *arg, int rc, const struct err *err) {
    struct job *j = arg;
    struct err why = ERR_INIT;
    if (rc) {
        finish(j, rc, err);
    } else if (j->enrol.verdict.how == ENROL_ASK) {
        store(j); /* writes the wish down */
    } else if (refused(j)) {
        finish(j, j->enrol.verdict.err.code, &j->enrol.verdict.err);
    } else if (j->enrol.verdict.how == ENROL_SAME) {
        finish(j, 0, NULL);
    } else if ((rc = ask_vault(j, &why))) {
        finish(j, rc, &why);
    }
}

int issuer_enrol(struct issuer *is, const struct issuer_enrol *rq, issuer_fn done, void *arg, struct err *err) {
    if (rq->device_id.n > DEVICE_ID_MAX || memchr(rq->device_id.p, 0, rq->device_id.n))
        return err_set(err, MUSTER_EDEVICEID, NULL);
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return err_set(err, MUSTER_ENOMEM, NULL);
    j->issuer = is;
    j->done = done;
    j->arg = arg;
    j->life = rq->life;
    j->began = clock_mono_us();
    j->spki = BUF_INIT(4096);
    j->der = BUF_INIT(DER_MAX);
    memcpy(j->device_id, rq->device_id.p, rq->device_id.n);
    snprintf(j->address, sizeof j->address, "%s", rq->address);
    snprintf(j->account, sizeof j->account, "%s", rq->account);
    j->enrol = (struct enrol){.key_spki = rq->key_spki, .device_id = span_str(j->device_id), .address = j->address, .account = j->account, .reserved = is->reserved, .uuid = uuid_new(),
                              .same = BUF_INIT(DER_MAX)};
    if (rq->own) {
        j->own = *rq->own;
        j->enrol.own = &j->own;
        buf_add(&j->spki, rq->own_der);
    }
    int rc = store_read(is->store, is->loop, enrol_run, checked, j, err);
    if (rc)
        job_free(j);
    return rc;
}
