/* vault/crl_number: see crl_number.h.  One small file an account: a CA's key identifier and its last number, once a CA. */
#include "vault/crl_number.h"

#include "base/clock.h"
#include "base/cursor.h"
#include "base/log.h"

#define FILE_PREFIX "crls-"
#define CAS_MAX 256 /* of an account; beyond, the one whose list was made longest ago goes: the clock keeps its numbers growing */
#define FILE_MAX (2 + CAS_MAX * (CRL_KEY_ID_LEN + 8))

struct numbers {
    size_t n;
    struct {
        uint8_t key_id[CRL_KEY_ID_LEN];
        uint64_t last;
    } of[CAS_MAX];
};

static void file_name(const char *account, char out[RECORD_NAME_MAX + 1]) { snprintf(out, RECORD_NAME_MAX + 1, FILE_PREFIX "%s", account); }

static int read_numbers(struct records *r, const char *account, struct span data_key, struct numbers *out, struct err *err) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(FILE_MAX);
    char file[RECORD_NAME_MAX + 1];
    struct err why = ERR_INIT;
    file_name(account, file);
    out->n = 0;
    int rc = records_side_load(r, file, data_key, &b, &why);
    if (rc == MUSTER_ENOTFOUND)
        return 0;
    struct cursor in = cursor_of(buf_span(&b));
    size_t n = cursor_u16(&in);
    for (size_t i = 0; !rc && i < n && n <= CAS_MAX; i++) {
        struct span id = cursor_bytes(&in, CRL_KEY_ID_LEN);
        if (id.n)
            memcpy(out->of[i].key_id, id.p, id.n);
        out->of[i].last = cursor_u64(&in);
    }
    if (!rc && (n > CAS_MAX || !cursor_done(&in)))
        rc = MUSTER_ECORRUPT;
    if (rc && rc != MUSTER_ECORRUPT)
        return err_set(err, rc, "%s", err_text(&why));
    if (rc) /* nobody knows the numbers so far; the time is above them, unless the clock has gone back meanwhile */
        log_event(LOG_ERROR, "vault_crl_numbers_damaged", "account", account, NULL);
    else
        out->n = n;
    return 0;
}

static int write_numbers(struct records *r, const char *account, struct span data_key, const struct numbers *s, struct err *err) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(FILE_MAX);
    char file[RECORD_NAME_MAX + 1];
    file_name(account, file);
    buf_add_u16(&b, (uint16_t)s->n);
    for (size_t i = 0; i < s->n; i++) {
        buf_add(&b, span_of(s->of[i].key_id, CRL_KEY_ID_LEN));
        buf_add_u64(&b, s->of[i].last);
    }
    int rc = buf_check(&b, err);
    return rc ? rc : records_side_store(r, file, data_key, buf_span(&b), err);
}

/* Its place; a new one where it has none. */
static size_t place_of(struct numbers *s, const uint8_t key_id[CRL_KEY_ID_LEN]) {
    size_t at = 0;
    while (at < s->n && memcmp(s->of[at].key_id, key_id, CRL_KEY_ID_LEN) != 0)
        at++;
    if (at < s->n)
        return at;
    if (s->n < CAS_MAX)
        s->n++;
    else
        for (size_t i = at = 0; i < s->n; i++)
            at = s->of[i].last < s->of[at].last ? i : at;
    memcpy(s->of[at].key_id, key_id, CRL_KEY_ID_LEN);
    s->of[at].last = 0;
    return at;
}

int crl_number_take(struct records *r, const char *account, struct span data_key, const uint8_t key_id[CRL_KEY_ID_LEN], uint64_t *out, struct err *err) {
    struct numbers s;
    int rc = read_numbers(r, account, data_key, &s, err);
    if (rc)
        return rc;
    size_t at = place_of(&s, key_id);
    const uint64_t now = (uint64_t)clock_now_ms();
    s.of[at].last = now > s.of[at].last ? now : s.of[at].last + 1;
    if ((rc = write_numbers(r, account, data_key, &s, err)))
        return rc;
    *out = s.of[at].last;
    return 0;
}

int crl_number_drop(struct records *r, const char *account, struct err *err) {
    char file[RECORD_NAME_MAX + 1];
    file_name(account, file);
    return records_side_drop(r, file, err);
}
