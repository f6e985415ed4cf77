/* ca_sign_many: `muster ca sign DIR`: every request in a directory, each answered by a file of the same name; see ca_many.h.  A request is never signed
 * twice: the same key and device ID get the certificate that they have. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "base/arena.h"
#include "base/file.h"
#include "ca/name.h"
#include "muster/ca_many.h"
#include "muster/ca_part.h"
#include "muster/ca_sign.h"

#define REQUEST_MAX 65536
#define NAMES_MAX (256u << 20)

struct signing {
    struct arena *memory;
    const char **names; /* of the files of requests, by row */
    size_t n;
    int requests;       /* the directory */
};
static void signing_fini(struct signing *s) {
    arena_free(s->memory);
    free(s->names);
    fd_close(s->requests);
}
DEFINE_CLEANUP_FINI(signing_fini, struct signing)

static const char *name_of(const struct ca_many *m, const struct ca_many_row *row) { return ((const struct signing *)m->arg)->names[row - m->rows]; }

/* "car-7.csr" is answered by "car-7.pem". */
static const char *answer_of(const struct ca_many_row *row) { return strrchr(row->output, '/') + 1; }

static int read_request(const struct ca_many *m, struct ca_many_row *row, struct buf *id, struct err *err) {
    CLEANUP(buf_fini) struct buf file = BUF_INIT(REQUEST_MAX);
    CLEANUP(csr_free) struct csr *csr = NULL;
    int rc = file_read(((const struct signing *)m->arg)->requests, name_of(m, row), &file, err);
    if (rc || (rc = csr_from_file(buf_span(&file), &csr, err)) || (rc = csr_device_id(csr, id, err)))
        return rc;
    return csr_public_der(csr, &row->public_key, err);
}

static void survey(struct ca_many *m, struct ca_many_row *row) {
    CLEANUP(buf_fini) struct buf id = BUF_INIT(1024);
    struct key_facts facts;
    struct err *err = &row->err;
    const char *name = name_of(m, row), *dot = strrchr(name, '.');
    int n = dot && dot > name ? (int)(dot - name) : (int)strlen(name);
    if (asprintf(&row->output, "%s/%.*s.pem", m->dir, n, name) < 0) {
        row->output = NULL;
        err_set(err, MUSTER_ENOMEM, NULL);
        return;
    }
    if (read_request(m, row, &id, err) || ca_check_device_id(buf_span(&id), err))
        return;
    row->device_id = span_of(strdup(buf_str(&id)), id.n);
    if (!row->device_id.p) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return;
    }
    if (ca_many_found(m, m->fd, answer_of(row), row, err) || key_facts_from_public_der(buf_span(&row->public_key), &facts, err))
        return;
    if (!journal_issued_key(&m->ca->journal, buf_str(&id), &facts.spki) && ca_may_issue(m->ca, row->device_id, false, err))
        return;
    *err = ERR_INIT;
}

static int prepare(struct ca_many *m, struct ca_many_row *row, struct ca_order *order, struct err *err) { return 0; }

static int deliver(struct ca_many *m, struct ca_many_row *row, const struct ca_issued *issued, struct err *err) {
    return file_create_loose(m->fd, answer_of(row), buf_span(&issued->chain), 0644, err);
}

/* --- the directory ------------------------------------------------------------------------------------------------------------------- */

static bool is_request(const char *name) {
    static const char *const ends[] = {".csr", ".pem", ".der", ".req", ".p10"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (name[0] != '.' && span_ends(span_str(name), span_str(ends[i])))
            return true;
    return false;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static int add_name(struct signing *s, const char *name, struct err *err) {
    if ((s->n & (s->n - 1)) == 0) {
        const char **more = realloc(s->names, (s->n ? 2 * s->n : 1) * sizeof *more);
        if (!more)
            return err_set(err, MUSTER_ENOMEM, NULL);
        s->names = more;
    }
    s->names[s->n] = arena_strdup(s->memory, span_str(name));
    return s->names[s->n++] ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

static int read_names(struct signing *s, const char *path, struct err *err) {
    int again = fcntl(s->requests, F_DUPFD_CLOEXEC, 3), rc = 0;
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d) {
        fd_close(again);
        return err_set(err, MUSTER_EIO, "%s cannot be read: %s.", path, strerror(errno));
    }
    for (struct dirent *e; !rc && (e = readdir(d));)
        if (is_request(e->d_name))
            rc = add_name(s, e->d_name, err);
    closedir(d);
    if (!rc && !s->n)
        return err_set(err, MUSTER_ENOTFOUND, "%s has no requests: files whose names end in .csr, .pem, .der, .req or .p10.", path);
    if (!rc)
        qsort(s->names, s->n, sizeof *s->names, by_name);
    return rc;
}

/* Two requests that would be answered by the same file, or are of one device. */
static int check_answers(const struct signing *s, struct err *err) {
    for (size_t i = 1; i < s->n; i++) {
        const char *a = s->names[i - 1], *b = s->names[i], *dot = strrchr(b, '.');
        size_t n = (size_t)(dot - b);
        if (strncmp(a, b, n) == 0 && strrchr(a, '.') == a + n)
            return err_set(err, MUSTER_EINVALID, "%s and %s would both be answered by %.*s.pem.", a, b, (int)n, b);
    }
    return 0;
}

static int make_rows(struct ca_many *m, const struct signing *s, struct err *err) {
    m->rows = calloc(s->n, sizeof *m->rows);
    if (!m->rows)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (m->n = 0; m->n < s->n; m->n++) {
        m->rows[m->n] = CA_MANY_ROW_INIT;
        snprintf(m->rows[m->n].where, sizeof m->rows->where, "%.95s", s->names[m->n]);
    }
    return 0;
}

int ca_sign_directory(const struct invocation *in, struct ca *ca, int64_t life, struct err *err) {
    static const struct ca_many_ops ops = {.done = "signed", .survey = survey, .prepare = prepare, .deliver = deliver};
    CLEANUP(signing_fini) struct signing s = {.memory = arena_new(NAMES_MAX), .requests = open(in->args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    CLEANUP(ca_many_fini) struct ca_many m = {.in = in, .ops = &ops, .ca = ca, .life = life, .dir = invocation_option(in, "output"), .fd = -1, .arg = &s};
    if (!m.dir || strcmp(m.dir, "-") == 0)
        return err_set(err, MUSTER_EUSAGE, "Of a directory of requests -o names the directory that takes the certificates.");
    if (invocation_option(in, "again") || invocation_option(in, "device"))
        return err_set(err, MUSTER_EUSAGE, "--again and --device are for a single request: of a directory no request is signed twice.");
    if (!s.memory || s.requests < 0)
        return err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", in->args[0], strerror(errno));
    int rc = ca_many_threads(in, &m.threads, err);
    if (rc || (rc = read_names(&s, in->args[0], err)) || (rc = check_answers(&s, err)) || (rc = make_rows(&m, &s, err)) || (rc = file_make_dir(AT_FDCWD, m.dir, 0755, err)))
        return rc;
    m.fd = open(m.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m.fd < 0)
        return err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", m.dir, strerror(errno));
    rc = ca_many_run(&m, err);
    for (size_t i = 0; i < m.n; i++)
        free((void *)(uintptr_t)m.rows[i].device_id.p);
    return rc;
}
