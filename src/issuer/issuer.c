/* issuer: see issuer.h. */
#include "issuer/issuer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "metrics/metrics.h"
#include "pki/key_weak.h"

#define DER_MAX 16384 /* bytes of a certificate */

/* What the registry has said, whichever of the two operations it was. */
struct told {
    const struct err *refused; /* NULL: not */
    bool ask;                  /* refused, but the wish is to be written down */
    struct span same;          /* the certificate that the device got before: there is nothing to issue; .n 0: there is */
    const char *account, *device_id;
    struct uuid device;
    const struct device_profile *profile, *narrow; /* registry/enrol.h */
    bool again;
    int withheld;
    const struct err *shadow;
};

struct job {
    union {
        struct enrol enrol;
        struct renew renew;
    }; /* first: what the operation is given */
    const struct kind *kind;
    struct issuer *issuer;
    char device_id[DEVICE_ID_MAX + 1], address[64], account[ACCOUNT_NAME_MAX + 1];
    int64_t life, began; /* began: monotonic, microseconds */
    bool est;
    EVP_PKEY *key;         /* NULL: the device has its own */
    struct key_facts own;
    struct hash code, server_ca; /* of an invitation; issuer.h */
    struct buf spki, der;  /* of the key; of the certificate */
    uint8_t serial[VAULT_SERIAL_LEN];
    struct made_cert cert;
    issuer_fn done;
    void *arg;
};

/* --- the two operations ---------------------------------------------------------------------------------------------------------- */

struct kind {
    store_run_fn run;
    struct told (*told)(const struct job *j);
    void (*count)(const struct job *j, int rc);
    void (*take)(struct job *j, const struct made_cert *cert); /* for the transaction that stores it */
    void (*fini)(struct job *j);
};

static struct told enrol_told(const struct job *j) {
    const struct enrol *e = &j->enrol;
    const struct enrol_verdict *v = &e->verdict;
    bool refused = v->how == ENROL_REFUSED || v->how == ENROL_ASK;
    return (struct told){.refused = refused ? &v->err : NULL, .ask = v->how == ENROL_ASK, .same = v->how == ENROL_SAME ? buf_span(&e->same) : SPAN_NONE, .account = e->account_name,
                         .device_id = j->device_id, .device = e->device, .profile = &e->profile, .narrow = &e->narrow, .again = v->how == ENROL_AGAIN || v->how == ENROL_SAME, .withheld = v->withheld, .shadow = &v->shadow};
}

/* A key that is found weak behind the registry's word is the device's affair. */
static bool is_failure(int rc) { return rc && rc != MUSTER_ECSR; }

/* Not for want of an answer from outside, which is a refusal. */
static bool server_failed(int rc) { return rc && err_http(rc) >= 500 && rc != MUSTER_EHOOKWAITS && rc != MUSTER_EHOOKFAILED; }

static void enrol_count(const struct job *j, int rc) {
    static const enum metrics_enrolment results[] = {[ENROL_REFUSED] = ENROLMENT_REFUSED, [ENROL_NEW] = ENROLMENT_NEW, [ENROL_AGAIN] = ENROLMENT_AGAIN,
                                                     [ENROL_REPLACE] = ENROLMENT_REPLACED, [ENROL_ASK] = ENROLMENT_REFUSED, [ENROL_SAME] = ENROLMENT_AGAIN};
    bool failed = is_failure(rc) && j->enrol.verdict.how != ENROL_REFUSED && j->enrol.verdict.how != ENROL_ASK;
    metrics_count(METRIC_ENROLMENTS, failed || server_failed(rc) ? ENROLMENT_FAILED : rc ? ENROLMENT_REFUSED : results[j->enrol.verdict.how], 0);
    if (!rc)
        metrics_observe(METRIC_ENROLMENT_TIME, clock_mono_us() - j->began);
}

static void enrol_take(struct job *j, const struct made_cert *cert) { j->enrol.cert = cert; }
static void enrol_fini(struct job *j) { buf_fini(&j->enrol.same); }

static struct told renew_told(const struct job *j) {
    const struct renew *r = &j->renew;
    enum renew_how how = r->verdict.how;
    return (struct told){.refused = how == RENEW_REFUSED || how == RENEW_ASK ? &r->verdict.err : NULL, .ask = how == RENEW_ASK, .same = how == RENEW_SAME ? buf_span(&r->same) : SPAN_NONE, .account = r->account_name,
                         .device_id = r->device_id, .device = r->uuid, .profile = &r->profile, .narrow = &r->narrow, .again = how == RENEW_SAME, .shadow = &r->verdict.shadow};
}

static void renew_count(const struct job *j, int rc) {
    static const enum metrics_renewal results[] = {[RENEW_REFUSED] = RENEWAL_REFUSED, [RENEW_NEW] = RENEWAL_NEW, [RENEW_SAME] = RENEWAL_AGAIN, [RENEW_ASK] = RENEWAL_REFUSED};
    bool failed = is_failure(rc) && ((j->renew.verdict.how != RENEW_REFUSED && j->renew.verdict.how != RENEW_ASK) || server_failed(rc));
    const struct renew_verdict *v = &j->renew.verdict;
    metrics_count(METRIC_RENEWALS, failed ? RENEWAL_FAILED : rc ? RENEWAL_REFUSED : v->how == RENEW_NEW && v->superseded ? RENEWAL_SUPERSEDED : results[v->how], 0);
}

static void renew_take(struct job *j, const struct made_cert *cert) { j->renew.cert = cert; }
static void renew_fini(struct job *j) { buf_fini(&j->renew.same); }

static const struct kind ENROL = {enrol_run, enrol_told, enrol_count, enrol_take, enrol_fini}, RENEW = {renew_run, renew_told, renew_count, renew_take, renew_fini};

/* --- the steps, last to first ------------------------------------------------------------------------------------------------------- */

static void job_free(struct job *j) {
    EVP_PKEY_free(j->key);
    buf_fini(&j->spki);
    j->kind->fini(j);
    buf_wipe(&j->der); /* a certificate that nobody has is nobody's business */
    free(j);
}

static void finish(struct job *j, int rc, const struct err *err) {
    const struct told t = j->kind->told(j);
    j->kind->count(j, rc);
    const struct issued issued = {.key = j->key, .public_key = buf_span(&j->spki), .cert = t.same.n ? t.same : buf_span(&j->der), .account = t.account,
                                  .device_id = t.device_id, .device = t.device, .again = t.again, .withheld = t.withheld, .shadow = t.shadow->code ? t.shadow : NULL};
    j->done(j->arg, rc, err, rc ? NULL : &issued);
    job_free(j);
}

/* The transaction has run: what it says counts. */
static void stored(void *arg, int rc, const struct err *err) {
    struct job *j = arg;
    const struct err *refused = j->kind->told(j).refused;
    if (rc)
        finish(j, rc, err);
    else if (refused)
        finish(j, refused->code, refused);
    else
        finish(j, 0, NULL);
}

static void store(struct job *j) {
    struct err err = ERR_INIT;
    int rc = store_write(j->issuer->store, j->issuer->loop, j->kind->run, stored, j, &err);
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
    if (span_find(issued->der, spki) < 0)
        return err_set(err, MUSTER_EINTERNAL, "The vault's certificate is of another key.");
    j->cert = (struct made_cert){.der = buf_span(&j->der), .serial = span_of(j->serial, sizeof j->serial), .not_before = issued->not_before, .not_after = issued->not_after};
    hash_of(j->cert.der, &j->cert.fingerprint);
    if (j->own.kind)
        j->cert.spki = j->own.spki; /* its name in whichever form it came */
    else
        hash_of(spki, &j->cert.spki);
    return 0;
}

/* What is wrong with the token is the operators' to know, whose log has it: not a device's. */
static const struct err *for_devices(const struct err *err, struct err *plain) {
    if (err->code != MUSTER_ETOKEN)
        return err;
    *plain = (struct err){.code = err->code, .retry_after = err->retry_after};
    return plain;
}

static void signed_by_vault(void *arg, int rc, const struct err *err, const struct vault_issued *issued) {
    struct job *j = arg;
    struct err why = ERR_INIT;
    if (rc) {
        finish(j, rc, for_devices(err, &why));
        return;
    }
    if ((rc = take_certificate(j, issued, &why))) {
        finish(j, rc, &why);
        return;
    }
    j->kind->take(j, &j->cert);
    store(j);
}

/* j->spki has the device's own where it brought one. */
static int make_key(struct job *j, struct err *err) {
    if (j->spki.n)
        return 0;
    int rc = j->enrol.device_key == DEVICE_KEY_RSA ? rsa_pool_take(j->issuer->pool, &j->key, err) : key_maker_make(j->issuer->keys, &j->key, err);
    return rc ? rc : key_public_der(j->key, &j->spki, err);
}

static int ask_vault(struct job *j, const struct told *t, struct err *err) {
    int rc = make_key(j, err);
    if (rc)
        return rc;
    CLEANUP(buf_fini) struct buf narrow = BUF_INIT(PROFILE_TEXT_MAX);
    device_profile_write(t->narrow, &narrow);
    if ((rc = buf_check(&narrow, err)))
        return rc;
    const struct vault_issue rq = {.account = span_str(t->account), .device_id = span_str(t->device_id), .uuid = t->device, .public_key = buf_span(&j->spki),
                                   .life = device_profile_life(t->profile, j->life, j->est), .narrow = buf_span(&narrow)};
    return vault_issue(j->issuer->vault, &rq, signed_by_vault, j, err);
}

static void checked(void *arg, int rc, const struct err *err) {
    struct job *j = arg;
    struct err why = ERR_INIT;
    const struct told t = j->kind->told(j);
    if (rc) {
        finish(j, rc, err);
    } else if (t.ask) {
        store(j); /* writes the wish down */
    } else if (t.refused) {
        finish(j, t.refused->code, t.refused);
    } else if (t.same.n) {
        finish(j, 0, NULL);
    } else if ((rc = key_check_prime(buf_span(&j->spki), &j->own, &why)) || (rc = ask_vault(j, &t, &why))) {
        finish(j, rc, &why);
    }
}

/* --- the beginning ------------------------------------------------------------------------------------------------------------------- */

static struct job *job_new(struct issuer *is, const struct kind *kind, const char *address, int64_t life, bool est, const struct issuer_key *own, issuer_fn done, void *arg) {
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    j->kind = kind;
    j->issuer = is;
    j->done = done;
    j->arg = arg;
    j->life = life;
    j->est = est;
    j->began = clock_mono_us();
    j->spki = BUF_INIT(4096);
    j->der = BUF_INIT(DER_MAX);
    snprintf(j->address, sizeof j->address, "%s", address);
    if (own->facts) {
        j->own = *own->facts;
        buf_add(&j->spki, own->der);
    }
    return j;
}

static int begin(struct job *j, struct err *err) {
    int rc = buf_check(&j->spki, err);
    if (!rc)
        rc = store_look(j->issuer->store, j->issuer->loop, j->kind->run, checked, j, err);
    if (rc)
        job_free(j);
    return rc;
}

int issuer_enrol(struct issuer *is, const struct issuer_enrol *rq, issuer_fn done, void *arg, struct err *err) {
    if (rq->device_id.n > DEVICE_ID_MAX || memchr(rq->device_id.p, 0, rq->device_id.n))
        return err_set(err, MUSTER_EDEVICEID, NULL);
    struct job *j = job_new(is, &ENROL, rq->address, rq->life, rq->est, &rq->own, done, arg);
    if (!j)
        return err_set(err, MUSTER_ENOMEM, NULL);
    memcpy(j->device_id, rq->device_id.p, rq->device_id.n);
    snprintf(j->account, sizeof j->account, "%s", rq->account);
    if (rq->code)
        j->code = *rq->code;
    if (rq->server_ca)
        j->server_ca = *rq->server_ca;
    j->enrol = (struct enrol){.key_spki = rq->key_spki, .code = rq->code ? &j->code : NULL, .server_keygen = rq->server_keygen, .device_id = span_str(j->device_id), .address = j->address, .account = j->account, .reserved = is->reserved, .uuid = uuid_new(),
                              .own = rq->own.facts ? &j->own : NULL, .server_ca = rq->server_ca ? &j->server_ca : NULL, .same = BUF_INIT(DER_MAX)};
    return begin(j, err);
}

int issuer_renew(struct issuer *is, const struct issuer_renew *rq, issuer_fn done, void *arg, struct err *err) {
    struct job *j = job_new(is, &RENEW, rq->address, rq->life, rq->est, &rq->own, done, arg);
    if (!j)
        return err_set(err, MUSTER_ENOMEM, NULL);
    j->renew = (struct renew){.device = rq->device, .certificate = rq->certificate, .key = rq->key, .begins = rq->begins, .own = &j->own, .address = j->address, .same = BUF_INIT(DER_MAX)};
    return begin(j, err);
}
