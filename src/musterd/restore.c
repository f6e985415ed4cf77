/* restore: see restore.h. */
#include "musterd/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "admin/control.h"
#include "backup/content.h"
#include "backup/stream.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/passphrase.h"
#include "json/json.h"
#include "musterd/fresh.h"
#include "musterd/report.h"
#include "registry/recovery.h"
#include "store/copy.h"

#define FACTS "facts"

struct restore {
    const struct options *options;
    struct data data;
    struct secret passphrase, private;
    struct backup_key by;
    int fd;            /* the backup's file */
    bool writes;       /* the second time */
    bool in_facts;
    struct buf facts;
    char name[CONTENT_NAME_MAX + 1];
    int out, vault_fd; /* the file that is being written; DIR/vault */
    /* of the facts */
    struct recovery_begin begin;
    bool master_key;
    int64_t in_token; /* keys that are in a security module; 0: none, or it was not known */
    int64_t files, bytes;
};

static void restore_fini(struct restore *r) {
    fd_close(r->out);
    fd_close(r->vault_fd);
    fd_close(r->fd);
    buf_fini(&r->facts);
    secret_fini(&r->passphrase);
    secret_fini(&r->private);
    data_close(&r->data);
}
DEFINE_CLEANUP_FINI(restore_fini, struct restore)

/* --- by whom ------------------------------------------------------------------------------------------------------------------- */

/* What the head says that it takes. */
static int look_at_head(struct restore *r, struct backup_head *head, struct err *err) {
    uint8_t front[BACKUP_HEAD_MAX];
    size_t n;
    r->fd = open(r->options->word, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (r->fd < 0)
        return err_set(err, errno == ENOENT ? MUSTER_ENOTFOUND : MUSTER_EIO, "%s cannot be opened: %s.", r->options->word, strerror(errno));
    ssize_t got = pread(r->fd, front, sizeof front, 0);
    if (got < 0)
        return err_set(err, MUSTER_EIO, "%s cannot be read: %s.", r->options->word, strerror(errno));
    return backup_head_read(span_of(front, (size_t)got), head, &n, err);
}

static int find_key(struct restore *r, struct err *err) {
    const char *file = r->options->value[OPT_PASSPHRASE_FILE], *recipient = r->options->value[OPT_RECIPIENT_KEY], *what = "passphrase of the backup";
    struct backup_head head;
    int rc = look_at_head(r, &head, err);
    if (rc)
        return rc;
    r->by.to = recipient ? BACKUP_TO_RECIPIENT : BACKUP_TO_PASSPHRASE;
    if (recipient && file)
        return err_set(err, MUSTER_EUSAGE, "--recipient-key and --passphrase-file are two ways to decrypt; give one.");
    if (recipient) {
        CLEANUP(secret_fini) struct secret pem = SECRET_INIT;
        if (!(rc = secret_read_file(&pem, recipient, 65536, err)))
            rc = recipient_read_private(secret_span(&pem), &r->private, err);
        r->by.private = secret_span(&r->private);
        return rc;
    }
    if (head.to == BACKUP_TO_RECIPIENT)
        return err_set(err, MUSTER_EINVALID, "The backup is encrypted to a recipient's key: name its file with --recipient-key.");
    rc = file ? passphrase_read_file(file, what, BACKUP_PASSPHRASE_MIN, &r->passphrase, err) : passphrase_read(what, false, BACKUP_PASSPHRASE_MIN, &r->passphrase, err);
    r->by.passphrase = secret_span(&r->passphrase);
    return rc;
}

/* --- what comes out of it -------------------------------------------------------------------------------------------------------- */

static int begin_file(void *arg, const struct content_file *f, struct err *err) {
    struct restore *r = arg;
    const size_t vault = sizeof CONTENT_VAULT - 1;
    r->in_facts = strcmp(f->name, FACTS) == 0;
    if (r->in_facts) {
        buf_fini(&r->facts); /* of the first time */
        r->facts = BUF_INIT(f->size);
    }
    if (!r->writes || r->in_facts)
        return 0;
    bool in_vault = strncmp(f->name, CONTENT_VAULT, vault) == 0;
    bool open_to_all = strcmp(f->name, "musterd.conf") == 0 || strcmp(f->name, "server-ca.pem") == 0;
    memcpy(r->name, f->name, sizeof r->name);
    r->out = openat(in_vault ? r->vault_fd : r->data.fd, f->name + (in_vault ? vault : 0), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->out < 0 || (open_to_all && fchmod(r->out, 0644)))
        return err_set(err, MUSTER_EIO, "%s/%s cannot be made: %s.", r->data.path, f->name, strerror(errno));
    r->files++;
    r->bytes += (int64_t)f->size;
    return 0;
}

static int take_bytes(void *arg, struct span s, struct err *err) {
    struct restore *r = arg;
    if (r->in_facts) {
        buf_add(&r->facts, s);
        return buf_check(&r->facts, err);
    }
    while (r->writes && s.n) {
        ssize_t n = write(r->out, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, MUSTER_EIO, "%s/%s cannot be written: %s.", r->data.path, r->name, strerror(errno));
        s = span_sub(s, (size_t)n, s.n);
    }
    return 0;
}

static int end_file(void *arg, struct err *err) {
    struct restore *r = arg;
    if (r->writes && !r->in_facts && fsync(r->out))
        return err_set(err, MUSTER_EIO, "%s/%s cannot be made durable: %s.", r->data.path, r->name, strerror(errno));
    fd_close(TAKE_FD(r->out));
    return 0;
}

/* The whole file, from its beginning to its end. */
static int read_through(struct restore *r, struct err *err) {
    CLEANUP(backup_reader_free) struct backup_reader *reader = NULL;
    const struct content_sink sink = {begin_file, take_bytes, end_file, r};
    struct content_reader content;
    struct span piece;
    int more = lseek(r->fd, 0, SEEK_SET) ? err_set(err, MUSTER_EIO, "%s cannot be read: %s.", r->options->word, strerror(errno)) : 0;
    if (more || (more = backup_reader_new(r->fd, &r->by, &reader, err)))
        return more;
    content_reader_init(&content, &sink);
    while ((more = backup_read(reader, &piece, err)) > 0) {
        int rc = content_feed(&content, piece, err);
        if (rc)
            return rc;
    }
    return more ? more : content_done(&content, err);
}

static int read_facts(struct restore *r, struct err *err) {
    CLEANUP_JSON json_t *o = json_parse(buf_span(&r->facts), NULL);
    const char *id = json_string_value(json_object_get(o, "id")), *made = json_string_value(json_object_get(o, "made"));
    if (!id || !made || uuid_parse(span_str(id), &r->begin.backup) || clock_parse_rfc3339(span_str(made), &r->begin.made))
        return err_set(err, MUSTER_ECORRUPT, "The backup does not say when it was made.");
    r->master_key = json_is_true(json_object_get(o, "master_key"));
    r->in_token = json_integer_value(json_object_get(o, "keys_in_token"));
    return 0;
}

/* --- the directory ---------------------------------------------------------------------------------------------------------------- */

static int check_database(const struct restore *r, const char *name, struct err *err) {
    char path[PATH_MAX];
    int rc = data_path(&r->data, name, path, err);
    if (rc || !(rc = copy_check(path, err)))
        return rc;
    return err_prefix(err, "%s of the backup", name);
}

static int write_all(struct restore *r, struct err *err) {
    int rc = file_make_dir(r->data.fd, "vault", 0700, err);
    if (rc || (rc = file_make_dir(r->data.fd, "tls", 0700, err)) || (rc = file_make_dir(r->data.fd, "crl", 0755, err)))
        return rc;
    r->vault_fd = openat(r->data.fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (r->vault_fd < 0)
        return err_set(err, MUSTER_EIO, "%s/vault cannot be opened: %s.", r->data.path, strerror(errno));
    r->writes = true;
    if ((rc = read_through(r, err)))
        return rc;
    if (fsync(r->vault_fd) || fsync(r->data.fd))
        return err_set(err, MUSTER_EIO, "%s cannot be made durable: %s.", r->data.path, strerror(errno));
    return 0;
}

static int report(const struct restore *r, struct err *err) {
    if (!r->master_key)
        fputs("The vault's master key was not in the backup: put it where musterd.conf says before you start the server.\n", stderr);
    if (r->in_token > 0)
        fprintf(stderr, "%lld private keys are in a security module and not in the backup: have its token in place before you start the server, which looks for them and names in its log what is missing (token_key_missing).\n",
                (long long)r->in_token);
    if (!r->options->value[OPT_JSON]) {
        char made[CLOCK_RFC3339_LEN + 1];
        clock_rfc3339(r->begin.made, made);
        printf("%s is as it was at %s.  It starts in recovery: nothing is issued until `muster recovery finish`.\n"
               "No token of the backup opens it: a new owner's is in admin.token.  What was revoked, blacklisted, deleted or disabled since is not, until it is again.\n", r->data.path, made);
        return report_flush(err);
    }
    CLEANUP_JSON json_t *o = json_object();
    json_set_uuid(o, "id", &r->begin.backup);
    json_set_str(o, "data", r->data.path);
    json_set_time(o, "made", r->begin.made);
    json_set_int(o, "files", r->files);
    json_set_int(o, "bytes", r->bytes);
    json_set_bool(o, "master_key", r->master_key);
    json_set_int(o, "keys_in_token", r->in_token);
    json_set_bool(o, "recovery", true);
    return report_json(o, err);
}

int restore_run(const struct options *o, struct err *err) {
    CLEANUP(restore_fini) struct restore r = {.options = o, .data = DATA_NONE, .fd = -1, .out = -1, .vault_fd = -1};
    CLEANUP(buf_wipe) struct buf token = BUF_INIT(1024);
    const char *dir = o->value[OPT_DATA];
    int rc = fresh_look(dir, DATA_RESTORE_MARK, err);
    if (rc || (rc = find_key(&r, err)) || (rc = read_through(&r, err)) || (rc = read_facts(&r, err)))
        return rc;
    if ((rc = fresh_begin(&r.data, dir, DATA_RESTORE_MARK, err)) || (rc = write_all(&r, err)) || (rc = check_database(&r, "control.db", err)) ||
        (rc = check_database(&r, "registry.db", err)) || (rc = control_restored(r.data.path, &r.begin, &token, err)) ||
        (rc = data_write_line(&r.data, "admin.token", buf_str(&token), 0600, err)) || (rc = fresh_end(&r.data, DATA_RESTORE_MARK, err)))
        return rc;
    return report(&r, err);
}
