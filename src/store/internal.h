/* internal: what the store's own files share: connections with their prepared statements.  Nobody else includes it. */
#ifndef MUSTER_STORE_INTERNAL_H
#define MUSTER_STORE_INTERNAL_H

#include "store/backend.h"

struct store_row {
    struct store_conn *conn;
    struct backend_stmt *stmt;
    bool in_use;
};

struct store_conn {
    const struct store_backend *backend;
    struct backend_conn *conn;
    const struct store_statement *statements;
    size_t n_statements;
    struct store_row *rows; /* one a statement, prepared on first use */
};

struct store_tx {
    struct store_conn *conn;
    bool writable;
};

int store_conn_open(const struct store_options *o, bool create, bool readonly, struct store_conn **out, struct err *err) MUSTER_MUST_CHECK;
void store_conn_close(struct store_conn *c); /* NULL accepted */
/* Ends every row that a run left open, so that its statement does not hold the transaction. */
void store_conn_reset(struct store_conn *c);
int store_migrate(struct store_conn *c, const struct store_options *o, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(store_conn_close, struct store_conn *)
DEFINE_CLEANUP(store_close, struct store *)

#endif
