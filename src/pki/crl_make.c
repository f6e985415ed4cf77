/* crl_make: see crl_make.h.  Parts are written last to first, in the order of RFC 5280, 5.1, read backwards. */
#include "pki/crl_make.h"

#include "base/clock.h"
#include "pki/der.h"
#include "pki/der_read.h"
#include "pki/pki.h"

#define SIGNATURE_MAX 80 /* of ECDSA with P-256: 72 at most */
#define HEAD_MAX 2048
#define NAME_MAX_BYTES 1024

#define ECDSA_WITH_SHA256 DER_BYTES(0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02)
#define VERSION_2 DER_BYTES(0x02, 0x01, 0x01)
#define ID_CRL_NUMBER DER_BYTES(0x06, 0x03, 0x55, 0x1d, 0x14)
#define ID_REASON DER_BYTES(0x06, 0x03, 0x55, 0x1d, 0x15)
#define ID_AUTHORITY_KEY DER_BYTES(0x06, 0x03, 0x55, 0x1d, 0x23)
#define ENTRY_LEN (2 + 2 + MAKE_SERIAL_LEN + 15) /* bytes of an entry with a date before 2050 and without a reason */
#define LATE_LEN 2                               /* a later date has so many more, */
#define REASON_LEN 14                            /* and a reason */
#define ENTRY_LEN_MAX (ENTRY_LEN + LATE_LEN + REASON_LEN)

struct crl_maker {
    EVP_MD_CTX *signing;
    struct crl_plan plan;
    uint8_t key_id[CRL_KEY_ID_LEN];
    uint32_t came;
    uint64_t entries_len; /* of all that were announced */
    uint64_t came_len, hashed; /* hashed: bytes of the signed part so far */
    size_t tbs_len;            /* of its content */
    bool ended; /* all that is signed has been hashed */
    bool spoilt;
};

void crl_maker_free(struct crl_maker *m) {
    if (!m)
        return;
    EVP_MD_CTX_free(m->signing);
    free(m);
}

/* --- key identifiers ---------------------------------------------------------------------------------------------------------------- */

bool crl_key_id(const struct cert *ca, uint8_t out[CRL_KEY_ID_LEN]) {
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(ca->x);
    if (!id || ASN1_STRING_length(id) != CRL_KEY_ID_LEN)
        return false;
    memcpy(out, ASN1_STRING_get0_data(id), CRL_KEY_ID_LEN);
    return true;
}

bool crl_issuer_key_id(struct span der, uint8_t out[CRL_KEY_ID_LEN]) {
    struct der_certificate cert;
    struct span one;
    if (!der_certificate_read(der, &cert))
        return false;
    while (der_take(&cert.extensions, DER_SEQUENCE, &one)) {
        struct span value, id;
        if (!span_starts(one, ID_AUTHORITY_KEY))
            continue;
        one = span_sub(one, ID_AUTHORITY_KEY.n, one.n);
        if (!der_take(&one, DER_OCTET_STRING, &value) || !der_take(&value, DER_SEQUENCE, &id) || !der_take(&id, DER_IMPLICIT(0), &value) || value.n != CRL_KEY_ID_LEN)
            return false;
        memcpy(out, value.p, CRL_KEY_ID_LEN);
        return true;
    }
    return false;
}

/* --- the parts ------------------------------------------------------------------------------------------------------------------------ */

/* RFC 5280, 5.1.2.4: UTCTime through 2049, GeneralizedTime from then on. */
static bool is_utc(int64_t t) {
    int year, month, day, hour, minute, second;
    clock_to_civil(t, &year, &month, &day, &hour, &minute, &second);
    return year >= 1950 && year < 2050;
}

static void put_time(struct der_writer *w, int64_t t) {
    int year, month, day, hour, minute, second;
    char text[40];
    clock_to_civil(t, &year, &month, &day, &hour, &minute, &second);
    snprintf(text, sizeof text, "%04d%02d%02d%02d%02d%02dZ", year, month, day, hour, minute, second);
    bool utc = is_utc(t);
    der_element(w, utc ? DER_UTC_TIME : DER_GENERALIZED_TIME, span_str(utc ? text + 2 : text));
}

void crl_count(struct crl_counts *c, const struct crl_entry *e) {
    c->entries++;
    c->undated += e->revoked == 0;
    c->late += e->revoked && !is_utc(e->revoked);
    c->reasons += e->reason != 0;
}

static uint64_t length_of(const struct crl_plan *p) {
    const struct crl_counts *c = &p->counts;
    const uint64_t late = (uint64_t)c->late + (is_utc(p->this_update) ? 0 : c->undated);
    return (uint64_t)c->entries * ENTRY_LEN + late * LATE_LEN + (uint64_t)c->reasons * REASON_LEN;
}

static void put_entry(struct der_writer *w, const struct crl_entry *e, int64_t this_update) {
    size_t end = der_end(w);
    if (e->reason) {
        size_t all = der_end(w);
        der_element(w, DER_ENUMERATED, DER_BYTES(e->reason));
        der_wrap(w, DER_OCTET_STRING, all);
        der_put(w, ID_REASON);
        der_wrap(w, DER_SEQUENCE, all);
        der_wrap(w, DER_SEQUENCE, all);
    }
    put_time(w, e->revoked ? e->revoked : this_update);
    der_element(w, DER_INTEGER, span_of(e->serial, sizeof e->serial));
    der_wrap(w, DER_SEQUENCE, end);
}

static void put_number(struct der_writer *w, uint64_t number) {
    uint8_t bytes[9] = {0}; /* the first one keeps it positive */
    size_t from = 0;
    for (int i = 0; i < 8; i++)
        bytes[1 + i] = (uint8_t)(number >> (8 * (7 - i)));
    while (from < 8 && bytes[from] == 0 && bytes[from + 1] < 0x80)
        from++;
    der_element(w, DER_INTEGER, span_of(bytes + from, sizeof bytes - from));
}

/* crlExtensions: whose key signs it, and its number.  Neither is critical (5.2.1, 5.2.3). */
static void put_extensions(struct der_writer *w, const struct crl_maker *m) {
    size_t all = der_end(w), end = all;
    put_number(w, m->plan.number);
    der_wrap(w, DER_OCTET_STRING, end);
    der_put(w, ID_CRL_NUMBER);
    der_wrap(w, DER_SEQUENCE, end);
    end = der_end(w);
    der_element(w, DER_IMPLICIT(0), span_of(m->key_id, CRL_KEY_ID_LEN));
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_OCTET_STRING, end);
    der_put(w, ID_AUTHORITY_KEY);
    der_wrap(w, DER_SEQUENCE, end);
    der_wrap(w, DER_SEQUENCE, all);
    der_wrap(w, DER_CONTEXT(0), all);
}

/* --- making one ----------------------------------------------------------------------------------------------------------------------- */

static int hash_more(struct crl_maker *m, struct span bytes, struct err *err) {
    if (EVP_DigestSignUpdate(m->signing, bytes.p, bytes.n) != 1) {
        m->spoilt = true;
        return pki_err(err, MUSTER_ECRYPTO, "Hashing a CRL");
    }
    m->hashed += bytes.n;
    return 0;
}

/* Everything in front of the entries; the lengths count what will come. */
static int put_head(struct crl_maker *m, const struct cert *ca, struct buf *head, struct err *err) {
    uint8_t room[HEAD_MAX], end_room[256], list_room[16];
    struct der_writer end = der_writer_of(end_room, sizeof end_room), list = der_writer_of(list_room, sizeof list_room), w = der_writer_of(room, sizeof room);
    unsigned char *name = NULL;
    int n = i2d_X509_NAME(X509_get_subject_name(ca->x), &name);
    if (n <= 0 || n > NAME_MAX_BYTES) {
        OPENSSL_free(name);
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a CA's name");
    }
    put_extensions(&end, m);
    if (m->plan.counts.entries) /* an empty list is left out altogether (5.1.2.6) */
        der_header(&list, DER_SEQUENCE, (size_t)m->entries_len);
    der_put(&w, der_written(&list));
    put_time(&w, m->plan.next_update);
    put_time(&w, m->plan.this_update);
    der_put(&w, span_of(name, (size_t)n));
    der_put(&w, ECDSA_WITH_SHA256);
    der_put(&w, VERSION_2);
    OPENSSL_free(name);
    m->tbs_len = (sizeof room - w.at) + (size_t)m->entries_len + der_written(&end).n;
    der_header(&w, DER_SEQUENCE, m->tbs_len);
    struct span all = der_written(&w);
    if (!all.n || !der_written(&end).n)
        return err_set(err, MUSTER_EINTERNAL, "The head of a CRL is longer than %d bytes.", HEAD_MAX);
    buf_add(head, all);
    return buf_check(head, err);
}

int crl_maker_new(const struct cert *ca, EVP_PKEY *key, const struct crl_plan *plan, struct buf *head, struct crl_maker **out, struct err *err) {
    CLEANUP(crl_maker_free) struct crl_maker *m = calloc(1, sizeof *m);
    if (!m || !(m->signing = EVP_MD_CTX_new()))
        return err_set(err, MUSTER_ENOMEM, NULL);
    const struct crl_counts *c = &plan->counts;
    m->plan = *plan;
    m->entries_len = length_of(plan);
    if (ca->key.kind != KEY_P256 || !crl_key_id(ca, m->key_id) || plan->next_update <= plan->this_update || plan->this_update <= 0 || c->undated > c->entries || c->late > c->entries - c->undated ||
        c->reasons > c->entries)
        return err_set(err, MUSTER_EINVALID, "A CRL cannot be made of this.");
    if (EVP_DigestSignInit(m->signing, NULL, pki_sha256(), NULL, key) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Preparing a CA's key");
    size_t before = head->n;
    int rc = put_head(m, ca, head, err);
    if (rc || (rc = hash_more(m, span_sub(buf_span(head), before, head->n), err)))
        return rc;
    *out = TAKE(m);
    return 0;
}

static bool is_ours(const struct crl_entry *e) { return e->serial[0] > 0 && e->serial[0] < 0x80 && e->reason <= 10 && e->reason != 7 && e->reason != 8 && e->revoked >= 0 && e->revoked < CLOCK_NO_EXPIRY; }

int crl_maker_add(struct crl_maker *m, const struct crl_entry *entries, size_t n, struct buf *der, struct err *err) {
    size_t before = der->n;
    for (size_t i = 0; i < n; i++) {
        uint8_t room[ENTRY_LEN_MAX];
        struct der_writer w = der_writer_of(room, sizeof room);
        if (!is_ours(&entries[i]))
            m->spoilt = true;
        else
            put_entry(&w, &entries[i], m->plan.this_update);
        buf_add(der, der_written(&w));
    }
    m->came += (uint32_t)n;
    m->came_len += der->n - before;
    if (m->spoilt || m->came > m->plan.counts.entries || m->came_len > m->entries_len) {
        m->spoilt = true;
        return err_set(err, MUSTER_EINVALID, "The entries of the CRL are not those that were announced.");
    }
    int rc = buf_check(der, err);
    return rc ? rc : hash_more(m, span_sub(buf_span(der), before, der->n), err);
}

int crl_maker_end(struct crl_maker *m, struct buf *front, struct buf *tail, struct err *err) {
    uint8_t end_room[256], room[512], signature[SIGNATURE_MAX], front_room[16];
    struct der_writer end = der_writer_of(end_room, sizeof end_room), w = der_writer_of(room, sizeof room), f = der_writer_of(front_room, sizeof front_room);
    size_t n = sizeof signature;
    if (m->spoilt || m->came != m->plan.counts.entries || m->came_len != m->entries_len)
        return err_set(err, MUSTER_EINVALID, "The entries of the CRL are not those that were announced.");
    put_extensions(&end, m);
    int rc = m->ended ? 0 : hash_more(m, der_written(&end), err);
    m->ended = true;
    if (rc)
        return rc;
    if (EVP_DigestSignFinal(m->signing, signature, &n) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Signing a CRL");
    m->spoilt = true; /* it is signed once */
    der_bits(&w, span_of(signature, n));
    der_put(&w, ECDSA_WITH_SHA256);
    const size_t behind = der_written(&w).n;
    der_put(&w, der_written(&end));
    der_header(&f, DER_SEQUENCE, (size_t)m->hashed + behind);
    buf_add(front, der_written(&f));
    buf_add(tail, der_written(&w));
    return (rc = buf_check(front, err)) ? rc : buf_check(tail, err);
}
