/* audit_seal: see audit_seal.h.  Keyed BLAKE2b. */
#include "registry/audit_seal.h"

#include <sodium.h>
#include <stdatomic.h>

#include "base/hex.h"
#include "registry/row.h"

#define ENTRY "muster audit entry 1"
#define ITEM "muster audit item 1"

static uint8_t key[crypto_generichash_KEYBYTES];
static bool have_key;
static atomic_bool news;

int audit_seal_load_run(struct store_tx *control, void *arg, struct err *err) {
    struct store_row *row;
    int found = first_row(control, &row, err, SQL_SECRET_GET, "s", "audit");
    if (found < 0)
        return found;
    if (!found) {
        crypto_generichash_keygen(key);
        have_key = true;
        return store_exec(control, NULL, err, SQL_SECRET_ADD, "sb", "audit", span_of(key, sizeof key));
    }
    have_key = store_blob(row, 0).n == sizeof key;
    if (have_key)
        memcpy(key, store_blob(row, 0).p, sizeof key);
    store_row_end(row);
    return have_key ? 0 : err_set(err, MUSTER_ECORRUPT, "control.db does not have the key of the audit log's seals.");
}

static void code(const struct buf *b, uint8_t out[AUDIT_SEAL_LEN]) { crypto_generichash(out, AUDIT_SEAL_LEN, b->p, b->n, key, sizeof key); }

bool audit_seal_make(int64_t chain, int64_t seq, const struct hash *hash, uint8_t out[AUDIT_SEAL_LEN]) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(256);
    buf_add(&b, SPAN_LIT(ENTRY));
    buf_add_u64(&b, (uint64_t)chain);
    buf_add_u64(&b, (uint64_t)seq);
    buf_add(&b, hash_span(hash));
    if (!have_key || !buf_ok(&b))
        return false;
    code(&b, out);
    return true;
}

bool audit_seal_entry(int64_t chain, int64_t seq, const struct hash *hash, uint8_t out[AUDIT_SEAL_LEN]) {
    if (!audit_seal_make(chain, seq, hash, out))
        return false;
    atomic_store(&news, true);
    return true;
}

bool audit_seal_news(void) { return atomic_exchange(&news, false); }

bool audit_seal_holds(int64_t chain, int64_t seq, const struct hash *hash, struct span seal) {
    uint8_t own[AUDIT_SEAL_LEN];
    return audit_seal_make(chain, seq, hash, own) && secret_eq(seal, span_of(own, sizeof own));
}

/* --- sums ------------------------------------------------------------------------------------------------------------------------ */

void audit_sum_add(struct audit_sum *s, int64_t account, struct span id, struct span value, bool take_away) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(4096);
    struct audit_sum one;
    buf_add(&b, SPAN_LIT(ITEM));
    buf_add_u64(&b, (uint64_t)account);
    buf_add_u32(&b, (uint32_t)id.n);
    buf_add(&b, id);
    buf_add(&b, value);
    if (!have_key || !buf_ok(&b))
        return;
    _Static_assert(sizeof one == AUDIT_SEAL_LEN, "a lane is a part of the code");
    code(&b, (uint8_t *)&one);
    for (size_t i = 0; i < 4; i++)
        s->lane[i] += take_away ? -one.lane[i] : one.lane[i];
}

bool audit_sum_eq(const struct audit_sum *a, const struct audit_sum *b) { return memcmp(a, b, sizeof *a) == 0; }

void audit_sum_join(struct audit_sum *s, const struct audit_sum *other) {
    for (size_t i = 0; i < 4; i++)
        s->lane[i] += other->lane[i];
}

void audit_sum_write(json_t *detail, const struct audit_sum *s) {
    if (have_key)
        json_set_hex(detail, "sum", span_of(s, sizeof *s));
}

bool audit_sum_read(const json_t *detail, struct audit_sum *s) {
    const char *text = json_string_value(json_object_get(detail, "sum"));
    return text && hex_decode(span_str(text), (uint8_t *)s, sizeof *s) == 0;
}

/* --- what is older ----------------------------------------------------------------------------------------------------------------- */

int audit_unsealed_wanted_run(struct store_tx *control, void *arg, struct err *err) {
    int64_t sealed;
    int rc = meta_get(control, "sealed", &sealed, err);
    *(bool *)arg = sealed == 0;
    return rc;
}

int audit_unsealed_note_run(struct store_tx *control, void *arg, struct err *err) {
    const struct audit_heads *h = arg;
    int rc = 0;
    for (size_t i = 0; !rc && i < h->n; i++)
        if (h->at[i].chain != AUDIT_SERVER)
            rc = store_exec(control, NULL, err, SQL_UNSEALED_SET, "sib", h->at[i].name, h->at[i].head.seq, hash_span(&h->at[i].head.hash));
    return rc;
}

int audit_unsealed_done_run(struct store_tx *control, void *arg, struct err *err) { return meta_set(control, "sealed", 1, err); }
