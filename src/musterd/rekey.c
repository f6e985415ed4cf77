/* rekey: see rekey.h.
 *
 * The next key is durable where it will be looked for before the vault is asked, and the old one goes when the vault has it no more: a key file
 * gets the next one beside it first (master.c's master_tidy puts it in place, or removes it, here or at the next start).  musterd.conf is changed last; in
 * the moment between, a start says which line it wants. */
#include "musterd/rekey.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/control.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/passphrase.h"
#include "json/json.h"
#include "musterd/data.h"
#include "musterd/master.h"
#include "musterd/places.h"
#include "musterd/report.h"
#include "vault/process.h"
#include "vault/records.h"

#define CONFIG_MAX (1 << 20)
#define PASSPHRASE "new passphrase of the vault"

struct rekey {
    const struct options *options;
    struct data data;
    struct settings now, then;   /* the source; musterd.conf's, and with the options */
    const char *config;          /* the file that is to say `then`; NULL: it does */
    char config_path[PATH_MAX];
    struct buf fresh;            /* its text */
    struct master master;        /* of now */
    int vault_fd;
    struct stat vault;           /* whose it is */
    bool running;
    bool beside;                 /* the next key file waits beside the present one */
    bool gone;                   /* the key file from before, which opens nothing any more */
    struct vault_rekey next;
    struct secret key;
    struct vault_status status;
};

static void rekey_fini(struct rekey *r) {
    settings_fini(&r->now);
    settings_fini(&r->then);
    buf_fini(&r->fresh);
    master_fini(&r->master);
    secret_fini(&r->key);
    fd_close(r->vault_fd);
    data_close(&r->data);
}
DEFINE_CLEANUP_FINI(rekey_fini, struct rekey)

static const enum key_master_kind KINDS[] = {
    [SETTINGS_MASTER_FILE] = KEY_MASTER_FILE, [SETTINGS_MASTER_PASSPHRASE] = KEY_MASTER_PASSPHRASE, [SETTINGS_MASTER_CREDENTIAL] = KEY_MASTER_CREDENTIAL};
static enum key_master_kind kind_of(const struct settings *s) { return KINDS[s->master_key]; }

/* --- what there is ------------------------------------------------------------------------------------------------------------- */

/* Options of a place belong to the next source alone; a path of the present one does not go over to another kind. */
static int read_settings(struct rekey *r, struct err *err) {
    struct options plain = *r->options;
    plain.value[OPT_MASTER_KEY] = plain.value[OPT_MASTER_KEY_FILE] = NULL;
    int rc = places_settings(&plain, &r->data, &r->now, err);
    if (rc || (rc = places_settings(r->options, &r->data, &r->then, err)))
        return rc;
    if (r->then.master_key != r->now.master_key && !r->options->value[OPT_MASTER_KEY_FILE])
        rc = config_set(SETTINGS_TABLE, SETTINGS_COUNT, &r->then, "--master-key", "master_key_file", "", err);
    if (!rc && r->then.master_key_file[0] && r->then.master_key_file[0] != '/')
        return err_set(err, MUSTER_EUSAGE, "--master-key-file: `%s` is not an absolute path.", r->then.master_key_file);
    return rc;
}

static int make_config(struct rekey *r, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(CONFIG_MAX);
    const char *const set[] = {"master_key", records_kind_name(kind_of(&r->then)), "master_key_file", r->then.master_key_file, NULL};
    int rc = file_read(AT_FDCWD, r->config, &text, err);
    if (rc)
        return rc;
    buf_fini(&r->fresh);
    buf_init(&r->fresh, CONFIG_MAX + 4096);
    config_rewrite(buf_span(&text), set, &r->fresh);
    return buf_check(&r->fresh, err);
}

/* The next start has to find in musterd.conf, or what `--config` names, what was said here; a path that a line of it cannot hold would lock it out. */
static int check_config(struct rekey *r, struct err *err) {
    CLEANUP(settings_fini) struct settings read = {0};
    struct err why = ERR_INIT;
    if (r->now.master_key == r->then.master_key && !strcmp(r->now.master_key_file, r->then.master_key_file))
        return 0;
    int rc = r->options->value[OPT_CONFIG] ? 0 : data_path(&r->data, DATA_CONFIG, r->config_path, err);
    r->config = r->options->value[OPT_CONFIG] ? r->options->value[OPT_CONFIG] : r->config_path;
    if (rc || (rc = make_config(r, err)))
        return rc;
    if (settings_load_text(&r->fresh, r->config, &read, &why))
        return err_set(err, MUSTER_EUSAGE, "--master-key-file: the path cannot stand in the configuration: %s", err_text(&why));
    if (read.master_key != r->then.master_key || strcmp(read.master_key_file, r->then.master_key_file) != 0)
        return err_set(err, MUSTER_EUSAGE, "--master-key-file: `%s` cannot stand in the configuration, where it would be read as `%s`.", r->then.master_key_file, read.master_key_file);
    return 0;
}

static int open_vault(struct rekey *r, struct err *err) {
    r->vault_fd = openat(r->data.fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (r->vault_fd < 0 || fstat(r->vault_fd, &r->vault))
        return err_set(err, MUSTER_EIO, "%s/vault cannot be opened: %s.", r->data.path, strerror(errno));
    if (flock(r->vault_fd, LOCK_EX | LOCK_NB)) /* two of these would each write a key file for the other's key */
        return err_set(err, MUSTER_EBUSY, "Another `musterd vault rekey` is under way.");
    return 0;
}

/* Where no server runs its lock is held until the end, so that none begins. */
static int find_out_whether_it_runs(struct rekey *r, struct err *err) {
    struct err why = ERR_INIT;
    int rc = data_lock(&r->data, &why);
    r->running = rc == MUSTER_ELOCKED;
    return rc && !r->running ? err_set(err, rc, "%s", err_text(&why)) : 0;
}

/* --- the next key --------------------------------------------------------------------------------------------------------------- */

/* For the vault's user, who may be another one. */
static int own_file(const struct rekey *r, int dir_fd, const char *path, struct err *err) {
    if (geteuid() != 0 || r->vault.st_uid == 0)
        return 0;
    return fchownat(dir_fd, path, r->vault.st_uid, r->vault.st_gid, AT_SYMLINK_NOFOLLOW) ? err_set(err, MUSTER_EIO, "%s cannot be given to the vault's user: %s.", path, strerror(errno)) : 0;
}

static int write_key(const struct rekey *r, int dir_fd, const char *path, struct err *err) {
    CLEANUP(secret_fini) struct secret text = SECRET_INIT;
    int rc = key_master_text(secret_span(&r->key), &text, err);
    if (rc || (rc = file_create(dir_fd, path, secret_span(&text), 0600, err)))
        return rc;
    return own_file(r, dir_fd, path, err);
}

/* file_create() takes a name without a slash in an open directory, or any path. */
static int make_key_file(struct rekey *r, struct err *err) {
    const char *is = r->now.master_key_file, *to = r->then.master_key_file;
    int dir_fd = *to ? AT_FDCWD : r->vault_fd;
    char path[PATH_MAX];
    r->beside = kind_of(&r->now) == KEY_MASTER_FILE && !strcmp(is, to);
    if (snprintf(path, sizeof path, "%s%s", *to ? to : KEY_MASTER_FILE_NAME, r->beside ? KEY_MASTER_NEXT : "") >= (int)sizeof path)
        return err_set(err, MUSTER_EINVALID, "The path of the key file is too long.");
    if (!r->beside && r->options->value[OPT_MASTER_KEY_FILE] && faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        const struct key_master_options there = {.kind = KEY_MASTER_FILE, .path = path};
        return key_master_load(r->vault_fd, &there, NULL, false, &r->key, err);
    }
    if (secret_random(&r->key, KEY_MASTER_LEN))
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = write_key(r, dir_fd, path, err);
    return rc == MUSTER_EEXISTS ? err_set(err, rc, "%s is there already, and is not the vault's key file at present: move it away, or name it with --master-key-file to use it.", path) : rc;
}

static int make_passphrase_key(struct rekey *r, struct err *err) {
    CLEANUP(secret_fini) struct secret passphrase = SECRET_INIT;
    const char *file = r->options->value[OPT_PASSPHRASE_FILE];
    key_master_costs_new(&r->next.costs);
    if (r->next.kind == KEY_MASTER_CREDENTIAL && (file || r->options->value[OPT_MASTER_KEY_FILE])) { /* as a start reads it: all of it, not a line */
        const struct key_master_options there = {.kind = KEY_MASTER_CREDENTIAL, .path = file ? file : r->then.master_key_file};
        return key_master_load(r->vault_fd, &there, &r->next.costs, false, &r->key, err);
    }
    int rc = file ? passphrase_read_file(file, PASSPHRASE, KEY_MASTER_PASSPHRASE_MIN, &passphrase, err) : passphrase_read(PASSPHRASE, true, KEY_MASTER_PASSPHRASE_MIN, &passphrase, err);
    return rc ? rc : key_master_derive(secret_span(&passphrase), &r->next.costs, KEY_MASTER_PASSPHRASE_MIN, "vault", &r->key, err);
}

static int make_key(struct rekey *r, struct err *err) {
    r->next.kind = kind_of(&r->then);
    key_master_costs_new(&r->next.costs);
    int rc = r->next.kind == KEY_MASTER_FILE ? make_key_file(r, err) : make_passphrase_key(r, err);
    r->next.key = secret_span(&r->key);
    return rc;
}

/* --- the change ------------------------------------------------------------------------------------------------------------------- */

/* As the vault's user, to whom its files belong. */
static int rekey_offline(struct rekey *r, struct err *err) {
    bool other = geteuid() == 0 && r->vault.st_uid != 0;
    if (other && (setegid(r->vault.st_gid) || seteuid(r->vault.st_uid)))
        return err_set(err, MUSTER_EIO, "The process cannot become the vault's user: %s.", strerror(errno));
    int rc = vault_rekey_offline(r->vault_fd, &r->master.options, &r->next, &r->status, err);
    if (other && (seteuid(0) || setegid(0)))
        return err_set(err, MUSTER_EIO, "The process cannot become root again: %s.", strerror(errno));
    return rc;
}

static int rekey_running(struct rekey *r, struct err *err) {
    char path[PATH_MAX];
    int rc = data_vault_socket(&r->data, path, err);
    return rc ? rc : vault_rekey_request(path, &r->next, &r->status, err);
}

/* A command that was ended has left its request behind: waiting, where the vault did not run or stood still, or in work, and its key file is the
 * only copy of the key that the vault is about to have.  The vault serves in the order of arrival, so when it answers nothing older is left; the
 * lock keeps younger ones away.  No key goes before that. */
static int tidy(const struct rekey *r, struct err *err) {
    struct vault_status ignored;
    struct err why = ERR_INIT;
    char path[PATH_MAX];
    int rc = r->running ? data_vault_socket(&r->data, path, err) : 0;
    if (!rc && r->running && (rc = vault_status_request(path, &ignored, &why)))
        return err_set(err, rc, "%s", err_text(&why));
    return rc ? rc : master_tidy(&r->master, r->vault_fd, err);
}

/* What the head says counts: an answer may have been lost. */
static int change(struct rekey *r, struct err *err) {
    struct err why = ERR_INIT;
    int rc = r->running ? rekey_running(r, &why) : rekey_offline(r, &why);
    if (rc && vault_is_opened_by(r->vault_fd, r->next.key, err) == 1)
        rc = vault_status_offline(r->vault_fd, &r->status, &why);
    if (rc && rc != MUSTER_EVAULT && r->beside) { /* it was answered, so nothing is under way */
        struct err ignored = ERR_INIT;
        (void)!tidy(r, &ignored);
    }
    return rc ? err_set(err, rc, "%s", err_text(&why)) : 0;
}

/* Whoever the file belongs to keeps it; a link to it stays one.  The owner is given what was written here, and nothing that somebody puts in its place meanwhile. */
static int change_config(struct rekey *r, struct err *err) {
    char real[PATH_MAX];
    struct stat st;
    int rc = r->config ? make_config(r, err) : 0; /* again: somebody may have edited it */
    if (rc || !r->config)
        return rc;
    if (!realpath(r->config, real) || lstat(real, &st))
        return err_set(err, MUSTER_EIO, "%s cannot be looked at: %s.", r->config, strerror(errno));
    if ((rc = file_replace(AT_FDCWD, real, buf_span(&r->fresh), st.st_mode & 07777, err)))
        return rc;
    if (geteuid() == 0 && fchownat(AT_FDCWD, real, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW))
        return err_set(err, MUSTER_EIO, "%s cannot be given back to its owner: %s.", r->config, strerror(errno));
    return 0;
}

static int end_change(struct rekey *r, struct err *err) {
    int rc = change_config(r, err);
    if (rc)
        return err_prefix(err, "The vault has its new master key; but musterd.conf could not be changed, and has to say master_key = %s and master_key_file = %s before the next start",
                          records_kind_name(r->next.kind), r->then.master_key_file);
    if (r->beside && (rc = master_tidy(&r->master, r->vault_fd, err)))
        return err_prefix(err, "The vault has its new master key, in a file with " KEY_MASTER_NEXT " behind its name, which the next start puts in place");
    if (!r->beside && (rc = master_forget(&r->master, r->vault_fd, &r->gone, err)))
        return err_prefix(err, "The vault has its new master key; but the key file from before, which opens nothing any more, could not be removed");
    return control_rekey_record(r->data.path, records_kind_name(kind_of(&r->now)), records_kind_name(r->next.kind), true, r->status.version, err);
}

/* --- what is said ------------------------------------------------------------------------------------------------------------------- */

static const char *const KEYS[VAULT_KEYS_N] = {[VAULT_KEYS_SERVER_CA] = "server_ca", [VAULT_KEYS_AUDIT] = "audit", [VAULT_KEYS_FLEET_ROOT] = "fleet_root",
    [VAULT_KEYS_FORMER_ROOT] = "former_fleet_root", [VAULT_KEYS_ISSUING_CA] = "issuing_ca", [VAULT_KEYS_FORMER_ISSUING] = "former_issuing_ca",
    [VAULT_KEYS_PROVISIONING_CA] = "provisioning_ca", [VAULT_KEYS_FORMER_SERVER] = "former_server_ca", [VAULT_KEYS_IN_TOKEN] = "in_token"};
static const char *const TOKENS[] = {[VAULT_TOKEN_NONE] = "none", [VAULT_TOKEN_ANSWERS] = "answers", [VAULT_TOKEN_SILENT] = "does not answer"};

static const char *token_word(const struct vault_status *s) { return s->token < sizeof TOKENS / sizeof *TOKENS ? TOKENS[s->token] : "unknown"; }

/* Where new keys can be made. */
static const char *backends(const struct vault_status *s) { return s->token == VAULT_TOKEN_NONE ? "sealed" : "sealed, pkcs11"; }

static json_t *status_json(const struct vault_status *s, bool answers) {
    json_t *o = json_object(), *keys = answers ? json_object() : json_null();
    char id[2 * sizeof s->id + 1];
    hex_encode(span_of(s->id, sizeof s->id), id);
    json_set_str(o, "id", id);
    json_set_str(o, "source", records_kind_name(s->kind));
    json_set_time(o, "rekeyed", s->rekeyed);
    json_set_int(o, "rekeys", s->rekeys);
    json_set_bool(o, "answers", answers);
    json_set_str(o, "backend", backends(s));
    json_set_str(o, "token", answers ? token_word(s) : NULL);
    for (size_t i = 0; answers && i < VAULT_KEYS_N; i++)
        json_set_int(keys, KEYS[i], s->keys[i]);
    json_object_set_new(o, "version", answers ? json_integer((json_int_t)s->version) : json_null());
    json_object_set_new(o, "keys", keys);
    return o;
}

static int report_status(const struct vault_status *s, bool answers, bool running, struct err *err) {
    char rekeyed[CLOCK_RFC3339_LEN + 1] = "never";
    if (s->rekeyed)
        clock_rfc3339(s->rekeyed, rekeyed);
    printf("master key from  %s\nchanged          %s\nbackend          %s\nthe vault        %s\n", records_kind_name(s->kind), rekeyed, backends(s),
           answers ? "answers" : running ? "does not answer" : "does not run");
    if (answers)
        printf("the token        %s\n", token_word(s));
    for (size_t i = 0; answers && i < VAULT_KEYS_N; i++)
        printf("keys             %-18s %u\n", KEYS[i], (unsigned)s->keys[i]);
    return report_flush(err);
}

static int report(const struct rekey *r, struct err *err) {
    if (!r->options->value[OPT_JSON]) {
        printf("The vault is under a new master key from %s. Make a new backup; one that was made without the master key needs the old one still.\n",
               records_kind_name(r->next.kind));
        if (r->gone)
            printf("%s/vault/" KEY_MASTER_FILE_NAME " held the old one, which opens the vault no more: it was wiped and removed.\n", r->data.path);
        return report_flush(err);
    }
    CLEANUP_JSON json_t *o = json_object();
    char id[2 * sizeof r->status.id + 1];
    hex_encode(span_of(r->status.id, sizeof r->status.id), id);
    json_set_str(o, "id", id);
    json_set_str(o, "from", records_kind_name(kind_of(&r->now)));
    json_set_str(o, "source", records_kind_name(r->next.kind));
    json_set_time(o, "rekeyed", r->status.rekeyed);
    json_set_int(o, "rekeys", r->status.rekeys);
    json_set_bool(o, "key_file_removed", r->gone);
    return report_json(o, err);
}

int rekey_run(const struct options *o, struct err *err) {
    CLEANUP(rekey_fini) struct rekey r = {.options = o, .data = DATA_NONE, .vault_fd = -1};
    int rc = data_open_ready(&r.data, o->value[OPT_DATA], err);
    if (rc || (rc = read_settings(&r, err)) || (rc = check_config(&r, err)) || (rc = open_vault(&r, err)) || (rc = find_out_whether_it_runs(&r, err)))
        return rc;
    /* A vault that runs has its key; of one that does not the present passphrase is asked for first. */
    if (r.running && kind_of(&r.now) != KEY_MASTER_FILE)
        r.master.options.kind = kind_of(&r.now);
    else if ((rc = master_prepare(&r.master, &r.now, false, err)))
        return rc;
    if ((rc = tidy(&r, err)) || (rc = make_key(&r, err)) ||
        (rc = control_rekey_record(r.data.path, records_kind_name(kind_of(&r.now)), records_kind_name(r.next.kind), false, 0, err)) || (rc = change(&r, err)) ||
        (rc = end_change(&r, err)))
        return rc;
    return report(&r, err);
}

int rekey_status_run(const struct options *o, struct err *err) {
    CLEANUP(rekey_fini) struct rekey r = {.options = o, .data = DATA_NONE, .vault_fd = -1};
    struct err why = ERR_INIT;
    char path[PATH_MAX];
    int rc = data_open_ready(&r.data, o->value[OPT_DATA], err);
    if (rc || (rc = data_vault_socket(&r.data, path, err)))
        return rc;
    rc = vault_status_request(path, &r.status, &why); /* the lock is left alone: a server that starts just now would not get it */
    bool answers = rc == 0;
    r.running = rc != MUSTER_EUNAVAILABLE;
    if (rc == MUSTER_EROLE)
        return err_set(err, rc, "%s", err_text(&why));
    if (r.running && !answers)
        fprintf(stderr, "%s\n", err_text(&why));
    if (!answers) {
        r.vault_fd = openat(r.data.fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (r.vault_fd < 0)
            return err_set(err, MUSTER_EIO, "%s/vault cannot be opened: %s.", r.data.path, strerror(errno));
        if ((rc = vault_status_offline(r.vault_fd, &r.status, err)))
            return rc;
    }
    if (!o->value[OPT_JSON])
        return report_status(&r.status, answers, r.running, err);
    CLEANUP_JSON json_t *doc = status_json(&r.status, answers);
    return report_json(doc, err);
}
