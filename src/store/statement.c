/* statement: statements by number, parameters by format, rows; see store.h. */
#include "store/internal.h"

int store_conn_open(const struct store_options *o, bool create, bool readonly, struct store_conn **out, struct err *err) {
    CLEANUP(store_conn_close) struct store_conn *c = calloc(1, sizeof *c);
    if (!c || !(c->rows = calloc(o->n_statements + 1, sizeof *c->rows)))
        return err_set(err, MUSTER_ENOMEM, NULL);
    c->backend = &STORE_SQLITE;
    c->statements = o->statements;
    c->n_statements = o->n_statements;
    int rc = c->backend->open(o, create, readonly, &c->conn, err);
    if (rc)
        return rc;
    *out = TAKE(c);
    return 0;
}

void store_conn_close(struct store_conn *c) {
    if (!c)
        return;
    for (size_t i = 0; c->rows && i < c->n_statements; i++)
        if (c->rows[i].stmt)
            c->backend->finalize(c->rows[i].stmt);
    if (c->conn)
        c->backend->close(c->conn);
    free(c->rows);
    free(c);
}

void store_conn_reset(struct store_conn *c) {
    for (size_t i = 0; i < c->n_statements; i++)
        if (c->rows[i].in_use)
            store_row_end(&c->rows[i]);
}

void store_row_end(struct store_row *row) {
    if (!row || !row->in_use)
        return;
    row->conn->backend->reset(row->stmt);
    row->in_use = false;
}

static int bind_uuid(const struct store_backend *b, struct backend_stmt *s, int index, const struct uuid *u) {
    return u ? b->bind(s, index, BACKEND_BLOB, 0, uuid_span(u)) : b->bind(s, index, BACKEND_NULL, 0, SPAN_NONE);
}

static int bind_reference(const struct store_backend *b, struct backend_stmt *s, int index, int64_t row) {
    return b->bind(s, index, row ? BACKEND_INT : BACKEND_NULL, row, SPAN_NONE);
}

static int bind_all(const struct store_backend *b, struct backend_stmt *s, const char *fmt, va_list ap) {
    int rc = 0;
    for (int i = 1; *fmt && !rc; fmt++, i++) {
        struct span bytes;
        const char *text;
        switch (*fmt) {
        case 'i':
            rc = b->bind(s, i, BACKEND_INT, va_arg(ap, int64_t), SPAN_NONE);
            break;
        case 's':
            text = va_arg(ap, const char *);
            rc = b->bind(s, i, text ? BACKEND_TEXT : BACKEND_NULL, 0, span_str(text));
            break;
        case 'b':
        case 't':
            bytes = va_arg(ap, struct span);
            rc = b->bind(s, i, !bytes.p ? BACKEND_NULL : *fmt == 'b' ? BACKEND_BLOB : BACKEND_TEXT, 0, bytes);
            break;
        case 'u':
            rc = bind_uuid(b, s, i, va_arg(ap, const struct uuid *));
            break;
        case 'r':
            rc = bind_reference(b, s, i, va_arg(ap, int64_t));
            break;
        case 'n':
            rc = b->bind(s, i, BACKEND_NULL, 0, SPAN_NONE);
            break;
        default:
            rc = MUSTER_EINTERNAL;
        }
    }
    return rc;
}

static int start(struct store_conn *c, struct store_row **out, struct err *err, int number, const char *fmt, va_list ap) {
    if (number < 0 || (size_t)number >= c->n_statements)
        return err_set(err, MUSTER_EINTERNAL, "There is no statement %d.", number);
    struct store_row *row = &c->rows[number];
    if (row->in_use)
        return err_set(err, MUSTER_EINTERNAL, "Statement %d is under way already.", number);
    if (!row->stmt) {
        row->conn = c;
        int rc = c->backend->prepare(c->conn, c->statements[number].sql, &row->stmt, err);
        if (rc)
            return rc;
    }
    row->in_use = true;
    int rc = bind_all(c->backend, row->stmt, fmt, ap);
    if (rc) {
        store_row_end(row);
        return err_set(err, rc, "Statement %d cannot take its parameters.", number);
    }
    *out = row;
    return 0;
}

int store_vquery(struct store_tx *tx, struct store_row **row, struct err *err, int number, const char *fmt, va_list ap) {
    return start(tx->conn, row, err, number, fmt, ap);
}

int store_query(struct store_tx *tx, struct store_row **row, struct err *err, int number, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int rc = start(tx->conn, row, err, number, fmt, ap);
    va_end(ap);
    return rc;
}

int store_next(struct store_row *row, struct err *err) { return row->conn->backend->step(row->conn->conn, row->stmt, err); }

int store_exec(struct store_tx *tx, int64_t *changed, struct err *err, int number, const char *fmt, ...) {
    struct store_row *row;
    va_list ap;
    if (!tx->writable)
        return err_set(err, MUSTER_EINTERNAL, "A reading transaction does not write.");
    va_start(ap, fmt);
    int rc = start(tx->conn, &row, err, number, fmt, ap);
    va_end(ap);
    if (rc)
        return rc;
    rc = store_next(row, err);
    if (rc >= 0 && changed)
        *changed = tx->conn->backend->changes(tx->conn->conn);
    store_row_end(row);
    return rc < 0 ? rc : 0;
}

bool store_writable(const struct store_tx *tx) { return tx->writable; }
int64_t store_int(struct store_row *row, int col) { return row->conn->backend->column_int(row->stmt, col); }
struct span store_text(struct store_row *row, int col) { return row->conn->backend->column_bytes(row->stmt, col); }
struct span store_blob(struct store_row *row, int col) { return row->conn->backend->column_bytes(row->stmt, col); }
bool store_is_null(struct store_row *row, int col) { return row->conn->backend->column_type(row->stmt, col) == BACKEND_NULL; }

int store_uuid(struct store_row *row, int col, struct uuid *out) {
    *out = (struct uuid){{0}};
    if (store_is_null(row, col))
        return 0;
    struct span b = store_blob(row, col);
    if (b.n != sizeof out->b)
        return MUSTER_ECORRUPT;
    memcpy(out->b, b.p, b.n);
    return 0;
}
