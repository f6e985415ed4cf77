/* crl_making: one list, from the registry's entries to its file; see crl.h. */
#include "admin/crl_part.h"
#include "base/file.h"
#include "metrics/metrics.h"

#define SPACING 2            /* from the beginning of one list of a CA to the next: so many times as long as it took */
#define SPACING_MIN_MS 400
#define SPACING_MAX_MS 30000 /* a revocation waits no longer for that, however long the list before took: a token was away, or a clock jumped */

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

void crl_making_end(struct making *m) {
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
    of->failed = err->code;
    snprintf(of->why, sizeof of->why, "%s", err_text(err));
    crl_making_end(m);
    crls_rest(k, 0); /* a look in between: a revocation waits for no list but its own */
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
    of->failed = 0;
    of->not_before_ms = m->began_ms + spacing;
    metrics_count(METRIC_CRLS, RESULT_OK, 0);
    log_event(LOG_INFO, "crl_made", "account", g->row.account, "number", log_num(g->row.number), "entries", log_num(g->row.entries), "ms", log_num(took), NULL);
    of->left_out = left_out;
    of->behind_ms = of->row.revision == of->wanted ? 0 : clock_mono_ms();
    crl_making_end(m);
    crls_rest(k, 0);
}

/* The others go on. */
static void not_removed(struct crls *k, const struct err *err) {
    struct known *of = &k->known[k->making.at];
    log_err(LOG_WARN, "crl_not_removed", err, "account", of->row.account, NULL);
    of->not_before_ms = clock_mono_ms() + AGAIN_MS;
    crls_rest(k, 0);
}

static void removed(void *arg, int rc, const struct err *err) {
    struct keeping *g = arg;
    struct crls *k = g->owner;
    if (rc) {
        not_removed(k, err);
        return;
    }
    k->known[k->making.at] = k->known[--k->n];
    crls_next(k);
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

void crl_make(struct crls *k, size_t at) {
    const struct known *of = &k->known[at];
    struct making *m = &k->making;
    struct err why = ERR_INIT;
    *m = (struct making){.owner = k, .at = at, .began_ms = clock_mono_ms(), .revision = of->wanted};
    m->load = (struct crl_load){.account = of->account, .row = of->ca, .kind = of->row.kind, .since = crl_since(&of->row, clock_now())};
    memcpy(m->load.key_id, of->row.key_id, sizeof m->load.key_id);
    if (store_read(k->c->registry, k->c->loop, crl_load_run, loaded, &m->load, &why))
        give_up(m, &why);
}

void crl_remove(struct crls *k, size_t at) {
    struct err why = ERR_INIT;
    k->making.at = at;
    k->keeping = (struct keeping){.row = k->known[at].row, .owner = k};
    if (store_write(k->c->store, k->c->loop, keep_run, removed, &k->keeping, &why))
        not_removed(k, &why);
}
