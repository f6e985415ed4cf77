/* master: see master.h. */
#include "musterd/master.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/passphrase.h"
#include "vault/process.h"

static int find_credential(struct master *m, struct err *err) {
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (!dir || !*dir)
        return err_set(err, MUSTER_ECONFIG, "master_key = credential: no file is named, and CREDENTIALS_DIRECTORY is not set.");
    if (snprintf(m->path, sizeof m->path, "%s/master", dir) >= (int)sizeof m->path)
        return err_set(err, MUSTER_ECONFIG, "CREDENTIALS_DIRECTORY is too long.");
    m->options.path = m->path;
    return 0;
}

int master_prepare(struct master *m, const struct settings *s, bool twice, struct err *err) {
    static const enum key_master_kind kinds[] = {
        [SETTINGS_MASTER_FILE] = KEY_MASTER_FILE, [SETTINGS_MASTER_PASSPHRASE] = KEY_MASTER_PASSPHRASE, [SETTINGS_MASTER_CREDENTIAL] = KEY_MASTER_CREDENTIAL};
    *m = (struct master){.options = {.kind = kinds[s->master_key]}};
    if (s->master_key == SETTINGS_MASTER_PASSPHRASE) {
        int rc = passphrase_read("passphrase of the vault", twice, KEY_MASTER_PASSPHRASE_MIN, &m->passphrase, err);
        m->options.passphrase = secret_span(&m->passphrase);
        return rc;
    }
    if (s->master_key_file[0]) {
        if (s->master_key_file[0] != '/')
            return err_set(err, MUSTER_ECONFIG, "master_key_file: `%s` is not an absolute path.", s->master_key_file);
        snprintf(m->path, sizeof m->path, "%s", s->master_key_file);
        m->options.path = m->path;
        return 0;
    }
    return s->master_key == SETTINGS_MASTER_CREDENTIAL ? find_credential(m, err) : 0;
}

/* What decides is on the disk, whoever wrote it: no key goes before that is certain. */
static int sync_head(int vault_fd, struct err *err) {
    CLEANUP(fd_close) int head = openat(vault_fd, "head", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (head < 0 || fsync(head) || fsync(vault_fd))
        return err_set(err, MUSTER_EIO, "The vault's head cannot be made durable: %s.", strerror(errno));
    return 0;
}

/* Both in one directory. */
static int put_in_place(int dir_fd, const char *from, const char *to, struct err *err) {
    CLEANUP(buf_wipe) struct buf dir = BUF_INIT(PATH_MAX);
    const char *slash = strrchr(to, '/');
    buf_add(&dir, slash ? span_of(to, slash == to ? 1 : (size_t)(slash - to)) : SPAN_LIT("."));
    CLEANUP(fd_close) int fd = openat(dir_fd, buf_str(&dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || renameat(dir_fd, from, dir_fd, to) || fsync(fd))
        return err_set(err, MUSTER_EIO, "%s cannot be put in the place of %s: %s.", from, to, strerror(errno));
    return 0;
}

int master_tidy(const struct master *m, int vault_fd, struct err *err) {
    struct key_master_options next = m->options;
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    char path[PATH_MAX];
    const char *to = m->options.path ? m->options.path : KEY_MASTER_FILE_NAME;
    int dir_fd = m->options.path ? AT_FDCWD : vault_fd;
    struct err why = ERR_INIT;
    if (m->options.kind != KEY_MASTER_FILE)
        return 0;
    next.next = true;
    int rc = snprintf(path, sizeof path, "%s" KEY_MASTER_NEXT, to) >= (int)sizeof path ? MUSTER_EINVALID : key_master_load(vault_fd, &next, NULL, false, &key, &why);
    if (rc == MUSTER_ENOTFOUND)
        return 0;
    if (rc) /* one that cannot be read may be the vault's all the same */
        return err_set(err, rc, "%s", err_text(&why));
    int is_live = vault_is_opened_by(vault_fd, secret_span(&key), err);
    if (is_live < 0 || (rc = sync_head(vault_fd, err)))
        return is_live < 0 ? is_live : rc;
    log_event(LOG_WARN, "vault_rekey_tidied", "file", path, "key", is_live ? "is the vault's" : "is not the vault's", NULL);
    return is_live ? put_in_place(dir_fd, path, to, err) : file_remove(dir_fd, path, err);
}

/* Over its bytes, where no other name shows them: somebody may have kept the file by one. */
static int wipe_file(int vault_fd, const char *name, struct err *err) {
    static const char nothing[2 * KEY_MASTER_LEN + 1];
    struct stat st;
    CLEANUP(fd_close) int fd = openat(vault_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st))
        return err_set(err, errno == ENOENT ? MUSTER_ENOTFOUND : MUSTER_EIO, "The key file %s cannot be opened: %s.", name, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_size > (off_t)sizeof nothing)
        return 0;
    return pwrite(fd, nothing, (size_t)st.st_size, 0) != st.st_size || fsync(fd) ? err_set(err, MUSTER_EIO, "The key file %s cannot be wiped: %s.", name, strerror(errno)) : 0;
}

int master_forget(const struct master *m, int vault_fd, bool *gone, struct err *err) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    struct err why = ERR_INIT;
    *gone = false;
    if (m->options.kind != KEY_MASTER_FILE || m->options.path)
        return 0;
    int rc = key_master_load(vault_fd, &m->options, NULL, false, &key, &why);
    if (rc == MUSTER_ENOTFOUND)
        return 0;
    if (rc)
        return err_set(err, rc, "%s", err_text(&why));
    int is_live = vault_is_opened_by(vault_fd, secret_span(&key), err);
    if (is_live || (rc = sync_head(vault_fd, err)) || (rc = wipe_file(vault_fd, KEY_MASTER_FILE_NAME, err)))
        return is_live > 0 ? 0 : is_live ? is_live : rc;
    rc = file_remove(vault_fd, KEY_MASTER_FILE_NAME, err);
    *gone = !rc;
    return rc;
}

bool master_take_candidate(struct master *m, const char *hex) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    if (strlen(hex) != 2 * (size_t)KEY_MASTER_LEN || secret_alloc(&key, KEY_MASTER_LEN) || hex_decode(span_str(hex), key.p, key.n))
        return false;
    secret_fini(&m->candidates[1]);
    m->candidates[1] = m->candidates[0];
    m->candidates[0] = key;
    key = SECRET_INIT;
    for (size_t i = 0; i < 2; i++)
        m->options.candidates[i] = secret_span(&m->candidates[i]);
    return true;
}

void master_fini(struct master *m) {
    secret_fini(&m->passphrase);
    m->options.passphrase = SPAN_NONE;
    for (size_t i = 0; i < 2; i++) {
        secret_fini(&m->candidates[i]);
        m->options.candidates[i] = SPAN_NONE;
    }
}
