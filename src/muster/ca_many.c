/* ca_many: see ca_many.h. */
#include "muster/ca_many.h"

#include <errno.h>
#include <sys/file.h>

#include "base/file.h"
#include "base/parallel.h"
#include "ca/name.h"
#include "json/json.h"
#include "muster/ca_part.h"
#include "muster/print.h"

#define FAULTS_SHOWN 20
#define FILES_AT_ONCE 4    /* threads a core where disks are waited for */
#define TELL_EACH_MS 10000 /* where nobody sits at a terminal */

int ca_many_threads(const struct invocation *in, unsigned *out, struct err *err) {
    const char *jobs = invocation_option(in, "jobs");
    uint64_t n = parallel_cores();
    if (jobs && (!span_to_u64(span_str(jobs), &n) || n < 1 || n > 64))
        return err_set(err, MUSTER_EUSAGE, "--jobs takes a number of threads from 1 to 64, not \"%s\".", jobs);
    *out = n > 64 ? 64 : (unsigned)n;
    return 0;
}

void ca_many_fini(struct ca_many *m) {
    for (size_t i = 0; i < m->n; i++) {
        buf_fini(&m->rows[i].public_key);
        free(m->rows[i].output);
    }
    free(m->rows);
    fd_close(m->fd);
}

int ca_many_found(struct ca_many *m, int fd, const char *name, struct ca_many_row *row, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(CA_CHAIN_MAX);
    CLEANUP(buf_fini) struct buf serial = BUF_INIT(128);
    struct cert *chain[4] = {NULL};
    size_t n = 0;
    int64_t not_after;
    int rc = file_read(fd, name, &pem, err);
    if (rc == MUSTER_ENOTFOUND) {
        *err = ERR_INIT;
        return 0;
    }
    if (rc || (rc = cert_chain_from_file(buf_span(&pem), chain, 4, &n, err)))
        return err_prefix(err, "%s", row->output);
    cert_serial_hex(chain[0], &serial);
    const json_t *record = json_object_get(m->ca->journal.serials, buf_str(&serial));
    const char *id = json_string_value(json_object_get(record, "device_id")), *end = json_string_value(json_object_get(record, "not_after"));
    bool same = journal_is(record, "issued") && id && span_eq_str(row->device_id, id) && clock_parse_rfc3339(span_str(end), &not_after) == 0;
    for (size_t i = 0; i < n; i++)
        cert_free(chain[i]);
    if (!same)
        return err_set(err, MUSTER_EEXISTS, "%s has another certificate already; none is written over.", row->output);
    row->done = true;
    row->not_after = not_after;
    snprintf(row->serial, sizeof row->serial, "%s", buf_str(&serial));
    return 1;
}

/* --- before anything is made ---------------------------------------------------------------------------------------------------- */

static void survey(void *arg, unsigned thread, size_t i) {
    struct ca_many *m = arg;
    m->ops->survey(m, &m->rows[i]);
}

/* The kit of a factory line has to allow all of them. */
static void hold_against_kit(struct ca_many *m) {
    int64_t made = ca_made(m->ca);
    for (size_t i = 0; i < m->n; i++) {
        struct ca_many_row *row = &m->rows[i];
        char id[4 * CA_DEVICE_ID_CHARS + 1];
        if (row->done || row->err.code || ca_kit_allows(m->ca, row->device_id, made, &row->err))
            continue;
        snprintf(id, sizeof id, "%.*s", SPAN_FMT(row->device_id));
        made += !journal_issued(&m->ca->journal, id); /* one that was cut off is counted already */
    }
}

static int look_at_all(struct ca_many *m, struct err *err) {
    size_t bad = 0;
    parallel_run(FILES_AT_ONCE * m->threads, m->n, survey, m);
    hold_against_kit(m);
    for (size_t i = 0; i < m->n; i++) {
        struct ca_many_row *row = &m->rows[i];
        m->done += row->done;
        if (!row->err.code)
            continue;
        if (m->n == 1 || !bad++)
            *err = row->err;
        if (m->n > 1 && bad <= FAULTS_SHOWN) {
            char text[640];
            snprintf(text, sizeof text, "%s: %s", row->where, err_text(&row->err));
            print_message("", text);
        }
    }
    if (!err->code || m->n == 1)
        return err->code;
    return err_set(err, err->code, "%zu of %zu cannot be %s, so none was.", bad, m->n, m->ops->done);
}

/* --- in pieces -------------------------------------------------------------------------------------------------------------------- */

struct piece {
    struct ca_many *m;
    struct ca_many_row *row[CA_ITEMS_MAX];
    struct ca_item item[CA_ITEMS_MAX];
    size_t n;
};

static void prepare(void *arg, unsigned thread, size_t i) {
    struct piece *p = arg;
    p->item[i].order = (struct ca_order){.device_id = p->row[i]->device_id, .again = p->m->again, .life = p->m->life};
    if (p->m->ops->prepare(p->m, p->row[i], &p->item[i].order, &p->row[i]->err) == 0)
        p->item[i].order.public_key = buf_span(&p->row[i]->public_key);
}

static void deliver(void *arg, unsigned thread, size_t i) {
    struct piece *p = arg;
    struct ca_many_row *row = p->row[i];
    struct ca_issued *issued = &p->item[i].issued;
    if (p->item[i].err.code) {
        row->err = p->item[i].err;
        return;
    }
    if (p->m->ops->deliver(p->m, row, issued, &row->err)) {
        err_prefix(&row->err, "The certificate %s was issued and is in %s/issued", issued->serial, ca_part_dir(p->m->in));
        return;
    }
    memcpy(row->serial, issued->serial, sizeof row->serial);
    row->not_after = issued->not_after;
    row->clamped = issued->clamped;
    row->done = true;
}

/* The first that failed ends the run: a disk that is full, or somebody else who issues for the same devices. */
static int failed(const struct piece *p, struct err *err) {
    for (size_t i = 0; i < p->n; i++)
        if (p->row[i]->err.code) {
            *err = p->row[i]->err;
            return err_prefix(err, "%s", p->row[i]->where);
        }
    return 0;
}

static int run_piece(struct piece *p, struct err *err) {
    struct ca_many *m = p->m;
    parallel_run(FILES_AT_ONCE * m->threads, p->n, prepare, p);
    int rc = failed(p, err);
    if (rc || (rc = file_sync_dir(m->fd, m->dir, err)) || (rc = ca_issue_many(m->ca, p->item, p->n, m->threads, err)))
        return rc;
    parallel_run(FILES_AT_ONCE * m->threads, p->n, deliver, p);
    for (size_t i = 0; i < p->n; i++)
        m->made += p->row[i]->done;
    rc = file_sync_dir(m->fd, m->dir, err);
    return rc ? rc : failed(p, err);
}

static void tell(const struct ca_many *m, int64_t began, int64_t *told) {
    int64_t now = clock_mono_ms(), took = now - began;
    bool terminal = isatty(STDERR_FILENO), last = m->done + m->made == m->n;
    if (m->in->json && !terminal)
        return;
    if (terminal) {
        int64_t left = m->made ? took * (int64_t)(m->n - m->done - m->made) / (int64_t)m->made / 1000 : 0;
        fprintf(stderr, "\r%zu of %zu %s, %lld s left \033[K%s", m->done + m->made, m->n, m->ops->done, (long long)left, last ? "\n" : "");
    } else if (now - *told >= TELL_EACH_MS) {
        fprintf(stderr, "%zu of %zu %s\n", m->done + m->made, m->n, m->ops->done);
        *told = now;
    }
}

static void piece_free(struct piece *p) {
    for (size_t i = 0; i < p->n; i++)
        ca_issued_fini(&p->item[i].issued);
    free(p);
}
DEFINE_CLEANUP(piece_free, struct piece *)

static int next_piece(struct ca_many *m, size_t *at, struct err *err) {
    CLEANUP(piece_free) struct piece *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, MUSTER_ENOMEM, NULL);
    p->m = m;
    for (; *at < m->n && p->n < CA_ITEMS_MAX; ++*at)
        if (!m->rows[*at].done) {
            p->row[p->n] = &m->rows[*at];
            p->item[p->n++] = (struct ca_item){.issued = CA_ISSUED_INIT};
        }
    return p->n ? run_piece(p, err) : 0;
}

/* --- what came of it ---------------------------------------------------------------------------------------------------------------- */

static json_t *shown(const struct ca_many *m) {
    json_t *list = json_array();
    for (size_t i = 0; i < m->n; i++) {
        const struct ca_many_row *row = &m->rows[i];
        if (!row->done)
            continue;
        struct ca_issued issued = {.not_after = row->not_after, .clamped = row->clamped};
        memcpy(issued.serial, row->serial, sizeof issued.serial);
        json_t *one = ca_part_issued(m->ca, &issued, row->device_id);
        json_set_str(one, "output", row->output);
        json_array_append_new(list, one);
    }
    return list;
}

/* Until its descriptor is closed, at the latest by the end of the process.  Two runs at once would take each other's keys for what a kill left. */
static int lock_output(const struct ca_many *m, struct err *err) {
    if (flock(m->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) /* where a file system has no locks, what is there is written over by nobody all the same */
        return 0;
    return err_set(err, MUSTER_EOUTPUTINUSE, "Another muster is writing to %s.", m->dir);
}

int ca_many_run(struct ca_many *m, struct err *err) {
    int64_t began = clock_mono_ms(), told = began;
    int rc = lock_output(m, err);
    if (rc || (rc = ca_reread(m->ca, err)) || (rc = look_at_all(m, err))) /* a run that has just ended knows of what lies there, and the journal that was opened before it did not */
        return rc;
    for (size_t at = 0; !rc && at < m->n;) {
        rc = next_piece(m, &at, err);
        tell(m, began, &told);
    }
    if (!rc && m->done)
        rc = file_sync_dir(m->fd, m->dir, err);
    if (rc && m->done + m->made)
        err_prefix(err, "After %zu of %zu", m->done + m->made, m->n);
    CLEANUP_JSON json_t *list = shown(m), *once = json_object();
    ca_part_warn_clock(m->ca, once);
    print_warnings(once);
    if (m->in->json)
        return print_json(list, rc ? NULL : err) && !rc ? MUSTER_EIO : rc;
    print_table(list, "id device_id not_after output");
    if (m->done && !rc)
        fprintf(stderr, "%zu were %s now, and %zu were before.\n", m->made, m->ops->done, m->done);
    return rc;
}
