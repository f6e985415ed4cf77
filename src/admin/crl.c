/* crl: see crl.h.  One look after the other, one list at a time (crl_making.c); every step is asynchronous. */
#include "admin/crl_part.h"

#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/hex.h"
#include "metrics/metrics.h"

#define LOOK_MS 250          /* how soon a change is seen */
#define OLD_AFTER 4          /* lists in a row before one that has only grown old */
/* Instead of the revision of an account: */
#define NOT_READ (-1)
#define NOT_DELETED (-2)     /* the registry says that it is deleted, and no operator did that */
#define NOT_ACTIVE (-3)      /* should it be so again, its CAs are read again */

static void fail(struct crls *k, const char *what, const struct err *err) {
    log_err(LOG_WARN, what, err, NULL);
    k->look_again = true;
    crls_rest(k, AGAIN_MS);
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
void crls_next(struct crls *k) {
    const int64_t now = clock_now(), now_ms = clock_mono_ms();
    for (size_t i = 0; i < k->n; i++)
        if (k->known[i].gone && k->known[i].not_before_ms <= now_ms) {
            crl_remove(k, i);
            return;
        }
    int64_t wait = LOOK_MS;
    const struct known *of = choose(k, now, now_ms, &wait);
    if (!of) {
        crls_rest(k, (int)wait);
        return;
    }
    k->in_row = lacks_something(of) ? k->in_row + 1 : 0;
    crl_make(k, (size_t)(of - k->known));
}

/* --- looking ------------------------------------------------------------------------------------------------------------------------------ */

static struct known *find(const struct crls *k, const char *account, const uint8_t key_id[CRL_KEY_ID_LEN]) {
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
        crls_next(k);
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
    crls_rest(k, 0);
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
        crls_next(k);
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
        if (of->there && !strcmp(of->row.account, account) && of->row.revision < revision && of->failed != MUSTER_ETOKEN && of->behind_ms && clock_mono_ms() - of->behind_ms < CRL_FRESH_MS)
            return true;
    }
    return false;
}

static void why_of(const struct crls *k, const struct known *of, struct err *why) {
    if (of->failed)
        err_set(why, of->failed, "%s", of->why);
    else if (k->recovery && lacks_something(of))
        err_set(why, MUSTER_ERECOVERY, NULL);
    for (size_t i = 0; i < k->n_told && !why->code; i++)
        if (k->told[i].failing && !strcmp(k->told[i].name, of->row.account))
            err_set(why, MUSTER_ECORRUPT, "What the registry holds of the account's CAs cannot be read; the log says more (crl_ca_damaged, crl_account_unreadable).");
}

bool crls_lacks(const struct control *c, const char *account, const uint8_t key_id[CRL_KEY_ID_LEN], struct err *why) {
    const struct known *of = find(c->crls, account, key_id);
    *why = ERR_INIT;
    if (!of || !of->there)
        return false;
    why_of(c->crls, of, why);
    return lacks_something(of);
}

void crls_why(const struct control *c, const char *account, struct err *why) {
    const struct crls *k = c->crls;
    *why = ERR_INIT;
    for (size_t i = 0; i < k->n && !why->code; i++)
        if (k->known[i].there && !strcmp(k->known[i].row.account, account))
            why_of(k, &k->known[i], why);
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
    crls_rest(k, 0);
    return k;
}

void crls_free(struct crls *k) {
    if (!k)
        return;
    loop_timer_free(k->timer);
    crl_making_end(&k->making);
    fd_close(k->dir_fd);
    free(k->known);
    free(k->told);
    free(k);
}
