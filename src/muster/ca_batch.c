/* ca_batch: `muster ca issue` for more than one device: each has a folder with its key and its certificate; see ca_many.h.
 *
 * A key that lies in a device's folder without a certificate is of a run that was cut off: it is taken up again, and where it was certified before the
 * cut, that certificate is what its device gets. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "ca/list.h"
#include "ca/name.h"
#include "muster/ca_batch.h"
#include "muster/ca_many.h"
#include "muster/ca_part.h"
#include "muster/file_arg.h"

struct batch {
    struct ca_list list;
    const struct ca_server *server;
    enum key_kind kind;
    int bits;
};

static int open_folder(const struct ca_many *m, const struct ca_many_row *row, int *out, struct err *err) {
    CLEANUP(buf_fini) struct buf name = BUF_INIT(512);
    ca_file_name(&name, row->device_id);
    *out = openat(m->fd, buf_str(&name), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return *out < 0 && errno != ENOENT ? err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", row->output, strerror(errno)) : 0;
}

static int read_public(int fd, struct buf *spki, struct err *err) {
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(65536);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    int rc = file_read(fd, "pkey.pem", &pem, err);
    if (rc || (rc = key_read_private(buf_span(&pem), SPAN_NONE, &key, err)))
        return rc;
    return key_public_der(key, spki, err);
}

static int may_issue(const struct ca_many *m, const struct ca_many_row *row, struct err *err) {
    struct key_facts facts;
    char id[4 * CA_DEVICE_ID_CHARS + 1];
    snprintf(id, sizeof id, "%.*s", SPAN_FMT(row->device_id));
    if (row->public_key.n) {
        int rc = key_facts_from_public_der(buf_span(&row->public_key), &facts, err);
        if (rc || journal_issued_key(&m->ca->journal, id, &facts.spki))
            return rc;
    }
    return ca_may_issue(m->ca, row->device_id, m->again, err);
}

static bool is_part(const char *name) {
    static const char *const FILES[] = {"pkey.pem", "client.pem", "root.crt", "gateway.url"};
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        if (!strncmp(name, FILES[i], strlen(FILES[i])) && !strncmp(name + strlen(FILES[i]), ".tmp-", 5))
            return true;
    return false;
}

/* What a kill left: parts of the four files under names of their own.  Nobody else makes such at the same time: the run has the directory's lock. */
static void sweep(int fd) {
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d) {
        fd_close(again);
        return;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (is_part(e->d_name))
            unlinkat(fd, e->d_name, 0);
    closedir(d);
}

static void survey(struct ca_many *m, struct ca_many_row *row) {
    CLEANUP(buf_fini) struct buf output = BUF_INIT(8192);
    CLEANUP(fd_close) int fd = -1;
    struct err *err = &row->err;
    buf_addf(&output, "%s/", m->dir);
    ca_file_name(&output, row->device_id);
    if (!(row->output = strdup(buf_str(&output)))) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return;
    }
    if (open_folder(m, row, &fd, err))
        return;
    bool key = fd >= 0 && faccessat(fd, "pkey.pem", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    if (fd >= 0 && ca_many_found(m, fd, "client.pem", row, err)) {
        if (row->done)
            sweep(fd);
        if (row->done && file_sync_dir(fd, row->output, err)) /* what a kill left in its place may not be durable */
            row->done = false;
        return;
    }
    if (key && read_public(fd, &row->public_key, err)) {
        err_prefix(err, "%s/pkey.pem", row->output);
        return;
    }
    if (may_issue(m, row, err))
        return;
    *err = ERR_INIT;
}

/* --- the key ------------------------------------------------------------------------------------------------------------------------- */

static const struct ca_list_row *listed(const struct ca_many *m, const struct ca_many_row *row) {
    const struct batch *b = m->arg;
    return &b->list.rows[row - m->rows];
}

static int make_key(struct ca_many *m, struct ca_many_row *row, int fd, struct err *err) {
    const struct batch *b = m->arg;
    const struct ca_list_row *asked = listed(m, row);
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(65536);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    int rc = asked->kind == KEY_NONE ? key_generate(b->kind, b->bits, &key, err) : key_generate(asked->kind, asked->bits, &key, err);
    if (rc || (rc = key_public_der(key, &row->public_key, err)) || (rc = key_private_pem(key, &pem, err)))
        return rc;
    return file_create_loose(fd, "pkey.pem", buf_span(&pem), 0600, err);
}

static int prepare(struct ca_many *m, struct ca_many_row *row, struct ca_order *order, struct err *err) {
    CLEANUP(buf_fini) struct buf name = BUF_INIT(512);
    CLEANUP(fd_close) int fd = -1;
    if (listed(m, row)->life)
        order->life = listed(m, row)->life;
    ca_file_name(&name, row->device_id);
    bool made = mkdirat(m->fd, buf_str(&name), 0700) == 0;
    if (!made && errno != EEXIST)
        return err_set(err, MUSTER_EIO, "%s cannot be made: %s.", row->output, strerror(errno));
    int rc = open_folder(m, row, &fd, err);
    if (rc || (fd < 0 && (rc = err_set(err, MUSTER_EIO, "%s cannot be opened.", row->output))))
        return rc;
    if (!made)
        sweep(fd);
    if (!row->public_key.n && (rc = make_key(m, row, fd, err)))
        return rc;
    return file_sync_dir(fd, row->output, err); /* of a key that was found too: it may not be durable yet */
}

/* --- and the certificate ------------------------------------------------------------------------------------------------------------- */

/* What is the same for all of them, and may be there from before. */
static int put_shared(int fd, const char *name, struct span content, struct err *err) {
    if (!content.n)
        return 0;
    int rc = file_create_loose(fd, name, content, 0644, err);
    return rc == MUSTER_EEXISTS ? file_replace(fd, name, content, 0644, err) : rc;
}

static int deliver(struct ca_many *m, struct ca_many_row *row, const struct ca_issued *issued, struct err *err) {
    const struct batch *b = m->arg;
    CLEANUP(fd_close) int fd = -1;
    int rc = open_folder(m, row, &fd, err);
    if (rc || (rc = put_shared(fd, "root.crt", buf_span(&b->server->root), err)) || (rc = put_shared(fd, "gateway.url", buf_span(&b->server->url), err)) ||
        (rc = file_create_loose(fd, "client.pem", buf_span(&issued->chain), 0644, err)))
        return rc;
    return file_sync_dir(fd, row->output, err);
}

/* --- all of them ----------------------------------------------------------------------------------------------------------------------- */

static int read_list(const struct invocation *in, struct ca_list *out, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(CA_LIST_MAX);
    const char *from = invocation_option(in, "from"), *column = invocation_option(in, "column");
    int rc = from ? file_arg_read(from, &text, err) : 0;
    if (!rc && from && (rc = ca_list_read(buf_span(&text), column, out, err)))
        err_prefix(err, "%s", from);
    for (size_t i = 0; !rc && i < in->n_rest; i++)
        rc = ca_list_add(out, span_str(in->rest[i]), err);
    return rc ? rc : ca_list_check(out, err);
}

static int make_rows(struct ca_many *m, const struct ca_list *list, struct err *err) {
    m->rows = calloc(list->n + 1, sizeof *m->rows);
    if (!m->rows)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (m->n = 0; m->n < list->n; m->n++) {
        struct ca_many_row *row = &m->rows[m->n];
        *row = CA_MANY_ROW_INIT;
        row->device_id = list->rows[m->n].device_id;
        if (list->rows[m->n].line)
            snprintf(row->where, sizeof row->where, "Line %zu", list->rows[m->n].line);
        else
            snprintf(row->where, sizeof row->where, "%.*s", SPAN_FMT(row->device_id));
    }
    return 0;
}

int ca_batch_issue(const struct invocation *in, struct ca *ca, const struct ca_batch *rq, struct err *err) {
    static const struct ca_many_ops ops = {.done = "issued", .survey = survey, .prepare = prepare, .deliver = deliver};
    struct batch b = {.server = rq->server, .kind = rq->kind, .bits = rq->bits};
    CLEANUP(ca_many_fini) struct ca_many m = {.in = in, .ops = &ops, .ca = ca, .again = invocation_option(in, "again") != NULL, .life = rq->life, .dir = invocation_option(in, "output"), .fd = -1, .arg = &b};
    int rc = ca_many_threads(in, &m.threads, err);
    if (!rc && !(rc = read_list(in, &b.list, err)) && !(rc = make_rows(&m, &b.list, err)) && !(rc = file_make_dir(AT_FDCWD, m.dir, 0700, err))) {
        m.fd = open(m.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rc = m.fd < 0 ? err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", m.dir, strerror(errno)) : ca_many_run(&m, err);
    }
    ca_list_fini(&b.list);
    return rc;
}
