/* backend: what a database has to offer for the store's engine (store.c).  One file a backend; all calls on one connection come from
 * one thread at a time. */
#ifndef MUSTER_STORE_BACKEND_H
#define MUSTER_STORE_BACKEND_H

#include "store/store.h"

struct backend_conn; /* one connection */
struct backend_stmt; /* one prepared statement of a connection */

enum backend_type { BACKEND_NULL, BACKEND_INT, BACKEND_TEXT, BACKEND_BLOB };

struct store_backend {
    const char *name;
    /* `create`: the database may be made where absent. */
    int (*open)(const struct store_options *o, bool create, bool readonly, struct backend_conn **out, struct err *err);
    void (*close)(struct backend_conn *c);
    /* Several statements without parameters (migrations). */
    int (*script)(struct backend_conn *c, const char *sql, struct err *err);
    /* A write transaction takes the database's write lock at once, waiting for other processes. */
    int (*begin)(struct backend_conn *c, bool write, struct err *err);
    int (*commit)(struct backend_conn *c, struct err *err);
    void (*rollback)(struct backend_conn *c);
    int (*savepoint)(struct backend_conn *c, struct err *err);
    int (*release)(struct backend_conn *c, struct err *err);
    int (*rollback_to)(struct backend_conn *c, struct err *err); /* and ends the savepoint */
    /* Whether the transaction is still there: a storage error may have ended it behind our back. */
    bool (*in_transaction)(struct backend_conn *c);
    int (*prepare)(struct backend_conn *c, const char *sql, struct backend_stmt **out, struct err *err);
    void (*finalize)(struct backend_stmt *s);
    int (*bind)(struct backend_stmt *s, int index, enum backend_type type, int64_t number, struct span bytes);
    int (*step)(struct backend_conn *c, struct backend_stmt *s, struct err *err); /* 1 row, 0 done, <0 */
    void (*reset)(struct backend_stmt *s);
    enum backend_type (*column_type)(struct backend_stmt *s, int col);
    int64_t (*column_int)(struct backend_stmt *s, int col);
    struct span (*column_bytes)(struct backend_stmt *s, int col);
    int64_t (*changes)(struct backend_conn *c);
    /* Rows that were written since the connection was opened: a number that grows with every change, also of what was rolled back. */
    int64_t (*written)(struct backend_conn *c);
    /* A number that changes with every commit of another connection or process. */
    int (*version)(struct backend_conn *c, int64_t *out, struct err *err);
};

extern const struct store_backend STORE_SQLITE;

#endif
