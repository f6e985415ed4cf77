/* crl: see crl.h.  One look after the other, one list at a time; every step is asynchronous. */
#include "admin/crl.h"

#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/hex.h"
#include "metrics/metrics.h"

#define LOOK_MS 250          /* how soon a change is seen */
#define AGAIN_MS 5000        /* until what failed is tried again */
#define SPACING 2            /* from the beginning of one list of a CA to the next: so many times as long as it took */
#define SPACING_MIN_MS 400
#define SPACING_MAX_MS 30000 /* a revocation waits no longer for that, however long the list before took: a token was away, or a clock jumped */
#define OLD_AFTER 4          /* lists in a row before one that has only grown old */
/* Instead of the revision of an account: */
#define NOT_READ (-1)
#define NOT_DELETED (-2)     /* the registry says that it is deleted, and no operator did that */
#define NOT_ACTIVE (-3)      /* should it be so again, its CAs are read again */

/* A CA and its newest list. */
struct known {
    struct crl_row row;      /* number 0: there is no list yet */
    int64_t account, ca;     /* rows */
    int64_t wanted;          /* the revision of the account now; row.revision: of the list */
    int64_t not_before_ms;   /* monotonic: the next one is not begun before */
    bool there;              /* still a CA of an active account */
    bool gone;               /* its account was deleted: its list goes too */
    int64_t behind_ms;       /* monotonic: since when it waits for a list, or for another; 0: it does not */
    size_t left_out;         /* damaged rows that are on no list */
};

/* The list under way. */
struct making {
    struct crl_load load; /* first: what the operation is given */
    struct crls *owner;
    size_t at;            /* of known */
    int64_t began_ms, revision;
    size_t sent;
    struct vault_crl_begun begun;
    struct buf body;      /* head and entries; front and tail come with the signature */
    struct buf whole;
};

/* One store job of keeping what was made, or of removing what is no more. */
struct keeping {
    struct crl_row row; /* first */
    struct crls *owner;
    const struct buf *whole; /* NULL: remove it */
};

struct crls {
    struct control *c;
    struct loop_timer *timer;
    int dir_fd;
    bool loaded;          /* what control.db knew was read */
    int64_t seen;         /* store_version() of the last look; whatever it was, at the first */
    bool look_again;
    bool recovery;        /* no list is made: what was revoked after the backup is not known */
    int64_t look_ms;      /* monotonic: an account could not be read, look again then; 0: they all were */
    struct known *known;
    size_t n, room;
    struct crl_rows rows;
    struct crl_revisions revisions;
    struct crl_cas cas;
    size_t at;            /* of revisions */
    struct {
        int64_t account, revision;
        bool failing;     /* one of its CAs cannot be read */
        char name[ACCOUNT_NAME_MAX + 1];
    } *told;              /* what the last look found, an account each */
    size_t n_told, told_room;
    int in_row;           /* lists that lacked something, since one that had only grown old */
    struct making making;
    struct keeping keeping;
};

static void rest(struct crls *k, int ms) { loop_timer_set(k->timer, ms); }

static void fail(struct crls *k, const char *what, const struct err *err) {
    log_err(LOG_WARN, what, err, NULL);
    k->look_again = true;
    rest(k, AGAIN_MS);
}

void crl_file_name(const char *account, const uint8_t key_id[CRL_KEY_ID_LEN], char out[CRL_FILE_MAX]) {
    char digits[2 * CRL_KEY_ID_LEN + 1];
    hex_encode(span_of(key_id, CRL_KEY_ID_LEN), digits);
    snprintf(out, CRL_FILE_MAX, "%s.%s.crl", account, digits);
}

int crl_file_read(const struct control *c, const struct crl_row *row, struct buf *out, struct err *err) {
    char name[CRL_FILE_MAX];
    crl_file_name(row->account, row->key_id, name);
    return file_read(c->crls_dir, name, out, err);
}

/* --- keeping -------------------------------------------------------------------------------------------------------------------------- */

/* On a store's thread.  The bytes first: a list that control.db knows of is there. */
static int keep_run(struct store_tx *control, void *arg, struct err *err) {
    struct keeping *k = arg;
    char name[CRL_FILE_MAX];
    crl_file_name(k->row.account, k->row.key_id, name);
    if (!k->whole) {
        int rc = file_remove(k->owner->dir_fd, name, err);
        return rc ? rc : crl_drop(control, &k->row, err);
    }
    int rc = file_replace(k->owner->dir_fd, name, buf_span(k->whole), 0644, err);
    return rc ? rc : crl_put(control, &k->row, err);
}

static void next(struct crls *k);

static void making_end(struct making *m) {
    free(m->load.entries);
    buf_fini(&m->body);
    buf_fini(&m->whole);
    *m = (struct making){.owner = m->owner};
}

/* This one will be tried again. */
static void give_up(struct making *m, const struct err *err) {
    struct crls *k = m->owner;
    struct known *of = &k->known[m->at];
    metrics_count(METRIC_CRLS, RESULT_FAILED, 0);
    log_err(LOG_WARN, "crl_failed", err, "account", of->row.account, NULL);
    of->not_before_ms = clock_mono_ms() + AGAIN_MS;
    making_end(m);
    rest(k, 0); /* a look in between: a revocation waits for no list but its own */
}

static void kept(void *arg, int rc, const struct err *err) {
    struct keeping *g = arg;
    struct crls *k = g->owner;
    struct making *m = &k->making;
    struct known *of = &k->known[m->at];
    if (rc) {
        give_up(m, err);
        return;
    }
    const int64_t took = clock_mono_ms() - m->began_ms, wanted = SPACING * took, spacing = wanted < SPACING_MIN_MS ? SPACING_MIN_MS : wanted > SPACING_MAX_MS ? SPACING_MAX_MS : wanted;
    const size_t left_out = m->load.left_out;
    of->row = g->row;
    of->not_before_ms = m->began_ms + spacing;
    metrics_count(METRIC_CRLS, RESULT_OK, 0);
    log_event(LOG_INFO, "crl_made", "account", g->row.account, "number", log_num(g->row.number), "entries", log_num(g->row.entries), "ms", log_num(took), NULL);
    of->left_out = left_out;
    of->behind_ms = of->row.revision == of->wanted ? 0 : clock_mono_ms();
    making_end(m);
    rest(k, 0);
}

/* The others go on. */
static void not_removed(struct crls *k, const struct err *err) {
    struct known *of = &k->known[k->making.at];
    log_err(LOG_WARN, "crl_not_removed", err, "account", of->row.account, NULL);
    of->not_before_ms = clock_mono_ms() + AGAIN_MS;
    rest(k, 0);
}

static void removed(void *arg, int rc, const struct err *err) {
    struct keeping *g = arg;
    struct crls *k = g->owner;
    if (rc) {
        not_removed(k, err);
        return;
    }
    k->known[k->making.at] = k->known[--k->n];
    next(k);
}

/* --- making one ------------------------------------------------------------------------------------------------------------------------- */

static void crl_signed(void *arg, int rc, const struct err *err, struct span front, struct span tail) {
    struct making *m = arg;
    struct crls *k = m->owner;
    struct err why = ERR_INIT;
    if (rc) {
        give_up(m, err);
        return;
    }
    m->whole = BUF_INIT(CRL_BYTES_MAX);
    buf_add(&m->whole, front);
    buf_add(&m->whole, buf_span(&m->body));
    buf_add(&m->whole, tail);
    k->keeping = (struct keeping){.row = k->known[m->at].row, .owner = k, .whole = &m->whole};
    struct crl_row *row = &k->keeping.row;
    row->number = (int64_t)m->begun.number;
    row->this_update = m->begun.this_update;
    row->next_update = m->begun.next_update;
    row->entries = (int64_t)m->load.n;
    row->bytes = (int64_t)m->whole.n;
    row->revision = m->revision;
    if ((rc = buf_check(&m->whole, &why)) || (rc = store_write(k->c->store, k->c->loop, keep_run, kept, &k->keeping, &why)))
        give_up(m, &why);
}

static void send_more(struct making *m);

static void entries_taken(void *arg, int rc, const struct err *err, struct span der) {
    struct making *m = arg;
    struct err why = ERR_INIT;
    if (rc) {
        give_up(m, err);
        return;
    }
    buf_add(&m->body, der);
    if (buf_check(&m->body, &why))
        give_up(m, &why);
    else
        send_more(m);
}

/* A piece at a time, and the next one once that is answered: the vault issues in between. */
static void send_more(struct making *m) {
    struct vault_client *vault = m->owner->c->vault;
    struct err why = ERR_INIT;
    size_t left = m->load.n - m->sent, n = left < VAULT_CRL_PIECE ? left : VAULT_CRL_PIECE;
    int rc = n ? vault_crl_entries(vault, m->load.entries + m->sent, n, entries_taken, m, &why) : vault_crl_sign(vault, crl_signed, m, &why);
    m->sent += n;
    if (rc)
        give_up(m, &why);
}

static void begun(void *arg, int rc, const struct err *err, const struct vault_crl_begun *b) {
    struct making *m = arg;
    if (rc) {
        give_up(m, err);
        return;
    }
    m->begun = *b;
    m->body = BUF_INIT(CRL_BYTES_MAX);
    buf_add(&m->body, b->head);
    m->begun.head = SPAN_NONE;
    send_more(m);
}

static void loaded(void *arg, int rc, const struct err *err) {
    struct making *m = (struct making *)((char *)arg - offsetof(struct making, load));
    struct crls *k = m->owner;
    const struct known *of = &k->known[m->at];
    struct err why = ERR_INIT;
    if (rc) {
        give_up(m, err);
        return;
    }
    if (m->load.more) {
        if (store_read(k->c->registry, k->c->loop, crl_load_run, loaded, &m->load, &why))
            give_up(m, &why);
        return;
    }
    if (m->load.left_out)
        log_event(LOG_ERROR, "crl_rows_damaged", "account", of->row.account, "left_out", log_num((int64_t)m->load.left_out), NULL);
    struct vault_crl_begin rq = {.account = span_str(of->row.account), .life = k->c->o->settings->crl_life, .counts = m->load.counts};
    memcpy(rq.key_id, of->row.key_id, sizeof rq.key_id);
    if (vault_crl_begin(k->c->vault, &rq, begun, m, &why))
        give_up(m, &why);
}

static void make(struct crls *k, size_t at) {
    const struct known *of = &k->known[at];
    struct making *m = &k->making;
    struct err why = ERR_INIT;
    *m = (struct making){.owner = k, .at = at, .began_ms = clock_mono_ms(), .revision = of->wanted};
    m->load = (struct crl_load){.account = of->account, .row = of->ca, .kind = of->row.kind, .since = crl_since(&of->row, clock_now())};
    memcpy(m->load.key_id, of->row.key_id, sizeof m->load.key_id);
    if (store_read(k->c->registry, k->c->loop, crl_load_run, loaded, &m->load, &why))
        give_up(m, &why);
}

static void drop(struct crls *k, size_t at) {
    struct err why = ERR_INIT;
    k->making.at = at;
    k->keeping = (struct keeping){.row = k->known[at].row, .owner = k};
    if (store_write(k->c->store, k->c->loop, keep_run, removed, &k->keeping, &why))
        not_removed(k, &why);
}

/* --- which one is next -------------------------------------------------------------------------------------------------------------------- */

static bool is_due(const struct crls *k, const struct known *of, int64_t now) {
    return of->there && !k->recovery && of->row.not_after > now && crl_is_due(&of->row, of->wanted, k->c->o->settings->crl_interval, now);
}

/* Whether what it lacks is more than a later date. */
static bool lacks_something(const struct known *of) { return !of->row.number || of->row.revision != of->wanted; }

/* Of those that may begin: the one that lacks something for longest; one that has only grown old where none does, and every so many times before them,
 * or an account that never rests would keep the others' lists from being renewed. */
static const struct known *choose(const struct crls *k, int64_t now, int64_t now_ms, int64_t *wait) {
    const struct known *lacks = NULL, *old = NULL;
    for (size_t i = 0; k->c->greeted && i < k->n; i++) {
        const struct known *of = &k->known[i];
        const int64_t left = of->not_before_ms - now_ms;
        if (!is_due(k, of, now))
            continue;
        if (left > 0)
            *wait = left < *wait ? left : *wait;
        else if (!lacks_something(of))
            old = old ? old : of;
        else if (!lacks || of->behind_ms < lacks->behind_ms)
            lacks = of;
    }
    return lacks && (!old || k->in_row < OLD_AFTER) ? lacks : old;
}

/* One that is due and may begin; none: a look again. */
static void next(struct crls *k) {
    const int64_t now = clock_now(), now_ms = clock_mono_ms();
    for (size_t i = 0; i < k->n; i++)
        if (k->known[i].gone && k->known[i].not_before_ms <= now_ms) {
            drop(k, i);
            return;
        }
    int64_t wait = LOOK_MS;
    const struct known *of = choose(k, now, now_ms, &wait);
    if (!of) {
        rest(k, (int)wait);
        return;
    }
    k->in_row = lacks_something(of) ? k->in_row + 1 : 0;
    make(k, (size_t)(of - k->known));
}

/* --- looking ------------------------------------------------------------------------------------------------------------------------------ */

static struct known *find(struct crls *k, const char *account, const uint8_t key_id[CRL_KEY_ID_LEN]) {
    for (size_t i = 0; i < k->n; i++)
        if (memcmp(k->known[i].row.key_id, key_id, CRL_KEY_ID_LEN) == 0 && strcmp(k->known[i].row.account, account) == 0)
            return &k->known[i];
    return NULL;
}

static struct known *add(struct crls *k, const struct crl_row *row) {
    if (k->n == k->room) {
        struct known *more = realloc(k->known, (k->room ? 2 * k->room : 16) * sizeof *more);
        if (!more)
            return NULL;
        k->known = more;
        k->room = k->room ? 2 * k->room : 16;
    }
    k->known[k->n] = (struct known){.row = *row};
    return &k->known[k->n++];
}

/* The last revision that was taken in of that account, to be set; NULL: out of memory. */
static int64_t *told_of(struct crls *k, int64_t account, const char *name) {
    for (size_t i = 0; i < k->n_told; i++)
        if (k->told[i].account == account)
            return &k->told[i].revision;
    if (k->n_told == k->told_room) {
        void *more = realloc(k->told, (k->told_room ? 2 * k->told_room : 16) * sizeof *k->told);
        if (!more)
            return NULL;
        k->told = more;
        k->told_room = k->told_room ? 2 * k->told_room : 16;
    }
    k->told[k->n_told].account = account;
    k->told[k->n_told].failing = false;
    snprintf(k->told[k->n_told].name, sizeof k->told[k->n_told].name, "%s", name);
    k->told[k->n_told].revision = NOT_READ;
    return &k->told[k->n_told++].revision;
}

static void look_at_accounts(struct crls *k);

static void set_failing(struct crls *k, int64_t account, bool failing) {
    for (size_t i = 0; i < k->n_told; i++)
        if (k->told[i].account == account)
            k->told[i].failing = failing;
}

/* What one account has keeps nobody else's lists back. */
static void account_fails(struct crls *k, const struct err *err) {
    const int64_t now_ms = clock_mono_ms();
    if (now_ms >= k->look_ms) {
        log_err(LOG_WARN, "crl_account_unreadable", err, "account", k->revisions.at[k->at].name, NULL);
        k->look_ms = now_ms + AGAIN_MS;
    }
    set_failing(k, k->revisions.at[k->at].account, true);
    k->at++;
    look_at_accounts(k);
}

static void cas_read(void *arg, int rc, const struct err *err) {
    struct crls *k = (struct crls *)((char *)arg - offsetof(struct crls, cas));
    const char *name = k->revisions.at[k->at].name;
    if (rc) {
        account_fails(k, err);
        return;
    }
    for (size_t i = 0; i < k->cas.n; i++) {
        struct crl_row fresh = {.kind = k->cas.at[i].kind, .not_after = k->cas.at[i].not_after};
        memcpy(fresh.key_id, k->cas.at[i].key_id, sizeof fresh.key_id);
        snprintf(fresh.account, sizeof fresh.account, "%s", name);
        snprintf(fresh.subject, sizeof fresh.subject, "%s", k->cas.at[i].subject);
        struct known *of = find(k, name, fresh.key_id);
        if (!of)
            of = add(k, &fresh);
        if (!of)
            continue; /* out of memory: another look comes */
        of->account = k->cas.account;
        of->ca = k->cas.at[i].row;
        of->wanted = k->cas.revision;
        of->there = true;
        of->gone = false;
        if (!of->behind_ms && (!of->row.number || of->row.revision != of->wanted))
            of->behind_ms = clock_mono_ms();
    }
    int64_t *told = told_of(k, k->cas.account, name);
    if (told)
        *told = k->cas.revision;
    set_failing(k, k->cas.account, k->cas.damaged > 0);
    if (k->cas.damaged)
        log_event(LOG_ERROR, "crl_ca_damaged", "account", name, NULL);
    k->at++;
    look_at_accounts(k);
}

/* Of an account that is deleted the vault has no key any more. */
static void gone(struct crls *k, const char *account) {
    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->known[i].row.account, account) == 0) {
            k->known[i].there = false;
            k->known[i].gone = true;
        }
}

static void revisions_read(void *arg, int rc, const struct err *err);

static void look_at_accounts(struct crls *k) {
    struct err why = ERR_INIT;
    for (; k->at < k->revisions.n; k->at++) {
        int64_t *told = told_of(k, k->revisions.at[k->at].account, k->revisions.at[k->at].name);
        if (!k->revisions.at[k->at].active) {
            if (k->revisions.at[k->at].deleted)
                gone(k, k->revisions.at[k->at].name);
            else if (k->revisions.at[k->at].forged && told && *told != NOT_DELETED)
                log_event(LOG_WARN, "crl_account_not_deleted", "account", k->revisions.at[k->at].name, NULL);
            if (told)
                *told = k->revisions.at[k->at].forged ? NOT_DELETED : NOT_ACTIVE;
            set_failing(k, k->revisions.at[k->at].account, false);
        } else if (!told || *told != k->revisions.at[k->at].revision) {
            k->cas.account = k->revisions.at[k->at].account;
            if (store_read(k->c->registry, k->c->loop, crl_cas_run, cas_read, &k->cas, &why))
                fail(k, "crl_accounts_unreadable", &why);
            return;
        }
    }
    if (k->revisions.n < CRL_REVISIONS_PAGE) {
        next(k);
        return;
    }
    if (store_read(k->c->registry, k->c->loop, crl_revisions_run, revisions_read, &k->revisions, &why))
        fail(k, "crl_accounts_unreadable", &why);
}

static void revisions_read(void *arg, int rc, const struct err *err) {
    struct crls *k = (struct crls *)((char *)arg - offsetof(struct crls, revisions));
    if (rc) {
        fail(k, "crl_accounts_unreadable", err);
        return;
    }
    k->at = 0;
    k->recovery = k->revisions.recovery;
    look_at_accounts(k);
}

/* After a restore, for one, it is not: then the list counts as never made. */
static bool is_there(const struct crls *k, const struct crl_row *row) {
    char name[CRL_FILE_MAX];
    crl_file_name(row->account, row->key_id, name);
    CLEANUP(fd_close) int fd = openat(k->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0;
}

/* What is there from before, a page at a time.  One whose CA is not found stays: only where its account was deleted does it go. */
static void rows_read(void *arg, int rc, const struct err *err) {
    struct crls *k = (struct crls *)((char *)arg - offsetof(struct crls, rows));
    struct err why = ERR_INIT;
    if (rc) {
        fail(k, "crl_lists_unreadable", err);
        return;
    }
    for (size_t i = 0; i < k->rows.n; i++) {
        struct crl_row *row = &k->rows.at[i];
        if (!is_there(k, row))
            row->number = 0;
        if (!find(k, row->account, row->key_id) && !add(k, row)) {
            err_set(&why, MUSTER_ENOMEM, NULL);
            fail(k, "crl_lists_unreadable", &why);
            return;
        }
    }
    if (k->rows.n == CRL_ROWS_PAGE) {
        k->rows.after = k->rows.at[k->rows.n - 1];
        if (store_read(k->c->store, k->c->loop, crl_rows_run, rows_read, &k->rows, &why))
            fail(k, "crl_lists_unreadable", &why);
        return;
    }
    k->loaded = true;
    rest(k, 0);
}

static void look(void *arg) {
    struct crls *k = arg;
    struct err why = ERR_INIT;
    int64_t version;
    if (!k->loaded) {
        k->rows = (struct crl_rows){.n = 0};
        if (store_read(k->c->store, k->c->loop, crl_rows_run, rows_read, &k->rows, &why))
            fail(k, "crl_lists_unreadable", &why);
        return;
    }
    bool changed = k->look_again || (k->look_ms && k->look_ms <= clock_mono_ms()) || store_version(k->c->registry, &version, NULL) || version != k->seen;
    if (!changed) {
        next(k);
        return;
    }
    if (store_version(k->c->registry, &version, NULL) == 0)
        k->seen = version;
    k->look_again = false;
    if (k->look_ms <= clock_mono_ms())
        k->look_ms = 0;
    k->revisions.after = 0;
    if (store_read(k->c->registry, k->c->loop, crl_revisions_run, revisions_read, &k->revisions, &why))
        fail(k, "crl_accounts_unreadable", &why);
}

bool crls_catch_up(const struct control *c, const char *account, int64_t revision) {
    const struct crls *k = c->crls;
    if (!k || k->recovery)
        return false;
    bool looked = false; /* not yet after a start */
    for (size_t i = 0; i < k->n_told; i++)
        if (!strcmp(k->told[i].name, account)) {
            looked = true;
            if (k->told[i].revision >= NOT_READ && k->told[i].revision < revision && !k->told[i].failing)
                return true;
        }
    if (!looked)
        return true;
    for (size_t i = 0; i < k->n; i++) {
        const struct known *of = &k->known[i];
        if (of->there && !strcmp(of->row.account, account) && of->row.revision < revision && of->behind_ms && clock_mono_ms() - of->behind_ms < CRL_FRESH_MS)
            return true;
    }
    return false;
}

void crls_tally(const struct control *c, const char *account, struct crls_tally *out) {
    const struct crls *k = c->crls;
    const int64_t now = clock_now(), now_ms = clock_mono_ms();
    *out = (struct crls_tally){0};
    for (size_t i = 0; i < k->n_told; i++)
        out->behind = out->behind || (k->told[i].failing && strcmp(k->told[i].name, account) == 0);
    for (size_t i = 0; i < k->n; i++) {
        const struct crl_row *row = &k->known[i].row;
        if (strcmp(row->account, account) != 0 || !k->known[i].there || row->not_after <= now)
            continue;
        out->n++;
        if (row->number && (!out->next_update || row->next_update < out->next_update))
            out->next_update = row->next_update;
        out->entries += row->entries;
        out->missing = out->missing || !row->number;
        out->behind = out->behind || (!k->recovery && k->known[i].behind_ms && now_ms - k->known[i].behind_ms > CRL_BEHIND_MS);
        out->left_out += (int64_t)k->known[i].left_out;
    }
}

struct crls *crls_new(struct control *c, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    struct crls *k = calloc(1, sizeof *k);
    if (k)
        *k = (struct crls){.c = c, .dir_fd = -1, .look_again = true, .timer = loop_timer_new(c->loop, look, k)};
    if (!k || !k->timer) {
        crls_free(k);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    k->making.owner = k;
    buf_addf(&path, "%s/crl", c->o->dir);
    k->dir_fd = c->crls_dir = open(buf_str(&path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (k->dir_fd < 0) {
        err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", buf_str(&path), strerror(errno));
        crls_free(k);
        return NULL;
    }
    rest(k, 0);
    return k;
}

void crls_free(struct crls *k) {
    if (!k)
        return;
    loop_timer_free(k->timer);
    making_end(&k->making);
    fd_close(k->dir_fd);
    free(k->known);
    free(k->told);
    free(k);
}
