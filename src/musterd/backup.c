/* backup: see backup.h. */
#include "musterd/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "admin/control.h"
#include "backup/stream.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/passphrase.h"
#include "json/json.h"
#include "musterd/report.h"
#include "musterd/vault_copy.h"
#include "registry/recovery.h"
#include "store/copy.h"
#include "vault/process.h"

#define TRIES 50 /* moments at which the vault was changing */
#define PART ".part" /* behind the name of a file that is not whole */
#define PART_TRIES 10 /* of others that finish just then */

static const char *const DATABASES[] = {"control.db", "registry.db"}; /* in the order in which they are locked, and stand in the backup */
#define DATABASES_N (sizeof DATABASES / sizeof *DATABASES)
static const char *const FILES[] = {"musterd.conf", "server-ca.pem", "admin.token"};

struct backup {
    const struct options *options;
    struct data data;
    struct secret passphrase;
    struct backup_key to;
    struct uuid id;
    int64_t made;
    struct copies *copies;
    struct vault_copy vault;
    int copy[DATABASES_N]; /* files without a name */
    int64_t size[DATABASES_N];
    int dir_fd, fd; /* of the file's directory, and of the file while it is not whole */
    char dir[PATH_MAX], name[NAME_MAX + 1], part[NAME_MAX + 1];
    bool made_part, terminal;
    bool useless_key; /* a key file lies in the vault's directory that does not open the vault */
    int64_t in_token; /* keys; -1: not known */
    struct backup_writer *writer;
};

static void backup_fini(struct backup *b) {
    if (b->made_part)
        unlinkat(b->dir_fd, b->part, 0);
    backup_writer_free(b->writer);
    copies_end(b->copies);
    for (size_t i = 0; i < DATABASES_N; i++)
        fd_close(b->copy[i]);
    vault_copy_fini(&b->vault);
    secret_fini(&b->passphrase);
    fd_close(b->fd);
    fd_close(b->dir_fd);
    data_close(&b->data);
}
DEFINE_CLEANUP_FINI(backup_fini, struct backup)

/* --- to whom ------------------------------------------------------------------------------------------------------------------- */

static int find_key(struct backup *b, struct err *err) {
    const char *file = b->options->value[OPT_PASSPHRASE_FILE], *recipient = b->options->value[OPT_RECIPIENT], *what = "passphrase of the backup";
    if (file && recipient)
        return err_set(err, MUSTER_EUSAGE, "--recipient and --passphrase-file are two ways to encrypt; give one.");
    if (recipient) {
        CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
        b->to.to = BACKUP_TO_RECIPIENT;
        int rc = file_read(AT_FDCWD, recipient, &pem, err);
        return rc ? rc : recipient_read_public(buf_span(&pem), b->to.public, err);
    }
    b->to.to = BACKUP_TO_PASSPHRASE;
    int rc = file ? passphrase_read_file(file, what, BACKUP_PASSPHRASE_MIN, &b->passphrase, err) : passphrase_read(what, true, BACKUP_PASSPHRASE_MIN, &b->passphrase, err);
    b->to.passphrase = secret_span(&b->passphrase);
    return rc;
}

/* --- the file ------------------------------------------------------------------------------------------------------------------ */

/* One that was left by a backup that was cut off is written anew; its lock went with it.  Whatever else has the name is left alone: a file with another
 * name would be written over there, and one of somebody else's he could read.  1: it is ours; 0: it has gone, and NAME may be there. */
static int open_part(struct backup *b, struct err *err) {
    const char *output = b->options->value[OPT_OUTPUT];
    struct stat st, named;
    if (faccessat(b->dir_fd, b->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, MUSTER_EEXISTS, "%s exists already.", output);
    fd_close(TAKE_FD(b->fd));
    b->fd = openat(b->dir_fd, b->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
    if (b->fd < 0)
        return err_set(err, MUSTER_EIO, "%s" PART " cannot be made: %s.", output, strerror(errno));
    if (flock(b->fd, LOCK_EX | LOCK_NB))
        return err_set(err, MUSTER_ELOCKED, "Another backup is writing %s" PART ".", output);
    if (fstat(b->fd, &st))
        return err_set(err, MUSTER_EIO, "%s" PART " cannot be looked at: %s.", output, strerror(errno));
    if (fstatat(b->dir_fd, b->part, &named, AT_SYMLINK_NOFOLLOW) || named.st_dev != st.st_dev || named.st_ino != st.st_ino)
        return 0;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != geteuid())
        return err_set(err, MUSTER_EEXISTS, "%s" PART " is there, and no backup that was cut off: it is no file, has a second name, or is another user's. Nothing was changed.", output);
    return 1;
}

/* Nothing stands under the name that was asked for until all of it is there. */
static int open_output(struct backup *b, struct err *err) {
    const char *output = b->options->value[OPT_OUTPUT], *slash = strrchr(output, '/'), *name = slash ? slash + 1 : output;
    if (snprintf(b->dir, sizeof b->dir, "%.*s", slash ? (int)(slash - output) + (slash == output) : 1, slash ? output : ".") >= (int)sizeof b->dir ||
        !*name || snprintf(b->part, sizeof b->part, "%s" PART, name) >= (int)sizeof b->part)
        return err_set(err, MUSTER_EINVALID, "%s is no name for a file.", output);
    snprintf(b->name, sizeof b->name, "%s", name);
    b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->dir_fd < 0)
        return err_set(err, MUSTER_EIO, "The directory %s cannot be opened: %s.", b->dir, strerror(errno));
    int ours = 0;
    for (int left = PART_TRIES; !ours && left > 0; left--)
        if ((ours = open_part(b, err)) < 0)
            return ours;
    if (!ours)
        return err_set(err, MUSTER_ELOCKED, "Other backups write %s" PART " all the time.", output);
    b->made_part = true;
    return ftruncate(b->fd, 0) || fchmod(b->fd, 0600) ? err_set(err, MUSTER_EIO, "%s" PART " cannot be written: %s.", output, strerror(errno)) : 0;
}

static int put_in_place(struct backup *b, struct err *err) {
    const char *output = b->options->value[OPT_OUTPUT];
    if (fsync(b->fd))
        return err_set(err, MUSTER_EIO, "%s cannot be made durable: %s.", output, strerror(errno));
    int done = renameat2(b->dir_fd, b->part, b->dir_fd, b->name, RENAME_NOREPLACE);
    if (done && errno == EINVAL && faccessat(b->dir_fd, b->name, F_OK, AT_SYMLINK_NOFOLLOW)) /* a file system that cannot promise it */
        done = renameat(b->dir_fd, b->part, b->dir_fd, b->name);
    if (done)
        return errno == EEXIST ? err_set(err, MUSTER_EEXISTS, "%s exists already.", output) : err_set(err, MUSTER_EIO, "%s cannot be put in place: %s.", output, strerror(errno));
    b->made_part = false;
    if (fsync(b->dir_fd))
        return err_set(err, MUSTER_EIO, "%s cannot be made durable: %s.", output, strerror(errno));
    return 0;
}

/* --- one moment ------------------------------------------------------------------------------------------------------------------ */

static int take_moment(struct backup *b, struct err *err) {
    const struct timespec pause = {.tv_nsec = 20000000};
    char paths[DATABASES_N][PATH_MAX];
    const char *at[DATABASES_N];
    for (size_t i = 0; i < DATABASES_N; i++) {
        int rc = data_path(&b->data, DATABASES[i], paths[i], err);
        if (rc)
            return rc;
        at[i] = paths[i];
    }
    for (int left = TRIES; left > 0; left--) {
        int rc = vault_copy_begin(&b->vault, &b->data, err);
        if (rc || (rc = copies_begin(at, DATABASES_N, &b->copies, err)))
            return rc;
        b->made = clock_now();
        rc = vault_copy_end(&b->vault, &b->data, !b->options->value[OPT_WITHOUT_MASTER_KEY], err);
        if (rc)
            return rc < 0 ? rc : 0;
        copies_end(TAKE(b->copies));
        nanosleep(&pause, NULL);
    }
    return err_retry(err, MUSTER_EBUSY, 5, "The vault changes all the time, and the moment for a copy did not come.");
}

/* --- the content ----------------------------------------------------------------------------------------------------------------- */

static int begin_file(struct backup *b, const char *name, uint64_t size, struct err *err) {
    CLEANUP(buf_fini) struct buf front = BUF_INIT(256);
    uint64_t max;
    if (!content_may_hold(name, &max) || size > max)
        return err_set(err, MUSTER_EINVALID, "%s has %llu bytes, more than a backup holds of it.", name, (unsigned long long)size);
    content_put_file(&front, name, size);
    int rc = buf_check(&front, err);
    return rc ? rc : backup_write(b->writer, buf_span(&front), err);
}

static int put_bytes(struct backup *b, const char *name, struct span bytes, struct err *err) {
    int rc = begin_file(b, name, bytes.n, err);
    return rc ? rc : backup_write(b->writer, bytes, err);
}

/* Keys that are in a token and so not in the file: what the vault says, if it answers.  -1: nobody knows. */
static int64_t keys_elsewhere(const struct backup *b) {
    struct vault_status status;
    struct err ignored = ERR_INIT;
    char path[PATH_MAX];
    bool known = data_vault_socket(&b->data, path, &ignored) == 0 && vault_status_request(path, &status, &ignored) == 0;
    return known ? (int64_t)status.keys[VAULT_KEYS_IN_TOKEN] : -1;
}

static int put_facts(struct backup *b, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(65536);
    CLEANUP_JSON json_t *o = json_object();
    json_set_uuid(o, "id", &b->id);
    json_set_time(o, "made", b->made);
    json_set_str(o, "version", MUSTER_VERSION);
    json_set_bool(o, "master_key", b->vault.master_key);
    b->in_token = keys_elsewhere(b);
    if (b->in_token >= 0)
        json_set_int(o, "keys_in_token", b->in_token);
    if (json_write(&text, o))
        return err_set(err, MUSTER_ENOMEM, NULL);
    return put_bytes(b, "facts", buf_span(&text), err);
}

static int put_files(struct backup *b, struct err *err) {
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        CLEANUP(buf_wipe) struct buf bytes = BUF_INIT(1 << 20);
        struct err why = ERR_INIT;
        int rc = file_read(b->data.fd, FILES[i], &bytes, &why);
        if (rc == MUSTER_ENOTFOUND && strcmp(FILES[i], "admin.token") == 0)
            continue;
        if (rc)
            return err_set(err, rc, "%s", err_text(&why));
        if ((rc = put_bytes(b, FILES[i], buf_span(&bytes), err)))
            return rc;
    }
    return 0;
}

struct telling {
    const struct backup *b;
    const char *what;
};

static void tell(void *arg, int64_t done, int64_t all) {
    const struct telling *t = arg;
    if (t->b->terminal && all > 0)
        fprintf(stderr, "\r%s: %lld %%", t->what, (long long)(100 * done / all));
}

static void told(const struct backup *b) {
    if (b->terminal)
        fputs("\r\033[K", stderr);
}

/* Both before the first byte goes anywhere: whoever takes it may be slow, and the server's logs grow until the copies are there. */
static int take_databases(struct backup *b, struct err *err) {
    static const char *const what[] = {"copying control's database", "copying the registry"};
    int rc = 0;
    for (size_t i = 0; !rc && i < DATABASES_N; i++)
        rc = copies_take(b->copies, i, b->data.path, COPY_SPARE, &b->copy[i], &b->size[i], tell, &(struct telling){b, what[i]}, err);
    told(b);
    copies_end(TAKE(b->copies));
    return rc;
}

static int put_database(struct backup *b, size_t i, struct err *err) {
    int64_t size = b->size[i], done = 0;
    const char *name = DATABASES[i];
    static uint8_t piece[1 << 18];
    int rc = begin_file(b, name, (uint64_t)size, err);
    while (!rc && done < size) {
        ssize_t n = read(b->copy[i], piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || n > size - done)
            return err_set(err, MUSTER_EIO, "The copy of %s cannot be read.", name);
        rc = backup_write(b->writer, span_of(piece, (size_t)n), err);
        done += n;
        tell(&(struct telling){b, "encrypting"}, done, size);
    }
    told(b);
    return rc;
}

static int put_vault(struct backup *b, struct err *err) {
    int rc = 0;
    for (size_t i = 0; !rc && i < b->vault.n; i++)
        rc = put_bytes(b, b->vault.at[i].name, buf_span(&b->vault.at[i].bytes), err);
    return rc;
}

static int put_content(struct backup *b, struct err *err) {
    CLEANUP(buf_fini) struct buf end = BUF_INIT(16);
    int rc = put_facts(b, err);
    if (rc || (rc = put_files(b, err)))
        return rc;
    for (size_t i = 0; i < DATABASES_N; i++)
        if ((rc = put_database(b, i, err)))
            return rc;
    content_put_end(&end);
    if ((rc = put_vault(b, err)) || (rc = buf_check(&end, err)) || (rc = backup_write(b->writer, buf_span(&end), err)))
        return rc;
    return backup_writer_end(b->writer, err);
}

/* --- the whole --------------------------------------------------------------------------------------------------------------------- */

static int report(const struct backup *b, struct err *err) {
    const char *output = b->options->value[OPT_OUTPUT];
    if (!b->vault.master_key)
        fputs("The vault's master key is not in the backup: keep it elsewhere, because without it nothing of the vault can be used.\n", stderr);
    if (b->useless_key)
        fprintf(stderr, "%s/vault/" KEY_MASTER_FILE_NAME " does not open the vault, and is not in the backup either: remove it, or keep it elsewhere for backups that were made with it.\n", b->data.path);
    if (b->in_token > 0)
        fprintf(stderr, "%lld private keys are in the security module and not in the backup: back the token up by its own means, and have it in place before this one is put back.\n", (long long)b->in_token);
    if (!b->options->value[OPT_JSON]) {
        printf("%s: %llu bytes\n", output, (unsigned long long)backup_written(b->writer));
        return report_flush(err);
    }
    CLEANUP_JSON json_t *o = json_object();
    json_set_uuid(o, "id", &b->id);
    json_set_str(o, "output", output);
    json_set_time(o, "made", b->made);
    json_set_int(o, "bytes", (int64_t)backup_written(b->writer));
    json_set_str(o, "to", b->to.to == BACKUP_TO_RECIPIENT ? "recipient" : "passphrase");
    json_set_bool(o, "master_key", b->vault.master_key);
    json_object_set_new(o, "keys_in_token", b->in_token < 0 ? json_null() : json_integer((json_int_t)b->in_token)); /* null: the vault did not say */
    return report_json(o, err);
}

static bool key_file_is_there(const struct data *d) { return faccessat(d->fd, "vault/" KEY_MASTER_FILE_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

int backup_run(const struct options *o, struct err *err) {
    CLEANUP(backup_fini) struct backup b = {.options = o, .data = DATA_NONE, .dir_fd = -1, .fd = -1, .copy = {-1, -1}, .id = uuid_new(), .terminal = isatty(STDERR_FILENO) && !o->value[OPT_JSON]};
    int rc = data_open_ready(&b.data, o->value[OPT_DATA], err);
    /* All that can be wrong with what was asked for comes before the entry in the log. */
    if (rc || (rc = find_key(&b, err)) || (rc = open_output(&b, err)))
        return rc;
    const char *key = NULL;
    if (!o->value[OPT_WITHOUT_MASTER_KEY] && (rc = vault_copy_key(&b.data, &key, err)))
        return rc;
    b.useless_key = !o->value[OPT_WITHOUT_MASTER_KEY] && !key && key_file_is_there(&b.data);
    const struct recovery_backup record = {.id = b.id, .to_recipient = b.to.to == BACKUP_TO_RECIPIENT, .master_key = key != NULL};
    /* The key of a passphrase takes its time and its memory before the moment, and not while the logs grow. */
    if ((rc = control_backup_record(b.data.path, &record, err)) || (rc = backup_writer_new(b.fd, &b.to, &b.writer, err)) || (rc = take_moment(&b, err)) ||
        (rc = take_databases(&b, err)) || (rc = put_content(&b, err)) || (rc = put_in_place(&b, err)))
        return rc;
    return report(&b, err);
}
