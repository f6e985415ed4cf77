/* place: see place.h. */
#include "agent/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/secret.h"
#include "json/json.h"

#define STATE "state.json"
#define CURRENT "current"
#define PREFIX "identity-"
#define NUMBER_MAX 999999999u
#define STATE_MAX 16384
#define PEM_MAX 65536

/* --- the directory ------------------------------------------------------------------------------------------------------------------------ */

static int check_owner(int fd, const char *dir, struct err *err) {
    struct stat st;
    if (fstat(fd, &st))
        return err_set(err, MUSTER_EIO, "%s cannot be looked at: %s.", dir, strerror(errno));
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return err_set(err, MUSTER_EINVALID, "%s belongs to another user (%u), who could exchange this device's identity. Run this as that user, change its owner, or name another directory by --dir.", dir,
                       (unsigned)st.st_uid);
    if (st.st_mode & 022)
        return err_set(err, MUSTER_EINVALID, "Others than its owner may write to %s. Take that right away (chmod go-w), or name another directory by --dir.", dir);
    return 0;
}

int place_open(struct place *p, const char *dir, bool make, struct err *err) {
    struct stat st;
    p->dir = dir;
    if (make && stat(dir, &st) && errno == ENOENT) {
        int rc = file_make_dir(AT_FDCWD, dir, 0755, err);
        if (rc)
            return rc;
    }
    p->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->fd < 0 && errno == ENOENT)
        return err_set(err, MUSTER_ENOTFOUND, "There is no directory %s yet; `muster-agent provision` makes it.", dir);
    if (p->fd < 0)
        return err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", dir, strerror(errno));
    return check_owner(p->fd, dir, err);
}

int place_lock(struct place *p, struct err *err) {
    p->lock = openat(p->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (p->lock < 0)
        return err_set(err, MUSTER_EIO, "%s/lock cannot be opened: %s.", p->dir, strerror(errno));
    if (flock(p->lock, LOCK_EX | LOCK_NB))
        return err_set(err, MUSTER_ELOCKED, "Another muster-agent is at work in %s.", p->dir);
    return 0;
}

void place_fini(struct place *p) {
    fd_close(p->lock);
    fd_close(p->fd);
    p->fd = p->lock = -1;
}

/* --- what is remembered --------------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t at, size; /* size 0: a number of 64 bits */
} FIELDS[] = {
#define TEXT(field) {#field, offsetof(struct state, field), sizeof(((struct state *)0)->field)}
#define NUMBER(field) {#field, offsetof(struct state, field), 0}
#define COUNT(field, part) {#field "_" #part, offsetof(struct state, field) + offsetof(struct back_off, part), 0}
#define WAITING(part) {"waiting_" #part, offsetof(struct state, waiting) + offsetof(struct candidate, part), 0}
#define BACK_OFF(field) COUNT(field, what), COUNT(field, failures), COUNT(field, at), COUNT(field, wait)
    TEXT(device_id),   TEXT(gateway),     TEXT(account), TEXT(method),    TEXT(source), NUMBER(keep_credentials), TEXT(import), NUMBER(import_refused_at), TEXT(import_gateway), TEXT(key),        NUMBER(newest_time), WAITING(time), WAITING(on), WAITING(up), WAITING(boot), NUMBER(anchors_at),
    NUMBER(asked_at),  NUMBER(wait),      TEXT(wait_code), TEXT(wait_text), NUMBER(contact_at), NUMBER(failed_at), NUMBER(failed_status), TEXT(failed_code), TEXT(failed_text),
    BACK_OFF(asking),  BACK_OFF(moving),  BACK_OFF(importing), BACK_OFF(looking),
};
#define FIELDS_N (sizeof FIELDS / sizeof *FIELDS)

void place_state(const struct place *p, struct state *s) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(STATE_MAX);
    CLEANUP_JSON json_t *doc = NULL;
    *s = (struct state){.device_id = ""};
    if (file_read(p->fd, STATE, &text, NULL) || !(doc = json_parse(buf_span(&text), NULL)))
        return;
    for (size_t i = 0; i < FIELDS_N; i++) {
        const json_t *value = json_object_get(doc, FIELDS[i].name);
        char *to = (char *)s + FIELDS[i].at;
        if (FIELDS[i].size && json_is_string(value) && json_string_length(value) < FIELDS[i].size)
            snprintf(to, FIELDS[i].size, "%s", json_string_value(value));
        else if (!FIELDS[i].size && json_is_integer(value))
            *(int64_t *)(void *)to = json_integer_value(value);
    }
    if (s->device_id[0] && device_id_accept(span_str(s->device_id), STATE, NULL))
        s->device_id[0] = '\0';
}

int place_remember(const struct place *p, const struct state *s, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(STATE_MAX), before = BUF_INIT(STATE_MAX);
    CLEANUP_JSON json_t *doc = json_object();
    for (size_t i = 0; i < FIELDS_N; i++) {
        const char *from = (const char *)s + FIELDS[i].at;
        if (FIELDS[i].size)
            json_set_span(doc, FIELDS[i].name, span_str(from));
        else
            json_set_int(doc, FIELDS[i].name, *(const int64_t *)(const void *)from);
    }
    int rc = json_write_pretty(&text, doc);
    if (rc)
        return err_set(err, rc, NULL);
    if (file_read(p->fd, STATE, &before, NULL) == 0 && span_eq(buf_span(&before), buf_span(&text)))
        return 0; /* flash wears out */
    return file_replace(p->fd, STATE, buf_span(&text), 0600, err);
}

/* --- identities ------------------------------------------------------------------------------------------------------------------------------- */

static void name_of(unsigned number, char out[PLACE_NAME_MAX]) { snprintf(out, PLACE_NAME_MAX, PREFIX "%u", number); }

static unsigned number_of(const char *name) {
    uint64_t n;
    struct span s = span_str(name);
    if (!span_starts(s, SPAN_LIT(PREFIX)) || !span_to_u64(span_sub(s, sizeof PREFIX - 1, s.n), &n) || n > NUMBER_MAX)
        return 0;
    return (unsigned)n;
}

unsigned place_current(const struct place *p) {
    char to[PLACE_NAME_MAX];
    ssize_t n = readlinkat(p->fd, CURRENT, to, sizeof to - 1);
    if (n <= 0)
        return 0;
    to[n] = '\0';
    return number_of(to);
}

static void each(const struct place *p, void (*seen)(const struct place *p, const char *name, unsigned current, void *arg), void *arg) {
    unsigned current = place_current(p);
    int fd = openat(p->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        fd_close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));)
        seen(p, e->d_name, current, arg);
    closedir(d);
}

static void look_next(const struct place *p, const char *name, unsigned current, void *arg) {
    unsigned n = number_of(name), *next = arg;
    if (n > current && n > *next)
        *next = n;
}

unsigned place_next(const struct place *p) {
    unsigned next = 0;
    each(p, look_next, &next);
    return next;
}

static int open_identity(const struct place *p, unsigned number, struct err *err) {
    char name[PLACE_NAME_MAX];
    name_of(number, name);
    int fd = openat(p->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        err_set(err, errno == ENOENT ? MUSTER_ENOTFOUND : MUSTER_EIO, "%s/%s cannot be opened: %s.", p->dir, name, strerror(errno));
    return fd;
}

static int read_where(int fd, char where[KEYRING_URI_MAX], struct err *err) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(KEYRING_URI_MAX - 1);
    where[0] = '\0';
    int rc = file_read(fd, "pkey.uri", &line, err);
    if (rc)
        return rc == MUSTER_ENOTFOUND ? 0 : rc;
    struct span s = buf_span(&line);
    while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r' || s.p[s.n - 1] == ' '))
        s.n--;
    snprintf(where, KEYRING_URI_MAX, "%.*s", SPAN_FMT(s));
    return 0;
}

/* Nobody is asked: the token is needed once something is signed. */
static void read_hardware_key(int fd, struct identity *out) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(PEM_MAX);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *public = NULL;
    if (file_read(fd, "pkey.pub", &der, NULL) || key_from_public_der(buf_span(&der), &public, NULL) || keyring_open_known(out->where, public, &out->key, NULL))
        out->key = NULL;
}

static void read_key(int fd, struct identity *out) {
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(PEM_MAX);
    if (read_where(fd, out->where, NULL))
        return;
    if (out->where[0]) {
        read_hardware_key(fd, out);
        return;
    }
    out->hidden = faccessat(fd, "pkey.pem", F_OK, 0) == 0 && faccessat(fd, "pkey.pem", R_OK, AT_EACCESS);
    if (file_read(fd, "pkey.pem", &pem, NULL) || key_read_private(buf_span(&pem), SPAN_NONE, &out->key, NULL))
        out->key = NULL;
}

static void read_cert(int fd, struct identity *out) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(PEM_MAX);
    if (file_read(fd, "client.pem", &pem, NULL) || certs_read(buf_span(&pem), &out->above, NULL))
        certs_fini(&out->above);
    out->cert = certs_shift(&out->above);
}

int place_identity(const struct place *p, unsigned number, struct identity *out, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(PEM_MAX), url = BUF_INIT(OPTIONS_VALUE_MAX - 1);
    *out = (struct identity){.number = number};
    CLEANUP(fd_close) int fd = open_identity(p, number, err);
    if (fd < 0)
        return err ? err->code : MUSTER_EIO;
    read_key(fd, out);
    read_cert(fd, out);
    if (file_read(fd, "root.crt", &pem, NULL) == 0 && certs_read(buf_span(&pem), &out->anchors, NULL))
        certs_fini(&out->anchors);
    if (file_read(fd, "gateway.url", &url, NULL) == 0) {
        struct span s = span_trim(buf_span(&url));
        while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r' || s.p[s.n - 1] == '/'))
            s.n--;
        snprintf(out->gateway, sizeof out->gateway, "%.*s", SPAN_FMT(s));
    }
    return 0;
}

int place_where(const struct place *p, unsigned number, char where[KEYRING_URI_MAX], struct err *err) {
    CLEANUP(fd_close) int fd = open_identity(p, number, err);
    return fd < 0 ? (err ? err->code : MUSTER_EIO) : read_where(fd, where, err);
}

bool place_has(const struct place *p, unsigned number, const char *name) {
    CLEANUP(fd_close) int fd = open_identity(p, number, NULL);
    return fd >= 0 && faccessat(fd, name, F_OK, 0) == 0;
}

void identity_fini(struct identity *id) {
    EVP_PKEY_free(id->key);
    cert_free(id->cert);
    certs_fini(&id->above);
    certs_fini(&id->anchors);
    *id = IDENTITY_INIT;
}

bool identity_whole(const struct identity *id) {
    return id->key && id->cert && id->anchors.n && id->gateway[0] && EVP_PKEY_eq(X509_get0_pubkey(id->cert->x), id->key) == 1;
}

int place_get(const struct place *p, unsigned number, const char *name, struct buf *out, struct err *err) {
    CLEANUP(fd_close) int fd = open_identity(p, number, err);
    return fd < 0 ? (err ? err->code : MUSTER_EIO) : file_read(fd, name, out, err);
}

int place_put(const struct place *p, unsigned number, const char *name, struct span content, mode_t mode, struct err *err) {
    CLEANUP(fd_close) int fd = open_identity(p, number, err);
    return fd < 0 ? (err ? err->code : MUSTER_EIO) : file_replace(fd, name, content, mode, err);
}

int place_drop(const struct place *p, unsigned number, struct err *err) {
    char dir[PLACE_NAME_MAX];
    CLEANUP(fd_close) int fd = open_identity(p, number, NULL);
    int again = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d) {
        fd_close(again);
        return 0;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            unlinkat(fd, e->d_name, 0);
    closedir(d);
    name_of(number, dir);
    if (unlinkat(p->fd, dir, AT_REMOVEDIR) && errno != ENOENT)
        return err_set(err, MUSTER_EIO, "%s/%s cannot be removed: %s.", p->dir, dir, strerror(errno));
    return 0;
}

int place_begin(const struct place *p, unsigned *number, struct err *err) {
    unsigned last = place_current(p);
    for (unsigned next; (next = place_next(p));) {
        int rc = place_drop(p, next, err);
        if (rc)
            return rc;
        last = next;
    }
    *number = last + 1;
    char name[PLACE_NAME_MAX];
    name_of(*number, name);
    return file_make_dir(p->fd, name, 0755, err);
}

int place_switch(const struct place *p, unsigned number, struct err *err) {
    char name[PLACE_NAME_MAX];
    CLEANUP(fd_close) int fd = open_identity(p, number, err); /* a former pass may have ended between a file and its name's being durable */
    if (fd < 0 || fsync(fd))
        return fd < 0 ? (err ? err->code : MUSTER_EIO) : err_set(err, MUSTER_EIO, "%s/" PREFIX "%u cannot be written to the disk: %s.", p->dir, number, strerror(errno));
    name_of(number, name);
    unlinkat(p->fd, CURRENT ".new", 0);
    if (symlinkat(name, p->fd, CURRENT ".new") || renameat(p->fd, CURRENT ".new", p->fd, CURRENT) || fsync(p->fd))
        return err_set(err, MUSTER_EIO, "%s/" CURRENT " cannot be replaced: %s.", p->dir, strerror(errno));
    return 0;
}

/* What a kill left of a file that was being replaced: it may be a key. */
static void sweep(const struct place *p, unsigned number) {
    CLEANUP(fd_close) int fd = open_identity(p, number, NULL);
    int again = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d) {
        fd_close(again);
        return;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".tmp-"))
            unlinkat(fd, e->d_name, 0);
    closedir(d);
}

static void clean_one(const struct place *p, const char *name, unsigned current, void *arg) {
    unsigned n = number_of(name);
    if (n && n < current && place_drop(p, n, NULL) == 0)
        return;
    if (n)
        sweep(p, n);
    if (strstr(name, ".tmp-") || !strcmp(name, CURRENT ".new"))
        unlinkat(p->fd, name, 0);
}

void place_clean(const struct place *p) { each(p, clean_one, NULL); }
