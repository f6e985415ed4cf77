/* work: see work.h.  Control, vault and files, and the order of it all. */
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "base/file.h"
#include "record.h"
#include "registry/token.h"
#include "work_part.h"

const struct key_master_options WORK_MASTER = {.kind = KEY_MASTER_FILE};

/* --- control, vault and files ---------------------------------------------------------------------------------------------------------- */

static void make_token(struct job *j, int64_t number) {
    char text[TOKEN_TEXT_LEN + 1];
    struct token_create c = {.actor = WORK_ACTOR, .role = ROLE_AUDITOR, .expires = clock_now() + CLOCK_HOUR};
    snprintf(c.name, sizeof c.name, "token-%lld", (long long)number);
    token_make(text, &c.hash);
    MUST(store_write_now(j->control, token_create_run, &c, &e));
    json_decref(c.out);
    work_note(j->w, work_note_of(NOTE_TOKEN, PLACE_CONTROL, "", number));
}

/* As control anchors the accounts' heads: the registry's entry is durable before its head is signed. */
static void sign_head(struct job *j) {
    struct audit_signed s = {.chain = WORK_ACCOUNT, .head = work_head(j), .at = clock_now()};
    const struct audit_anchor a = {&s, 1};
    MUST(store_write_now(j->control, audit_anchor_run, (void *)&a, &e));
    struct note n = work_note_of(NOTE_SIGNED, PLACE_CONTROL, "", 0);
    n.head = s.head;
    work_note(j->w, n);
}

static int version_run(struct store_tx *tx, void *arg, struct err *err) { return meta_set(tx, "vault", *(int64_t *)arg, err); }

static void vault_did(struct job *j, const char *name, bool dropped) {
    uint64_t version = records_version(j->vault);
    snprintf(j->w->versions[version].name, sizeof j->w->versions[version].name, "%s", name);
    j->w->versions[version].dropped = dropped;
}

/* As control's greeting does: it writes down which version of the vault it has seen, so that an older one would be found out. */
static void vault_said(struct job *j, const char *name) {
    int64_t version = (int64_t)records_version(j->vault);
    work_note(j->w, work_note_of(NOTE_VAULT, PLACE_VAULT, name, version));
    MUST(store_write_now(j->control, version_run, &version, &e));
    work_note(j->w, work_note_of(NOTE_VERSION, PLACE_CONTROL, "", version));
}

static void vault_put(struct job *j, const char *name) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    char body[64];
    snprintf(body, sizeof body, "%s at %llu", name, (unsigned long long)records_version(j->vault) + 1);
    record_files_in(DISK_VAULT);
    MUST(records_new_key(&key) || records_store(j->vault, name, secret_span(&key), span_str(body), &e));
    record_files_in(DISK_DATA);
    vault_did(j, name, false);
}

static void vault_store(struct job *j, const char *name) {
    vault_put(j, name);
    vault_said(j, name);
}

static void vault_drop(struct job *j, const char *name) {
    record_files_in(DISK_VAULT);
    MUST(records_drop(j->vault, name, &e));
    record_files_in(DISK_DATA);
    vault_did(j, name, true);
    vault_said(j, name);
}

static void put_file(struct job *j, const char *name, int64_t number, bool new) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(8192);
    for (int i = 0; i < 40; i++) /* several sectors */
        buf_addf(&text, FILE_TEXT, name, (long long)number);
    MUST(new ? file_create(j->dir_fd, name, buf_span(&text), 0600, &e) : file_replace(j->dir_fd, name, buf_span(&text), 0600, &e));
    work_note(j->w, work_note_of(NOTE_FILE, PLACE_FILES, name, number));
}

static void drop_file(struct job *j, const char *name) {
    work_note(j->w, work_note_of(NOTE_GOING, PLACE_FILES, name, 0));
    MUST(file_remove(j->dir_fd, name, &e));
    work_note(j->w, work_note_of(NOTE_GONE, PLACE_FILES, name, 0));
}

/* --- the whole -------------------------------------------------------------------------------------------------------------------- */

static void open_stores(struct job *j, const struct work_options *o) {
    char path[2][128];
    snprintf(path[0], sizeof path[0], "%s/registry.db", j->w->root);
    snprintf(path[1], sizeof path[1], "%s/control.db", j->w->root);
    const struct registry_open r = {.path = path[0], .vfs = RECORD_VFS, .readers = 1, .queue_max = 64, .migrate = true, .reruns = true, .unsafe_no_sync = o->no_sync};
    const struct registry_open c = {.path = path[1], .vfs = RECORD_VFS, .readers = 1, .queue_max = 64, .migrate = true, .unsafe_no_sync = o->no_sync};
    MUST(registry_open(&r, &j->registry, &e));
    work_note(j->w, work_note_of(NOTE_MADE, PLACE_REGISTRY, "", 0));
    MUST(control_open(&c, &j->control, &e));
    work_note(j->w, work_note_of(NOTE_MADE, PLACE_CONTROL, "", 0));
}

static void close_stores(struct job *j) {
    store_close(TAKE(j->registry));
    store_close(TAKE(j->control));
}

/* As another process of the server may do it at any time. */
static void checkpoint(struct job *j, const char *name) {
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/%s", j->w->root, name);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, RECORD_VFS) || sqlite3_exec(db, "PRAGMA synchronous=FULL", NULL, NULL, NULL) ||
        sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL))
        abort();
    int keep = 1;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    sqlite3_close(db);
}

static void open_vault(struct job *j, bool make) {
    CLEANUP(fd_close) int fd = openat(j->dir_fd, "vault", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    record_files_in(DISK_VAULT);
    MUST(make ? records_create(fd, &WORK_MASTER, &j->vault, &e) : records_open(fd, &WORK_MASTER, &j->vault, &e));
    record_files_in(DISK_DATA);
}

/* Odd rounds begin with a small commit, on a page that a later one changes again, even ones with a large one: so that the beginning of the
 * WAL before, where it became valid again, would show an old state.  Each ends with a checkpoint, after which the WAL begins anew. */
static void one_round(struct job *j, const struct work_options *o, int round, struct enrolment *kept) {
    if (round % 2) {
        work_seen(j, kept);
        work_use(j, kept);
        work_change(j, kept->id, round % 4 == 1 ? DEVICE_QUARANTINE : DEVICE_REVOKE, round % 4 == 1 ? DEVICE_QUARANTINED : DEVICE_REVOKED);
        work_head(j);
    }
    made_free(&kept->device);
    for (int i = 0; i < o->devices; i++) {
        struct enrolment n = work_prepare(j, 0, NULL);
        work_enrol(&n);
        if (i % 3 == 0)
            work_use(j, &n);
        work_head(j);
        made_free(&n.device);
    }
    struct enrolment lost = work_prepare(j, 0, NULL);
    work_enrol(&lost);
    clock_set_offset(round + 1); /* half a second has to pass before the answer counts as lost */
    struct enrolment again = work_prepare(j, 0, lost.id), spends = work_prepare(j, 1, NULL);
    work_enrol(&again);
    work_use(j, &again);
    work_enrol(&spends); /* the key's budget ends in one of the rounds */
    work_enrol_together(j, 0, 2);
    *kept = work_prepare(j, 0, NULL);
    work_enrol(kept);
    sign_head(j);
    make_token(j, round + 1);
    vault_store(j, round % 2 ? "account-a" : "core");
    put_file(j, "gateway.url", round + 1, false);
    checkpoint(j, "registry.db");
    if (round % 2)
        checkpoint(j, "control.db");
    made_free(&lost.device);
    made_free(&again.device);
    made_free(&spends.device);
}

/* The vault's process is killed between the rename of its index and the sync of the directory: nobody was answered, but the next process
 * finds the new index, and reports it. */
static void restart(struct job *j, const struct work_options *o) {
    record_killed_before_sync("index");
    vault_put(j, "account-c");
    record_killed_before_sync(NULL);
    records_free(TAKE(j->vault));
    open_vault(j, false);
    vault_said(j, "");
    close_stores(j);
    open_stores(j, o);
}

static void do_all(struct job *j, const struct work_options *o) {
    struct enrolment kept = {0};
    open_vault(j, true);
    open_stores(j, o);
    vault_store(j, "core");
    work_account(j);
    work_key(j, "any", 0);
    work_key(j, "few", o->rounds - 1);
    put_file(j, "once", 1, true);
    for (int round = 0; round < o->rounds; round++) {
        one_round(j, o, round, &kept);
        if (round == 0)
            vault_store(j, "account-b");
        if (round == 1) {
            vault_drop(j, "account-b");
            drop_file(j, "once");
        }
        if (round == 2)
            restart(j, o);
    }
    for (int i = 0; o->automatic && i < 30; i++) /* past 1000 pages */
        work_enrol_together(j, 0, 2);
    if (!j->w->n_refused) /* the key with a budget is exhausted */
        abort();
    close_stores(j);
    records_free(TAKE(j->vault));
    made_free(&kept.device);
}

struct work *work_new(const struct work_options *o) {
    struct work *w = calloc(1, sizeof *w);
    struct job j = {.w = w};
    struct stat st;
    bool memory = stat("/dev/shm", &st) == 0 && S_ISDIR(st.st_mode) && access("/dev/shm", W_OK) == 0;
    snprintf(w->root, sizeof w->root, "%s/muster-cut-XXXXXX", memory ? "/dev/shm" : "/tmp");
    if (!mkdtemp(w->root))
        abort();
    pthread_mutex_init(&w->lock, NULL);
    disk_log_init(&w->log);
    disk_empty(w->root);
    j.dir_fd = open(w->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    record_begin(&w->log, w->root);
    do_all(&j, o);
    record_end();
    clock_set_offset(0);
    close(j.dir_fd);
    made_free(&j.root);
    made_free(&j.issuing);
    made_free(&j.provisioning);
    for (size_t i = 0; i < w->n_keys; i++)
        made_free(&j.keys[i]);
    return w;
}

void work_free(struct work *w) {
    char vault[96];
    disk_empty(w->root);
    snprintf(vault, sizeof vault, "%s/vault", w->root);
    rmdir(vault);
    rmdir(w->root);
    disk_log_fini(&w->log);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
