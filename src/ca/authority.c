/* authority: makes a fleet CA; see ca.h.  Everything is written into a directory beside the one that is asked for, which then takes its
 * place in one step. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "base/hex.h"
#include "ca/signer.h"

#define INTERMEDIATE_LIFE (35 * CLOCK_YEAR)

struct made {
    EVP_PKEY *key;
    struct cert *cert;
};
static void made_fini(struct made *m) {
    EVP_PKEY_free(m->key);
    cert_free(m->cert);
}
DEFINE_CLEANUP_FINI(made_fini, struct made)

static int make(int fd, const struct ca_init *init, enum cert_profile profile, const char *name, int64_t not_after, const struct made *issuer, struct made *out, struct err *err) {
    const struct signer_make how = {.place = !issuer && init->root_place ? init->root_place : init->place, .label = name, .kind = init->kind, .bits = init->bits};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf der = BUF_INIT(16384);
    struct make_request rq = {.profile = profile, .subject = init->subject, .not_before = clock_now() - CLOCK_DAY, .not_after = not_after};
    int rc = signer_make(fd, issuer ? SIGNER_BELOW : SIGNER_ROOT, &how, &out->key, err);
    if (rc || (rc = key_public_der(out->key, &spki, err)))
        return rc;
    rq.subject.common_name = span_str(name);
    rq.public_key = buf_span(&spki);
    make_serial(rq.serial);
    const struct ca by = {.key = issuer ? issuer->key : out->key};
    rc = signer_fault(&by, make_cert(&rq, issuer ? issuer->cert : NULL, by.key, &der, err), err);
    return rc ? rc : cert_from_der(buf_span(&der), &out->cert, err);
}

/* --- writing ---------------------------------------------------------------------------------------------------------------- */

static int write_cert(int fd, const char *name, const char *kind, const struct cert *cert, struct buf *journal, struct err *err) {
    char issued[sizeof "issued/.pem" + JOURNAL_SERIAL_LEN];
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    CLEANUP(buf_fini) struct buf serial = BUF_INIT(128);
    struct journal_reserve reserve = {.kind = kind, .key = cert->key.spki};
    if (cert_pem(cert, &pem))
        return err_set(err, MUSTER_ENOMEM, NULL);
    cert_serial_hex(cert, &serial);
    snprintf(reserve.serial, sizeof reserve.serial, "%s", buf_str(&serial));
    snprintf(issued, sizeof issued, "issued/%s.pem", reserve.serial);
    if (journal_line_reserve(&reserve, clock_now(), journal) || journal_line_issue(reserve.serial, &cert->fingerprint, cert->not_after, clock_now(), journal))
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = file_create(fd, issued, buf_span(&pem), 0644, err);
    return rc ? rc : file_create(fd, name, buf_span(&pem), 0644, err);
}

static int write_config(int fd, const struct ca_init *init, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(16384);
    int rc = ca_write_config(init, clock_now(), &text);
    return rc ? err_set(err, rc, NULL) : file_create(fd, "ca.json", buf_span(&text), 0644, err);
}

static int fill(int fd, const struct ca_init *init, const struct made *root, const struct made *intermediate, struct err *err) {
    CLEANUP(buf_fini) struct buf journal = BUF_INIT(4 * JOURNAL_LINE_MAX);
    int rc = file_make_dir(fd, "issued", 0755, err);
    if (rc || (rc = signer_keep(fd, SIGNER_ROOT, root->key, init->passphrase, err)) || (rc = write_cert(fd, "root.pem", "root", root->cert, &journal, err)))
        return rc;
    if (intermediate->cert && ((rc = signer_keep(fd, SIGNER_BELOW, intermediate->key, init->passphrase, err)) ||
                               (rc = write_cert(fd, "intermediate.pem", "intermediate", intermediate->cert, &journal, err))))
        return rc;
    if ((rc = file_create(fd, "lock", SPAN_NONE, 0600, err)) || (rc = file_create(fd, JOURNAL_FILE, buf_span(&journal), 0644, err)))
        return rc;
    return write_config(fd, init, err);
}

/* --- in one step ------------------------------------------------------------------------------------------------------------- */

static void empty(int fd) {
    CLEANUP(fd_close) int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d)
        return;
    again = -1; /* now the stream's */
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            unlinkat(fd, e->d_name, 0);
    closedir(d);
}

/* Keys that were made in a token for it go as well.  False: one could not be removed, and the directory stays, which says where it lies. */
static bool discard(const char *path) {
    struct err err = ERR_INIT;
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && (signer_discard(fd, SIGNER_ROOT, true, &err) || signer_discard(fd, SIGNER_BELOW, true, &err)))
        return false;
    CLEANUP(fd_close) int issued = fd < 0 ? -1 : openat(fd, "issued", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (issued >= 0) {
        empty(issued);
        unlinkat(fd, "issued", AT_REMOVEDIR);
    }
    if (fd >= 0)
        empty(fd);
    rmdir(path);
    return true;
}

struct names {
    char root[96], below[128];
};

static int make_all(int fd, const struct ca_init *init, const struct names *names, struct err *err) {
    CLEANUP(made_fini) struct made root = {0};
    CLEANUP(made_fini) struct made intermediate = {0};
    int64_t end = clock_now() + init->root_life, end_below = clock_now() + INTERMEDIATE_LIFE;
    int rc = make(fd, init, PROFILE_FLEET_ROOT, names->root, end, NULL, &root, err);
    if (!rc && init->intermediate)
        rc = make(fd, init, PROFILE_ISSUING_CA, names->below, end_below < end ? end_below : end, &root, &intermediate, err);
    return rc ? rc : fill(fd, init, &root, &intermediate, err);
}

static int write_beside(const char *beside, const struct ca_init *init, const struct names *names, struct err *err) {
    int rc = file_make_dir(AT_FDCWD, beside, 0700, err);
    if (rc)
        return rc;
    CLEANUP(fd_close) int fd = open(beside, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", beside, strerror(errno));
    return make_all(fd, init, names, err);
}

/* rename(2) takes the place of an empty directory and of no other. */
static int put_in_place(const char *beside, const char *path, struct err *err) {
    if (rename(beside, path))
        return errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR ? err_set(err, MUSTER_EEXISTS, "%s exists already.", path)
                                                                          : err_set(err, MUSTER_EIO, "%s cannot be made: %s.", path, strerror(errno));
    return 0;
}

static int sync_parent(const char *path, struct err *err) {
    char parent[4096] = ".";
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    CLEANUP(fd_close) int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) ? err_set(err, MUSTER_EIO, "%s cannot be made durable: %s.", parent, strerror(errno)) : 0;
}

static bool is_there(const char *path) {
    DIR *d = opendir(path);
    if (!d)
        return errno != ENOENT;
    size_t n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n > 2;
}

int ca_make(const char *given, const struct ca_init *init, struct err *err) {
    char path[4096], beside[4096 + 16];
    struct names names;
    uint8_t unique[4];
    char digits[2 * sizeof unique + 1];
    if (snprintf(path, sizeof path, "%s", given) >= (int)sizeof path || !path[0])
        return err_set(err, MUSTER_EINVALID, "The directory's name is empty or too long.");
    if (init->name.n >= sizeof names.root)
        return err_set(err, MUSTER_EINVALID, "The root's name is too long.");
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    if (is_there(path))
        return err_set(err, MUSTER_EEXISTS, "%s exists already.", path);
    secret_random_bytes(unique, sizeof unique);
    hex_encode(span_of(unique, sizeof unique), digits);
    snprintf(beside, sizeof beside, "%s.new-%s", path, digits);
    /* Two CAs of one name could not be told apart where a device has no key identifiers. */
    snprintf(names.root, sizeof names.root, "Fleet root %s", digits);
    snprintf(names.below, sizeof names.below, "Fleet issuing CA %s", digits);
    if (init->name.n)
        snprintf(names.root, sizeof names.root, "%.*s", SPAN_FMT(init->name));
    int rc = write_beside(beside, init, &names, err);
    if (rc || (rc = put_in_place(beside, path, err)))
        return discard(beside) ? rc : err_prefix(err, "A key that was made stays in its token, named in %s", beside);
    return sync_parent(path, err);
}
