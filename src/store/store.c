/* store: the engine over a backend: writer thread with group commit, reader threads, completions; see store.h.  Statements and
 * rows are in statement.c, opening and migrations in migrate.c. */
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/internal.h"
#include "store/queue.h"

#define BATCH_MAX 256
#define READERS_MAX 16
#define APART_US 2000      /* from the beginning of a batch to what comes next, looks too … */
#define APART_MORE_US 1000 /* … and as much longer for each that it had: under load one wake-up and one sync serve many, who comes alone hardly waits … */
#define APART_MAX_US 8000  /* … up to this */
#define PROBE_US 1000000   /* between two tries of a disk that did not take a write */

struct store {
    struct queue writes, reads;
    struct store_conn *writer, *readers[READERS_MAX], *watcher;
    pthread_t write_thread, read_threads[READERS_MAX];
    int n_readers;
    bool writing, reruns;
    void (*committed)(void); /* NULL: nobody asks */
    atomic_int health;
    pthread_mutex_t watch_lock;
};

struct reader_start {
    struct store *store;
    struct store_conn *conn;
};

static bool is_storage_error(int rc) { return rc == MUSTER_EIO || rc == MUSTER_ECORRUPT; }

/* One request inside the batch, `apart` within a savepoint.  Returns 0 also where the request was refused; an error is the batch's.
 * *undo: it was refused, and what it wrote is still there. */
static int run_in_batch(struct store *s, struct job *j, bool apart, bool *undo, struct err *err) {
    const struct store_backend *b = s->writer->backend;
    struct store_tx tx = {s->writer, true};
    int rc = apart ? b->savepoint(s->writer->conn, err) : 0;
    if (rc)
        return rc;
    const int64_t before = b->written(s->writer->conn);
    j->err = ERR_INIT;
    j->rc = j->run(&tx, j->arg, &j->err);
    store_conn_reset(s->writer);
    if (j->rc && j->err.code != j->rc)
        err_set(&j->err, j->rc, NULL);
    if (!b->in_transaction(s->writer->conn) || is_storage_error(j->rc))
        return err_set(err, is_storage_error(j->rc) ? j->rc : MUSTER_EIO, "%s", err_text(&j->err));
    if (!apart) {
        *undo = j->rc && b->written(s->writer->conn) != before;
        return 0;
    }
    return j->rc ? b->rollback_to(s->writer->conn, err) : b->release(s->writer->conn, err);
}

static int run_all(struct store *s, struct job *list, bool apart, bool *undo, struct err *err) {
    const struct store_backend *b = s->writer->backend;
    int rc = b->begin(s->writer->conn, true, err);
    *undo = false;
    for (struct job *j = list; j && !rc && !*undo; j = j->next)
        rc = run_in_batch(s, j, apart, undo, err);
    if (!rc && !*undo)
        rc = b->commit(s->writer->conn, err);
    if (rc || *undo)
        b->rollback(s->writer->conn);
    return rc;
}

/* A savepoint costs a copy of each page that its request changes, so there is none where a batch that has to be undone can be run again,
 * or is one request. */
static int run_batch(struct store *s, struct job *list, struct err *err) {
    bool undo;
    int rc = run_all(s, list, !s->reruns && list->next, &undo, err);
    return undo && list->next ? run_all(s, list, true, &undo, err) : rc;
}

static void count_batch(int rc, int64_t took, int64_t n) {
    if (rc) {
        metrics_count(METRIC_STORE_FAILED, 0, 0);
        return;
    }
    metrics_observe(METRIC_COMMIT_TIME, took);
    metrics_observe(METRIC_BATCH, n);
}

static void set_health(struct store *s, int rc) {
    if (s->health && !rc)
        log_event(LOG_INFO, "store_writes_again", NULL);
    s->health = rc;
    metrics_set(METRIC_STORE_FAILING, 0, rc != 0);
}

/* Whether the disk takes writes again: nobody may ask for one where everybody sees that it does not.  A row comes and goes, because an
 * update that changes nothing writes nothing. */
static void probe(struct store *s) {
    static const char write[] = "INSERT INTO schema_version (number, hash) VALUES (0, ''); DELETE FROM schema_version WHERE number = 0";
    const struct store_backend *b = s->writer->backend;
    int rc = b->begin(s->writer->conn, true, NULL);
    if (!rc && !(rc = b->script(s->writer->conn, write, NULL)))
        rc = b->commit(s->writer->conn, NULL);
    if (rc)
        b->rollback(s->writer->conn);
    else
        set_health(s, 0);
}

/* All in one transaction of one connection, which reads. */
static void run_reads(struct store_conn *c, struct queue *q, struct job *list) {
    struct store_tx tx = {c, false};
    struct err began = ERR_INIT;
    int rc = c->backend->begin(c->conn, false, &began);
    for (struct job *j = list; j; j = j->next) {
        j->err = began;
        j->rc = rc ? rc : j->run(&tx, j->arg, &j->err);
        store_conn_reset(c);
        if (j->rc && j->err.code != j->rc)
            err_set(&j->err, j->rc, NULL);
    }
    c->backend->rollback(c->conn);
    queue_return(q, list);
}

/* How many they were. */
static int64_t run_writes(struct store *s, struct job *list) {
    struct err err = ERR_INIT;
    int64_t began = clock_mono_us(), n = 0;
    int rc = run_batch(s, list, &err);
    set_health(s, rc);
    for (const struct job *j = list; j; j = j->next)
        n++;
    count_batch(rc, clock_mono_us() - began, n);
    if (!rc && s->committed)
        s->committed();
    for (struct job *j = list; rc && j; j = j->next) {
        j->rc = rc; /* whatever its run said: nothing of the batch is there */
        j->err = err;
    }
    if (rc)
        log_err(LOG_ERROR, "store_batch_failed", &err, NULL);
    queue_return(&s->writes, list);
    return n;
}

static int64_t apart(int64_t n) {
    const int64_t us = APART_US + n * APART_MORE_US;
    return us < APART_MAX_US ? us : APART_MAX_US;
}

static void *write_main(void *arg) {
    struct store *s = arg;
    pthread_setname_np(pthread_self(), "store-writer");
    for (int64_t began = 0, n = 0;;) { /* of the batch before */
        struct job *list;
        switch (queue_take(&s->writes, BATCH_MAX, began + apart(n), s->health ? began + PROBE_US : INT64_MAX, &list)) {
        case QUEUE_LOOKS:
            run_reads(s->writer, &s->writes, list);
            continue;
        case QUEUE_JOBS:
            began = clock_mono_us();
            n = run_writes(s, list);
            continue;
        case QUEUE_NOTHING:
            began = clock_mono_us();
            n = 0;
            probe(s);
            continue;
        case QUEUE_ENDED:
            return NULL;
        }
    }
}

static void *read_main(void *arg) {
    struct reader_start start = *(struct reader_start *)arg;
    struct job *list;
    free(arg);
    pthread_setname_np(pthread_self(), "store-reader");
    while (queue_take(&start.store->reads, 1, 0, INT64_MAX, &list) != QUEUE_ENDED)
        run_reads(start.conn, &start.store->reads, list);
    return NULL;
}

static int start_readers(struct store *s, const struct store_options *o, struct err *err) {
    int wanted = o->readers < 1 ? 1 : o->readers > READERS_MAX ? READERS_MAX : o->readers;
    for (int i = 0; i < wanted; i++) {
        struct reader_start *start = malloc(sizeof *start);
        int rc = start ? store_conn_open(o, false, true, &s->readers[i], err) : err_set(err, MUSTER_ENOMEM, NULL);
        if (rc) {
            free(start);
            return rc;
        }
        *start = (struct reader_start){s, s->readers[i]};
        if (pthread_create(&s->read_threads[i], NULL, read_main, start)) {
            free(start);
            return err_set(err, MUSTER_ENOMEM, "No thread can be started.");
        }
        s->n_readers++;
    }
    return 0;
}

int store_open(const struct store_options *o, struct store **out, struct err *err) {
    CLEANUP(store_close) struct store *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, MUSTER_ENOMEM, NULL);
    queue_init(&s->writes, QUEUE_WRITE, o->queue_max);
    queue_init(&s->reads, QUEUE_READ, o->queue_max);
    pthread_mutex_init(&s->watch_lock, NULL);
    s->committed = o->committed;
    s->reruns = o->reruns;
    int rc = store_conn_open(o, o->migrate, false, &s->writer, err);
    if (rc || (rc = store_migrate(s->writer, o, err)) || (rc = store_conn_open(o, false, true, &s->watcher, err)))
        return rc;
    if (pthread_create(&s->write_thread, NULL, write_main, s))
        return err_set(err, MUSTER_ENOMEM, "No thread can be started.");
    s->writing = true;
    if ((rc = start_readers(s, o, err)))
        return rc;
    *out = TAKE(s);
    return 0;
}

void store_stop(struct store *s) {
    queue_end(&s->writes);
    queue_end(&s->reads);
    if (s->writing)
        pthread_join(s->write_thread, NULL);
    s->writing = false;
    while (s->n_readers)
        pthread_join(s->read_threads[--s->n_readers], NULL);
}

void store_close(struct store *s) {
    if (!s)
        return;
    store_stop(s);
    for (int i = 0; i < READERS_MAX; i++)
        store_conn_close(s->readers[i]);
    store_conn_close(s->watcher);
    store_conn_close(s->writer);
    queue_fini(&s->writes);
    queue_fini(&s->reads);
    pthread_mutex_destroy(&s->watch_lock);
    free(s);
}

static int submit(struct queue *q, const struct job *job, struct err *err) {
    struct job *j = malloc(sizeof *j);
    if (!j)
        return err_set(err, MUSTER_ENOMEM, NULL);
    *j = *job;
    int rc = queue_put(q, j, err);
    if (rc)
        free(j);
    return rc;
}

int store_write(struct store *s, struct loop *reply, store_run_fn run, store_done_fn done, void *arg, struct err *err) {
    return submit(&s->writes, &(struct job){.run = run, .done = done, .arg = arg, .reply = reply}, err);
}

int store_look(struct store *s, struct loop *reply, store_run_fn run, store_done_fn done, void *arg, struct err *err) {
    return submit(&s->writes, &(struct job){.run = run, .done = done, .arg = arg, .reply = reply, .looks = true}, err);
}

int store_read(struct store *s, struct loop *reply, store_run_fn run, store_done_fn done, void *arg, struct err *err) {
    return submit(&s->reads, &(struct job){.run = run, .done = done, .arg = arg, .reply = reply}, err);
}

int store_write_now(struct store *s, store_run_fn run, void *arg, struct err *err) { return queue_wait(&s->writes, &(struct job){.run = run, .arg = arg}, err); }
int store_read_now(struct store *s, store_run_fn run, void *arg, struct err *err) { return queue_wait(&s->reads, &(struct job){.run = run, .arg = arg}, err); }
int store_health(struct store *s) { return s->health; }

int store_version(struct store *s, int64_t *version, struct err *err) {
    int64_t outside = 0;
    pthread_mutex_lock(&s->watch_lock);
    int rc = s->watcher->backend->version(s->watcher->conn, &outside, err);
    pthread_mutex_unlock(&s->watch_lock);
    *version = outside;
    return rc;
}
