/* syncs: see syncs.h.  What a sync is for follows from what was written before it, never from what the judge finds. */
#include "syncs.h"

#include <stdlib.h>
#include <string.h>

const struct sync_fact SYNC_FACTS[SYNC_USES] = {
#define S(name, rests, reason) [SYNC_##name] = {#name, SYNC_##rests, reason},
    SYNC_TABLE(S)
#undef S
};

static bool ends(const char *name, const char *with) { return span_ends(span_str(name), span_str(with)); }

size_t syncs_next(const struct disk_log *l, size_t at) {
    const struct disk_op *s = &l->ops[at];
    for (size_t i = at + 1; i < l->n; i++) {
        const struct disk_op *o = &l->ops[i];
        if (o->kind == s->kind && (s->kind == DISK_SYNC ? o->inode == s->inode : o->dir == s->dir))
            return i;
    }
    return l->n;
}

/* Whether anybody was told anything about this database between two operations. */
static bool promised(const struct work *w, enum note_place place, size_t from, size_t to) {
    for (size_t i = 0; i < w->n_notes; i++)
        if (w->notes[i].place == place && w->notes[i].kind != NOTE_THREADS && w->notes[i].at > from && w->notes[i].at <= to)
            return true;
    return false;
}

static bool among_threads(const struct work *w, size_t at) {
    bool among = false;
    for (size_t i = 0; i < w->n_notes && w->notes[i].at <= at; i++)
        if (w->notes[i].kind == NOTE_THREADS)
            among = w->notes[i].number == 1;
    return among;
}

static enum sync_use use_of_wal(const struct work *w, size_t at) {
    const struct disk_log *l = &w->log;
    size_t writes = 0, headers = 0;
    for (size_t i = at; i-- > 0 && !(l->ops[i].kind == DISK_SYNC && l->ops[i].inode == l->ops[at].inode);)
        if (l->ops[i].kind == DISK_WRITE && l->ops[i].inode == l->ops[at].inode) {
            writes++;
            headers += l->ops[i].offset == 0;
        }
    if (!writes)
        return SYNC_WAL_BEFORE_CHECKPOINT;
    if (writes == headers)
        return SYNC_WAL_HEADER;
    enum note_place place = strncmp(l->ops[at].name, "registry", 8) == 0 ? PLACE_REGISTRY : PLACE_CONTROL;
    if (!promised(w, place, at, syncs_next(l, at)))
        return SYNC_WAL_COMMIT_UNAWAITED;
    return among_threads(w, at) ? SYNC_WAL_TOGETHER : SYNC_WAL_COMMIT;
}

static bool has_name(const struct disk_log *l, size_t before, const char *name) {
    bool there = false;
    for (size_t i = 0; i < before; i++)
        if ((l->ops[i].kind == DISK_CREATE || l->ops[i].kind == DISK_UNLINK) && strcmp(l->ops[i].name, name) == 0)
            there = l->ops[i].kind == DISK_CREATE;
    return there;
}

static enum sync_use use_of_file(const struct work *w, size_t at) {
    const struct disk_op *s = &w->log.ops[at];
    if (ends(s->name, "-wal"))
        return use_of_wal(w, at);
    if (ends(s->name, "-journal"))
        return SYNC_JOURNAL;
    if (!ends(s->name, ".db"))
        return SYNC_FILE_CONTENT;
    char journal[DISK_NAME_MAX + 16];
    snprintf(journal, sizeof journal, "%s-journal", s->name);
    return has_name(&w->log, at, journal) ? SYNC_DB_MADE : SYNC_DB_CHECKPOINT;
}

/* The last change of the directory before the sync, or NULL where an earlier sync has it. */
static const struct disk_op *last_change(const struct disk_log *l, size_t at) {
    for (size_t i = at; i-- > 0;) {
        const struct disk_op *o = &l->ops[i];
        if (o->dir != l->ops[at].dir || o->kind == DISK_WRITE || o->kind == DISK_TRUNCATE || o->kind == DISK_SYNC)
            continue;
        return o->kind == DISK_SYNC_DIR ? NULL : o;
    }
    return NULL;
}

/* Whether the index was written by an opening of the vault: what it then reports is no change of its own. */
static bool by_opening(const struct work *w, size_t at) {
    for (size_t i = 0; i < w->n_notes; i++)
        if (w->notes[i].kind == NOTE_VAULT && w->notes[i].at > at)
            return w->notes[i].text[0] == '\0';
    return false;
}

static enum sync_use use_of_dir(const struct work *w, size_t at) {
    const struct disk_op *s = &w->log.ops[at], *last = last_change(&w->log, at);
    if (ends(s->name, "-journal"))
        return SYNC_DIR_JOURNAL;
    if (ends(s->name, "-wal"))
        return last ? SYNC_DIR_WAL : SYNC_DIR_WAL_AGAIN;
    if (!last)
        abort();
    if (s->dir == DISK_DATA)
        return last->kind == DISK_UNLINK ? SYNC_DIR_FILE_GONE : SYNC_DIR_FILE;
    if (last->kind == DISK_UNLINK)
        return SYNC_DIR_RECORD_OLD;
    if (strcmp(s->name, "index") == 0)
        return by_opening(w, at) ? SYNC_DIR_INDEX_AGAIN : SYNC_DIR_INDEX;
    return strchr(s->name, '.') && strcmp(s->name, "master.key") != 0 ? SYNC_DIR_RECORD : SYNC_DIR_VAULT_BEGUN;
}

void syncs_classify(struct work *w) {
    for (size_t i = 0; i < w->log.n; i++) {
        struct disk_op *o = &w->log.ops[i];
        if (o->kind == DISK_SYNC)
            o->use = use_of_file(w, i);
        if (o->kind == DISK_SYNC_DIR)
            o->use = use_of_dir(w, i);
    }
}
