/* audit_told: what factory lines have told by their manifests, entry by entry, and the rows against it; see audit_state.h.  What a later manifest is held against are those
 * rows: one that is put in makes an honest line contradict, one that is taken out or set aside lets a fork pass. */
#include "registry/audit_replay_part.h"
#include "registry/audit_state_work.h"
#include "registry/line_told.h"

#include "base/hex.h"

static uint64_t mark_of(const struct audit_replay *r, int64_t entries, struct span digest) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(128);
    buf_add_u64(&b, (uint64_t)entries);
    buf_add(&b, digest);
    return audit_devices_hash(r->devices, buf_span(&b));
}

/* From the newest on: what is told again was told lately. */
static struct audit_told *find(const struct audit_line *l, uint64_t mark) {
    for (size_t i = l->n_told; i-- > 0;)
        if (l->told[i].mark == mark)
            return &l->told[i];
    return NULL;
}

/* --- the log ------------------------------------------------------------------------------------------------------------------------------ */

static bool is_named(const struct audit_replay *r, const struct audit_told *t, const json_t *digests) {
    const json_t *one;
    size_t i;
    json_array_foreach(digests, i, one) {
        struct hash h;
        if (!hex_decode(span_str(json_is_string(one) ? json_string_value(one) : ""), h.b, sizeof h.b) && mark_of(r, t->entries, hash_span(&h)) == t->mark)
            return true;
    }
    return false;
}

/* An operator took a manifest for the line's word: what stood, is among the newest that were held against it, and is longer or named, is set aside. */
static void set_aside(const struct audit_replay *r, struct audit_line *l, int64_t entries, const json_t *d) {
    const json_t *digests = json_object_get(d, "set_aside_digests");
    int64_t n = 0;
    for (size_t i = l->n_told, looked = 0; i-- > 0 && looked < LINE_TOLD_MAX;) {
        struct audit_told *t = &l->told[i];
        if (t->aside)
            continue;
        looked++;
        t->aside = t->entries > entries || is_named(r, t, digests);
        n += t->aside;
    }
    l->aside_unknown = l->aside_unknown || n != replay_int(d, "set_aside");
}

void replay_line_manifest(struct audit_replay *r, const struct audit_entry *e, const json_t *d) {
    struct uuid uuid;
    struct hash digest;
    struct audit_line *l = uuid_parse(span_str(replay_text(d, "id")), &uuid) ? NULL : audit_replay_line(r, &uuid);
    if (!l || !replay_hash(d, "digest", &digest)) {
        replay_bad(r, e, "There was no such factory line");
        return;
    }
    const int64_t entries = replay_int(d, "entries");
    const uint64_t mark = mark_of(r, entries, hash_span(&digest));
    const bool accepted = json_object_get(d, "set_aside") != NULL, off = !accepted && json_is_true(json_object_get(json_object_get(d, "told"), "set_aside"));
    if (accepted)
        set_aside(r, l, entries, d);
    struct audit_told *known = find(l, mark);
    if (known) {
        known->aside = off;
        return;
    }
    struct audit_told *more = replay_grown(l->told, l->n_told, sizeof *more);
    if (!more) {
        r->full = true;
        return;
    }
    l->told = more;
    const bool contradicts = strcmp(replay_text(d, "verdict"), word_of(&WORDS_LINE_VERDICT, LINE_CONTRADICTS)) == 0;
    l->told[l->n_told++] = (struct audit_told){.mark = mark, .entries = entries, .at = replay_time(d, "signed"), .told = e->at, .aside = off,
                                               .continues = json_object_get(d, "continues") ? replay_int(d, "continues") : contradicts ? -1 : replay_int(d, "agreed")};
}

/* --- the rows ----------------------------------------------------------------------------------------------------------------------------- */

enum col { S_ENTRIES, S_DIGEST, S_AT, S_TOLD, S_ASIDE, S_CONTINUES, S_BEFORE, S_LINE };

/* It went on from another one of the same line, with as many entries as the log says, or from none. */
static bool goes_on(struct store_row *row, int64_t line, int64_t continues) {
    if (store_int(row, S_CONTINUES) && (store_is_null(row, S_LINE) || store_int(row, S_LINE) != line))
        return false;
    return continues < 0 || (store_is_null(row, S_BEFORE) ? 0 : store_int(row, S_BEFORE)) == continues;
}

static void check(struct audit_state *s, struct store_row *row, int64_t line, struct audit_line *l) {
    const long long entries = store_int(row, S_ENTRIES);
    struct audit_told *t = find(l, mark_of(&s->work->replay, store_int(row, S_ENTRIES), store_blob(row, S_DIGEST)));
    if (!t || t->seen)
        audit_state_bad(s, "A manifest of %lld entries of the factory line \"%s\" was never told.", entries, l->name);
    else if (t->at != store_int(row, S_AT) || llabs(t->told - store_int(row, S_TOLD)) > REPLAY_TOLERANCE || !goes_on(row, line, t->continues))
        audit_state_bad(s, "The manifest of %lld entries that the factory line \"%s\" told is not as the log says.", entries, l->name);
    else if (!l->aside_unknown && t->aside != (store_int(row, S_ASIDE) != 0))
        audit_state_bad(s, "The manifest of %lld entries that the factory line \"%s\" told is %sset aside, and the log says otherwise.", entries, l->name, t->aside ? "not " : "");
    else
        t->seen = true;
}

int audit_rows_told(struct store_tx *tx, struct audit_state *s, int64_t line, struct audit_line *l, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = NULL;
    size_t n = 0;
    int rc = store_query(tx, &row, err, SQL_STATE_LINE_TOLD, "i", line);
    if (rc)
        return rc;
    for (; !s->verify.bad && (rc = store_next(row, err)) > 0; n++)
        check(s, row, line, l);
    if (rc >= 0 && !s->verify.bad && n != l->n_told)
        audit_state_bad(s, "The log says of %zu manifests that the factory line \"%s\" told, and %zu are there.", l->n_told, l->name, n);
    return rc < 0 ? rc : 0;
}
