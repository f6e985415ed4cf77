/* dir: the directory of a fleet CA: opening, the lock, and the journal's file; see ca.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "ca/ca.h"
#include "json/json.h"

#define CONFIG_MAX 16384
#define KEY_MAX 65536
#define JOURNAL_MAX (1u << 30)

/* --- reading ---------------------------------------------------------------------------------------------------------------- */

static int read_cert(int fd, const char *name, struct cert **out, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(KEY_MAX);
    int rc = file_read(fd, name, &pem, err);
    if (rc)
        return rc;
    rc = cert_from_file(buf_span(&pem), out, err);
    if (rc)
        err_prefix(err, "%s", name);
    return rc;
}

/* What stands in the file behind the lines that are known. */
static int read_behind(const struct ca *ca, struct buf *out, struct err *err) {
    CLEANUP(fd_close) int fd = openat(ca->fd, JOURNAL_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return err_set(err, MUSTER_EIO, JOURNAL_FILE " cannot be opened: %s.", strerror(errno));
    if (!S_ISREG(st.st_mode) || (size_t)st.st_size < ca->journal.bytes || st.st_size > JOURNAL_MAX)
        return err_set(err, MUSTER_ECORRUPT, JOURNAL_FILE " is shorter than it was, or too long.");
    size_t n = (size_t)st.st_size - ca->journal.bytes, got = 0;
    uint8_t *to = n ? buf_extend(out, n) : NULL;
    if (n && !to)
        return err_set(err, MUSTER_ENOMEM, NULL);
    while (got < n) {
        ssize_t some = pread(fd, to + got, n - got, (off_t)(ca->journal.bytes + got));
        if (some < 0 && errno == EINTR)
            continue;
        if (some <= 0)
            return err_set(err, MUSTER_EIO, JOURNAL_FILE " cannot be read whole.");
        got += (size_t)some;
    }
    return 0;
}

/* A power cut may take sectors from the middle of the last line, and leave its end: they are zeros then, which no line has.  It was not
 * durable, so nothing was done on the strength of it, and nothing follows it: ca_begin() cuts it off first. */
static struct span without_holes(struct span text) {
    size_t last = text.n;
    while (last > 0 && (last == text.n || text.p[last - 1] != '\n'))
        last--;
    return span_index(span_sub(text, last, text.n), '\0') < 0 ? text : span_sub(text, 0, last);
}

/* *torn: bytes behind the last whole line. */
static int read_journal(struct ca *ca, size_t *torn, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(JOURNAL_MAX);
    size_t before = ca->journal.bytes;
    int rc = read_behind(ca, &text, err);
    if (rc || (rc = journal_read(&ca->journal, without_holes(buf_span(&text)), err)))
        return rc;
    *torn = text.n - (ca->journal.bytes - before);
    return 0;
}

static int read_kit(struct ca *ca, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(KIT_MAX);
    int rc = file_read(ca->fd, KIT_FILE, &text, err);
    if (rc != MUSTER_ENOTFOUND)
        return rc ? rc : kit_read(buf_span(&text), &ca->kit, err);
    if (err)
        *err = ERR_INIT;
    return 0;
}

int ca_open(const char *path, struct ca *out, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(buf_fini) struct buf config = BUF_INIT(CONFIG_MAX);
    size_t torn;
    ca.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ca.fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? err_set(err, MUSTER_ECAMISSING, "There is no fleet CA in %s.", path)
                                                   : err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", path, strerror(errno));
    int rc = file_read(ca.fd, "ca.json", &config, err);
    if (rc == MUSTER_ENOTFOUND)
        return err_set(err, MUSTER_ECAMISSING, "There is no fleet CA in %s.", path);
    if (rc)
        return rc;
    if ((rc = ca_read_config(buf_span(&config), &ca.config, &ca.device_life, err)))
        return rc;
    if ((rc = read_cert(ca.fd, "root.pem", &ca.root, err)))
        return rc;
    rc = read_cert(ca.fd, "intermediate.pem", &ca.intermediate, err);
    if (rc && rc != MUSTER_ENOTFOUND)
        return rc;
    if (err)
        *err = ERR_INIT;
    if ((rc = read_kit(&ca, err)))
        return rc;
    if (journal_init(&ca.journal))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if ((rc = read_journal(&ca, &torn, err)))
        return rc;
    *out = ca;
    ca = CA_NONE;
    return 0;
}

void ca_close(struct ca *ca) {
    ca_end(ca);
    cert_free(ca->root);
    cert_free(ca->intermediate);
    EVP_PKEY_free(ca->key);
    json_decref(ca->config);
    kit_fini(&ca->kit);
    journal_fini(&ca->journal);
    fd_close(ca->fd);
    *ca = CA_NONE;
}

int ca_reread(struct ca *ca, struct err *err) {
    size_t torn; /* somebody may be writing that line */
    return read_journal(ca, &torn, err);
}

int ca_chain(const struct ca *ca, const char *serial, struct buf *out, struct err *err) {
    char name[sizeof "issued/.pem" + JOURNAL_SERIAL_LEN];
    snprintf(name, sizeof name, "issued/%s.pem", serial);
    int rc = file_read(ca->fd, name, out, err);
    if (rc || !ca->intermediate)
        return rc;
    const json_t *record = json_object_get(ca->journal.serials, serial);
    const char *kind = json_string_value(json_object_get(record, "kind"));
    bool below = kind && (strcmp(kind, "device") == 0);
    return below && cert_pem(ca->intermediate, out) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

/* --- writing ---------------------------------------------------------------------------------------------------------------- */

int ca_append(struct ca *ca, struct span line, struct err *err) {
    int rc = file_append(ca->fd, JOURNAL_FILE, line, err);
    return rc ? rc : journal_read(&ca->journal, line, err);
}

/* A line that was torn by a power cut or a kill was never acted upon. */
static int cut(const struct ca *ca, struct err *err) {
    CLEANUP(fd_close) int fd = openat(ca->fd, JOURNAL_FILE, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
    if (fd < 0 || ftruncate(fd, (off_t)ca->journal.bytes) || fsync(fd))
        return err_set(err, MUSTER_EIO, JOURNAL_FILE " cannot be cut back to its last whole line: %s.", strerror(errno));
    return 0;
}

/* Whose process ended between reserving and handing out: the certificate counts as issued where it had reached the disk. */
static int close_one(struct ca *ca, const char *serial, struct err *err) {
    char name[sizeof "issued/.pem" + JOURNAL_SERIAL_LEN];
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(KEY_MAX);
    CLEANUP(buf_fini) struct buf line = BUF_INIT(JOURNAL_LINE_MAX);
    CLEANUP(cert_free) struct cert *cert = NULL;
    snprintf(name, sizeof name, "issued/%s.pem", serial);
    int rc = file_read(ca->fd, name, &pem, NULL);
    if (rc && rc != MUSTER_ENOTFOUND)
        return err_set(err, rc, "%s cannot be read.", name);
    if (rc == 0 && cert_from_file(buf_span(&pem), &cert, NULL) == 0) {
        /* Written again: that it can be read does not say that it is durable. */
        if ((rc = file_replace(ca->fd, name, buf_span(&pem), 0644, err)))
            return rc;
        rc = journal_line_issue(serial, &cert->fingerprint, cert->not_after, clock_now(), &line);
    } else
        rc = journal_line_abandon(serial, clock_now(), &line);
    return rc ? err_set(err, rc, NULL) : ca_append(ca, buf_span(&line), err);
}

int ca_begin(struct ca *ca, struct err *err) {
    size_t torn = 0;
    ca->lock = openat(ca->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
    int done = ca->lock < 0 ? -1 : 0;
    while (done == 0 && flock(ca->lock, LOCK_EX))
        if (errno != EINTR)
            done = -1;
    int rc = done ? err_set(err, MUSTER_EIO, "The fleet CA cannot be locked: %s.", strerror(errno)) : read_journal(ca, &torn, err);
    if (!rc && torn)
        rc = cut(ca, err);
    while (!rc && json_object_size(ca->journal.open)) {
        char serial[JOURNAL_SERIAL_LEN + 1];
        snprintf(serial, sizeof serial, "%s", json_object_iter_key(json_object_iter(ca->journal.open)));
        rc = close_one(ca, serial, err);
    }
    if (rc)
        ca_end(ca);
    return rc;
}

void ca_end(struct ca *ca) {
    fd_close(ca->lock);
    ca->lock = -1;
}
