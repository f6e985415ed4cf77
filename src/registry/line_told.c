/* line_told: see line_told.h. */
#include "registry/line_told.h"

#include "base/hex.h"
#include "pki/manifest_message.h"
#include "registry/audit.h"

static const char *const words[] = {[LINE_CONTINUES] = "continues", [LINE_SHORTER] = "shorter", [LINE_CONTRADICTS] = "contradicts"};
const struct words WORDS_LINE_VERDICT = {words, sizeof words / sizeof *words};

struct telling {
    int64_t row, entries, at, told, set_aside, continues;
    struct hash digest;
};

enum col { T_ID, T_ENTRIES, T_DIGEST, T_AT, T_TOLD, T_SET_ASIDE, T_CONTINUES };

static int row_telling(struct store_row *row, struct telling *out, struct err *err) {
    *out = (struct telling){.row = store_int(row, T_ID), .entries = store_int(row, T_ENTRIES), .at = store_int(row, T_AT), .told = store_int(row, T_TOLD), .set_aside = store_int(row, T_SET_ASIDE),
                            .continues = store_int(row, T_CONTINUES)};
    return row_hash(row, T_DIGEST, &out->digest) ? err_set(err, MUSTER_ECORRUPT, "A row of the table line_told is damaged.") : 0;
}

static json_t *telling_json(const struct telling *t) {
    json_t *o = json_object();
    json_set_int(o, "entries", t->entries);
    json_set_hex(o, "digest", hash_span(&t->digest));
    json_set_time(o, "at", t->at);
    json_set_time(o, "told", t->told);
    json_set_bool(o, "set_aside", t->set_aside != 0);
    return o;
}

/* --- judging ----------------------------------------------------------------------------------------------------------------------------- */

/* What was told before, held against a manifest, one telling after the other. */
struct judgement {
    struct telling longer, odd, aside; /* the longest one that has more entries; of those that it contradicts the one with the fewest; of those set aside the longest that it continues */
    bool is_longer, is_odd, is_aside, known; /* known: it was told itself, and was not set aside */
    struct same { int64_t row, entries; } same[LINE_TOLD_MAX], *longest; /* those that it continues, and the one of them with the most entries, or NULL */
    size_t n_same;
};

/* On how many entries it is known to be as they were told before.  Those of the one that it contradicts: as far as both continue the same one. */
static int64_t agreed(const struct judgement *j) {
    for (size_t i = 0; j->is_odd && i < j->n_same; i++)
        if (j->same[i].row == j->odd.continues)
            return j->same[i].entries;
    return j->is_odd || !j->longest ? 0 : j->longest->entries;
}

static enum line_verdict verdict_of(const struct judgement *j) { return j->is_odd || j->is_aside ? LINE_CONTRADICTS : j->is_longer ? LINE_SHORTER : LINE_CONTINUES; }

/* The one that the verdict is about, or NULL. */
static const struct telling *other_of(const struct judgement *j) { return j->is_odd ? &j->odd : j->is_aside ? &j->aside : j->is_longer ? &j->longer : NULL; }

/* The manifest's hash at that number of entries.  1, or 0: it does not say. */
static int digest_at(const struct line_tell *t, int64_t entries, struct hash *out) {
    const json_t *one;
    size_t i;
    *out = t->chain;
    if (entries == t->entries)
        return 1;
    json_array_foreach(t->digests, i, one)
        if (json_integer_value(json_object_get(one, "entries")) == entries)
            return hex_decode(span_str(json_string_value(json_object_get(one, "digest"))), out->b, sizeof out->b) == 0;
    return 0;
}

static int hold_against(const struct line_tell *t, const struct telling *before, struct judgement *j, struct err *err) {
    struct hash here;
    if (before->entries > t->entries) {
        if (!j->is_longer || before->entries > j->longer.entries)
            j->longer = *before;
        j->is_longer = true;
        return 0;
    }
    if (!digest_at(t, before->entries, &here))
        return err_set(err, MUSTER_ESTATE, "Somebody else has told what the factory line has made in the meantime; do it again.");
    if (!hash_eq(&here, &before->digest)) {
        if (!j->is_odd || before->entries <= j->odd.entries) /* from the newest to the oldest: the date is the one on which it was told first */
            j->odd = *before;
        j->is_odd = true;
        return 0;
    }
    j->known = j->known || before->entries == t->entries;
    struct same *same = &j->same[j->n_same++];
    *same = (struct same){before->row, before->entries};
    j->longest = j->longest && j->longest->entries >= before->entries ? j->longest : same;
    return 0;
}

/* What an operator has set aside, or what goes on from it: it may be no more than longer than what stands, and contradict none of it. */
static int hold_against_aside(struct store_tx *tx, const struct line *l, const struct line_tell *t, struct judgement *j, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_LINE_TOLD_OFF, "ii", l->row, I(LINE_TOLD_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        struct telling before;
        struct hash here;
        if ((rc = row_telling(row, &before, err)))
            return rc;
        if (before.entries > t->entries || !digest_at(t, before.entries, &here) || !hash_eq(&here, &before.digest) || (j->is_aside && before.entries <= j->aside.entries))
            continue;
        j->aside = before;
        j->is_aside = !j->longest || j->longest->entries < before.entries; /* else an operator has taken one for the line's word since that has all of it */
    }
    return rc;
}

static int judge(struct store_tx *tx, const struct line *l, const struct line_tell *t, struct judgement *j, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int rc = store_query(tx, &row, err, SQL_LINE_TOLD, "ii", l->row, I(LINE_TOLD_MAX));
    *j = (struct judgement){0}; /* as many rows as it has room for */
    while (!rc && (rc = store_next(row, err)) > 0) {
        struct telling before;
        if ((rc = row_telling(row, &before, err)) || (rc = hold_against(t, &before, j, err)))
            return rc;
    }
    return rc ? rc : hold_against_aside(tx, l, t, j, err);
}

/* --- signed by the line ------------------------------------------------------------------------------------------------------------------- */

static int check_signature(struct store_tx *tx, const struct line *l, const struct line_tell *t, struct err *err) {
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(buf_fini) struct buf what = BUF_INIT(1024);
    char kit[UUID_TEXT_LEN + 1], previous[2 * PKI_HASH_LEN + 1];
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_LINE_DER, "i", l->row);
    if (found <= 0)
        return found < 0 ? found : MUSTER_ECORRUPT;
    int rc = cert_from_der(store_blob(row, 0), &cert, err);
    store_row_end(row);
    if (rc)
        return rc;
    uuid_text(&l->uuid, kit);
    hex_encode(hash_span(&t->chain), previous);
    manifest_message(&what, kit, t->at, t->entries, previous);
    return key_verify(X509_get0_pubkey(cert->x), buf_span(&what), buf_span(&t->signature), NULL) ? err_set(err, MUSTER_EMANIFEST, "Its signature is not the line's.") : 0;
}

/* --- telling ------------------------------------------------------------------------------------------------------------------------------ */

/* Those that contradict it, or are longer, count no more.  named: the digests of the former, which nothing else that is recorded tells. */
static int set_aside(struct store_tx *tx, const struct line *l, const struct line_tell *t, int64_t *n, json_t *named, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t rows[LINE_TOLD_MAX];
    size_t have = 0;
    int rc = store_query(tx, &row, err, SQL_LINE_TOLD, "ii", l->row, I(LINE_TOLD_MAX));
    while (!rc && (rc = store_next(row, err)) > 0) {
        struct hash here;
        struct telling before;
        if ((rc = row_telling(row, &before, err)))
            return rc;
        if (before.entries <= t->entries && digest_at(t, before.entries, &here) && hash_eq(&here, &before.digest))
            continue;
        rows[have++] = before.row;
        if (before.entries <= t->entries) {
            char digest[2 * PKI_HASH_LEN + 1];
            hex_encode(hash_span(&before.digest), digest);
            json_array_append_new(named, json_string(digest));
        }
    }
    for (size_t i = 0; !rc && i < have; i++)
        rc = store_exec(tx, NULL, err, SQL_LINE_TOLD_ASIDE, "i", rows[i]);
    *n = (int64_t)have;
    return rc;
}

static json_t *verdict_json(const struct line_tell *t, const struct judgement *j) {
    json_t *o = json_object();
    const struct telling *other = other_of(j);
    json_set_str(o, "verdict", word_of(&WORDS_LINE_VERDICT, verdict_of(j)));
    json_set_int(o, "entries", t->entries);
    json_set_int(o, "agreed", agreed(j));
    json_set(o, "told", other ? telling_json(other) : json_null());
    return o;
}

static int write_down(struct store_tx *tx, const struct account *a, const struct line *l, struct line_tell *t, const struct judgement *j, struct err *err) {
    int64_t at, aside = 0;
    CLEANUP_JSON json_t *named = json_array();
    const enum line_verdict verdict = verdict_of(j);
    const bool off = !t->accept && other_of(j) == &j->aside; /* it is told, and stays what it was: the line's own contradicts nothing by going on */
    int rc = clock_parse_rfc3339(span_str(t->at), &at) ? MUSTER_EINVALID : t->accept ? set_aside(tx, l, t, &aside, named, err) : 0;
    if (rc || (rc = store_exec(tx, NULL, err, SQL_LINE_TOLD_ADD, "iibiiii", l->row, t->entries, hash_span(&t->chain), at, clock_now(), j->longest ? j->longest->row : 0, I(off))))
        return rc;
    json_set_bool(t->out, "recorded", true);
    json_set_int(t->out, "set_aside", aside);
    if (j->known && verdict == LINE_CONTINUES)
        return 0; /* nothing was told that was not known */
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &l->uuid);
    json_set_int(detail, "entries", t->entries);
    json_set_hex(detail, "digest", hash_span(&t->chain));
    json_set_time(detail, "signed", at);
    json_set_str(detail, "verdict", word_of(&WORDS_LINE_VERDICT, verdict));
    json_set_int(detail, "agreed", agreed(j));
    if (verdict != LINE_CONTINUES)
        json_set(detail, "told", telling_json(other_of(j)));
    json_set_int(detail, "continues", j->longest ? j->longest->entries : 0);
    if (t->accept)
        json_set_int(detail, "set_aside", aside);
    if (t->accept && json_array_size(named) <= LINE_TOLD_NAMED_MAX) /* more than an entry takes: audit_told.c knows */
        json_set(detail, "set_aside_digests", TAKE(named));
    return audit_add(tx, a->row, &t->actor, "line.manifest", span_str(l->name), detail, err);
}

int line_tell_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_tell *t = arg;
    struct judgement j;
    struct account a;
    struct line l;
    int rc = account_need(tx, t->account, &a, err);
    if (rc || (rc = line_need(tx, &a, t->line, &l, err)) || (rc = check_signature(tx, &l, t, err)) || (rc = judge(tx, &l, t, &j, err)))
        return rc;
    json_decref(t->out);
    t->out = verdict_json(t, &j);
    json_set_bool(t->out, "recorded", false);
    json_set_int(t->out, "set_aside", 0);
    return t->look ? 0 : write_down(tx, &a, &l, t, &j, err);
}

int line_told_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct line_told_list *s = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    struct line l;
    int64_t last = s->page.after, n = 0;
    int rc = account_need(tx, s->account, &a, err);
    if (rc || (rc = line_need(tx, &a, s->line, &l, err)) || (rc = store_query(tx, &row, err, SQL_LINE_TOLD_PAGE, "iii", l.row, s->page.after ? s->page.after : INT64_MAX, s->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < s->page.limit) {
        struct telling t;
        if ((rc = row_telling(row, &t, err)))
            return rc;
        json_array_append_new(items, telling_json(&t));
        last = t.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&s->page, TAKE(items), last, rc > 0);
}
