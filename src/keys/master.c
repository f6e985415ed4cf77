/* master: see master.h. */
#include "keys/master.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hex.h"
#include "keys/seal.h"

#define HEX_LEN (2 * (size_t)SEAL_KEY_LEN)
#define COSTS_OPERATIONS 3
#define COSTS_MEMORY (64ULL << 20)
/* Bounds of what a head may ask for: it is read before anything can authenticate it. */
#define COSTS_OPERATIONS_MAX 64
#define COSTS_MEMORY_MAX (1ULL << 30)

_Static_assert(KEY_MASTER_LEN == SEAL_KEY_LEN, "key length");
_Static_assert(KEY_MASTER_SALT_LEN == crypto_pwhash_SALTBYTES, "salt length");

void key_master_costs_new(struct key_master_costs *out) {
    secret_random_bytes(out->salt, sizeof out->salt);
    out->operations = COSTS_OPERATIONS;
    out->memory = COSTS_MEMORY;
}

/* Not secret_read_file: the name may be relative to the vault's directory, and a credential that systemd opened to a service's
 * user by an ACL shows group bits that say nothing; `forbidden` are the mode bits that each kind must not have. */
static int read_secret(int dir_fd, const char *path, mode_t forbidden, size_t max, struct secret *out, struct err *err) {
    CLEANUP(fd_close) int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, errno == ENOENT ? MUSTER_ENOTFOUND : MUSTER_EIO, "The master key's file %s cannot be opened: %s.", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st))
        return err_set(err, MUSTER_EIO, "The master key's file %s cannot be examined: %s.", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (size_t)st.st_size > max)
        return err_set(err, MUSTER_EINVALID, "The master key's file %s is not a regular file of 1 to %zu bytes.", path, max);
    if (st.st_mode & forbidden)
        return err_set(err, MUSTER_EINVALID, "The master key's file %s has mode %04o, which lets others read it; make it 0600.", path,
                       (unsigned)(st.st_mode & 07777));
    CLEANUP(secret_fini) struct secret content = SECRET_INIT;
    if (secret_alloc(&content, (size_t)st.st_size))
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t got = 0; got < content.n;) {
        ssize_t n = read(fd, content.p + got, content.n - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, MUSTER_EIO, "The master key's file %s cannot be read whole.", path);
        got += (size_t)n;
    }
    *out = content;
    content = SECRET_INIT;
    return 0;
}

int key_master_text(struct span key, struct secret *out, struct err *err) {
    if (key.n != SEAL_KEY_LEN)
        return err_set(err, MUSTER_EINTERNAL, "A master key has %zu bytes.", key.n);
    if (secret_alloc(out, HEX_LEN + 1))
        return err_set(err, MUSTER_ENOMEM, NULL);
    hex_encode(key, (char *)out->p);
    out->p[HEX_LEN] = '\n';
    return 0;
}

static int make_key_file(int dir_fd, const char *path, struct err *err) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    CLEANUP(secret_fini) struct secret text = SECRET_INIT;
    if (secret_random(&key, SEAL_KEY_LEN))
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = key_master_text(secret_span(&key), &text, err);
    return rc ? rc : file_create(dir_fd, path, secret_span(&text), 0600, err);
}

static int load_key_file(int dir_fd, const char *path, bool create, struct secret *out, struct err *err) {
    CLEANUP(secret_fini) struct secret text = SECRET_INIT;
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    struct err absent = ERR_INIT;
    int rc = read_secret(dir_fd, path, 077, HEX_LEN + 1, &text, &absent);
    if (rc == MUSTER_ENOTFOUND && create) {
        rc = make_key_file(dir_fd, path, err);
        if (rc && rc != MUSTER_EEXISTS)
            return rc;
        rc = read_secret(dir_fd, path, 077, HEX_LEN + 1, &text, &absent);
    }
    if (rc)
        return err_set(err, rc, "%s", err_text(&absent));
    struct span digits = secret_span(&text);
    if (digits.n == HEX_LEN + 1 && digits.p[HEX_LEN] == '\n')
        digits.n--;
    if (secret_alloc(&key, SEAL_KEY_LEN))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (hex_decode(digits, key.p, key.n))
        return err_set(err, MUSTER_EINVALID, "The master key's file %s does not hold %zu hex digits.", path, HEX_LEN);
    *out = key;
    key = SECRET_INIT;
    return 0;
}

int key_master_costs_check(const struct key_master_costs *costs, const char *whose, struct err *err) {
    if (costs->operations < 1 || costs->operations > COSTS_OPERATIONS_MAX || costs->memory < crypto_pwhash_MEMLIMIT_MIN ||
        costs->memory > COSTS_MEMORY_MAX)
        return err_set(err, MUSTER_ECORRUPT, "The %s's head asks for impossible costs of the passphrase.", whose);
    return 0;
}

int key_master_derive(struct span passphrase, const struct key_master_costs *costs, size_t min, const char *whose, struct secret *out, struct err *err) {
    if (passphrase.n < min || passphrase.n > KEY_MASTER_PASSPHRASE_MAX)
        return err_set(err, MUSTER_EINVALID, "The %s's passphrase has not between %zu and %d bytes.", whose, min, KEY_MASTER_PASSPHRASE_MAX);
    int rc = key_master_costs_check(costs, whose, err);
    if (rc)
        return rc;
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    if (secret_alloc(&key, SEAL_KEY_LEN))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (crypto_pwhash(key.p, key.n, (const char *)passphrase.p, passphrase.n, costs->salt, costs->operations, (size_t)costs->memory,
                      crypto_pwhash_ALG_ARGON2ID13))
        return err_set(err, MUSTER_ENOMEM, "There is not enough memory to derive the %s's key from its passphrase (%llu bytes).",
                       whose, (unsigned long long)costs->memory);
    *out = key;
    key = SECRET_INIT;
    return 0;
}

static int derive(struct span passphrase, const struct key_master_costs *costs, struct secret *out, struct err *err) {
    return key_master_derive(passphrase, costs, KEY_MASTER_PASSPHRASE_MIN, "vault", out, err);
}

static int load_credential(const char *path, const struct key_master_costs *costs, struct secret *out, struct err *err) {
    if (!path)
        return err_set(err, MUSTER_EINVALID, "The master key is to come from a credential, but no file is named.");
    CLEANUP(secret_fini) struct secret content = SECRET_INIT;
    int rc = read_secret(AT_FDCWD, path, 007, KEY_MASTER_PASSPHRASE_MAX + 1, &content, err);
    if (rc)
        return rc;
    struct span passphrase = secret_span(&content);
    if (passphrase.p[passphrase.n - 1] == '\n') /* as an editor leaves it */
        passphrase.n--;
    return derive(passphrase, costs, out, err);
}

static int load_file(int dir_fd, const struct key_master_options *o, bool create, struct secret *out, struct err *err) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s%s", o->path ? o->path : KEY_MASTER_FILE_NAME, o->next ? KEY_MASTER_NEXT : "") >= (int)sizeof path)
        return err_set(err, MUSTER_EINVALID, "The path of the master key's file is too long.");
    return load_key_file(o->path ? AT_FDCWD : dir_fd, path, create, out, err);
}

int key_master_load(int dir_fd, const struct key_master_options *o, const struct key_master_costs *costs, bool create, struct secret *out,
                    struct err *err) {
    switch (o->kind) {
    case KEY_MASTER_FILE:
        return load_file(dir_fd, o, create, out, err);
    case KEY_MASTER_PASSPHRASE:
        return derive(o->passphrase, costs, out, err);
    case KEY_MASTER_CREDENTIAL:
        return load_credential(o->path, costs, out, err);
    }
    return err_set(err, MUSTER_EINVALID, "There is no such kind of master key.");
}
