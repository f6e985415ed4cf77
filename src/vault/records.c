/* vault/records: see records.h.  The head is in records_head.c, a change of the master key in records_rekey.c. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "base/cursor.h"
#include "base/file.h"
#include "base/log.h"
#include "vault/records_part.h"
#include "vault/wire.h"

#define RECORD_MAGIC "MUSTER record 1\n"
#define WRAPPED_KEY_LEN (SEAL_KEY_LEN + SEAL_OVERHEAD)
#define INDEX_MAX (RECORDS_MAX * (2 + RECORD_NAME_MAX + 8 + PKI_HASH_LEN) + 64)
#define RECORD_FILE_MAX (RECORD_BODY_MAX + 512)

/* --- boxes ------------------------------------------------------------------------------------------------------------------ */

static void bound_to(const struct records *r, const char *purpose, const char *name, uint64_t version, struct buf *out) {
    buf_adds(out, "muster vault ");
    buf_add(out, span_of(r->head.id, sizeof r->head.id));
    wire_put_bytes(out, span_str(purpose));
    wire_put_bytes(out, span_str(name));
    buf_add_u64(out, version);
}

static int close_box(const struct records *r, struct span key, const char *purpose, const char *name, uint64_t version, struct span content, struct buf *out) {
    CLEANUP(buf_fini) struct buf bound = BUF_INIT(512);
    bound_to(r, purpose, name, version, &bound);
    int rc = buf_check(&bound, NULL);
    return rc ? rc : seal_close(key, buf_span(&bound), content, out);
}

static int open_box(const struct records *r, struct span key, const char *purpose, const char *name, uint64_t version, struct span box, struct secret *out) {
    CLEANUP(buf_fini) struct buf bound = BUF_INIT(512);
    bound_to(r, purpose, name, version, &bound);
    int rc = buf_check(&bound, NULL);
    return rc ? rc : seal_open(key, buf_span(&bound), box, out);
}

/* --- the index -------------------------------------------------------------------------------------------------------------- */

static size_t entry_place(const struct records *r, const char *name, bool *found) {
    size_t low = 0, high = r->n;
    *found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(r->entries[mid].name, name);
        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct entry *entry_find(const struct records *r, const char *name) {
    bool found;
    size_t at = entry_place(r, name, &found);
    return found ? &r->entries[at] : NULL;
}

int records_write_index(struct records *r, const char *file, struct span master, uint64_t version, const struct entry *entries, size_t n, struct err *err) {
    CLEANUP(buf_fini) struct buf plain = BUF_INIT(INDEX_MAX);
    CLEANUP(buf_fini) struct buf box = BUF_INIT(INDEX_MAX + SEAL_OVERHEAD);
    buf_add_u64(&plain, version);
    buf_add_u32(&plain, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        wire_put_bytes(&plain, span_str(entries[i].name));
        buf_add_u64(&plain, entries[i].version);
        buf_add(&plain, hash_span(&entries[i].hash));
    }
    int rc = buf_check(&plain, NULL);
    if (rc || (rc = close_box(r, master, "index", "", 0, buf_span(&plain), &box)))
        return err_set(err, rc, NULL);
    return file_replace(r->dir_fd, file, buf_span(&box), 0600, err);
}

static int write_index(struct records *r, uint64_t version, const struct entry *entries, size_t n, struct err *err) {
    int rc = records_write_index(r, RECORDS_INDEX, secret_span(&r->master), version, entries, n, err);
    r->doubtful = rc != 0;
    return rc;
}

static bool get_entry(struct cursor *c, struct entry *e, const struct entry *previous) {
    struct span name = wire_get_bytes(c);
    e->version = cursor_u64(c);
    struct span hash = cursor_bytes(c, PKI_HASH_LEN);
    if (c->failed || name.n == 0 || name.n > RECORD_NAME_MAX)
        return false;
    memcpy(e->name, name.p, name.n);
    e->name[name.n] = '\0';
    memcpy(e->hash.b, hash.p, hash.n);
    return !previous || strcmp(previous->name, e->name) < 0;
}

static int open_index(struct records *r, const char *name, struct secret *plain, struct err *err) {
    CLEANUP(buf_fini) struct buf file = BUF_INIT(INDEX_MAX + SEAL_OVERHEAD);
    int rc = file_read(r->dir_fd, name, &file, err);
    if (rc)
        return rc == MUSTER_ENOTFOUND ? err_set(err, rc, "The vault's index is missing: the vault was never finished, or is not whole.") : rc;
    rc = open_box(r, secret_span(&r->master), "index", "", 0, buf_span(&file), plain);
    return rc ? err_set(err, rc, "The vault's index was changed, or belongs to another vault.") : 0;
}

/* Where a change of the master key was cut off between its head and its index, the index that belongs to the head is the next one. */
static int read_index(struct records *r, struct err *err) {
    CLEANUP(secret_fini) struct secret plain = SECRET_INIT;
    struct err ignored = ERR_INIT;
    int rc = open_index(r, RECORDS_INDEX, &plain, err);
    if (rc == MUSTER_ECORRUPT && r->head.rekeys && open_index(r, RECORDS_INDEX_NEXT, &plain, &ignored) == 0) {
        log_event(LOG_WARN, "vault_rekey_finished", "meaning", "a change of the master key was cut off behind its decisive step", NULL);
        rc = 0;
    }
    if (rc)
        return rc;
    struct cursor c = cursor_of(secret_span(&plain));
    uint64_t version = cursor_u64(&c);
    uint32_t n = cursor_u32(&c);
    struct entry *entries = n <= RECORDS_MAX ? calloc((size_t)n + 1, sizeof *entries) : NULL;
    if (!entries)
        return err_set(err, n <= RECORDS_MAX ? MUSTER_ENOMEM : MUSTER_ECORRUPT, NULL);
    for (uint32_t i = 0; i < n; i++)
        if (!get_entry(&c, &entries[i], i ? &entries[i - 1] : NULL))
            c.failed = true;
    if (!cursor_done(&c)) {
        free(entries);
        return err_set(err, MUSTER_ECORRUPT, "The vault's index does not have the shape that it was written with.");
    }
    free(r->entries);
    r->entries = entries;
    r->n = n;
    r->version = version;
    return 0;
}

/* --- opening ------------------------------------------------------------------------------------------------------------------ */

int records_file_name(const char *name, uint64_t version, char out[RECORDS_FILE_NAME_MAX]) {
    int n = snprintf(out, RECORDS_FILE_NAME_MAX, "%s.%llu", name, (unsigned long long)version);
    return n > 0 && n < RECORDS_FILE_NAME_MAX ? 0 : MUSTER_EINTERNAL;
}

/* Of the files in the directory: those that this module writes and the index does not name. */
static bool is_leftover(const struct records *r, const char *file) {
    if (strstr(file, ".tmp-") || strcmp(file, RECORDS_INDEX_NEXT) == 0)
        return true;
    static const char *const beside[] = {"count-", "crls-"}; /* an account */
    char account[RECORD_NAME_MAX + 1];
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        if (strncmp(file, beside[i], strlen(beside[i])) == 0)
            return snprintf(account, sizeof account, "account-%s", file + strlen(beside[i])) >= (int)sizeof account || !records_has(r, account);
    const char *dot = strrchr(file, '.');
    uint64_t version;
    if (!dot || dot == file || (size_t)(dot - file) > RECORD_NAME_MAX || !span_to_u64(span_str(dot + 1), &version))
        return false;
    char name[RECORD_NAME_MAX + 1];
    memcpy(name, file, (size_t)(dot - file));
    name[dot - file] = '\0';
    const struct entry *e = entry_find(r, name);
    return !e || e->version != version;
}

static int remove_leftovers(struct records *r, struct err *err) {
    int fd = openat(r->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        int reason = errno;
        fd_close(fd);
        return err_set(err, MUSTER_EIO, "The vault's directory cannot be listed: %s.", strerror(reason));
    }
    int rc = 0;
    struct dirent *e;
    while (!rc && (errno = 0, e = readdir(d)))
        if (is_leftover(r, e->d_name)) {
            log_event(LOG_INFO, "vault_leftover_removed", "file", e->d_name, NULL);
            rc = file_remove(r->dir_fd, e->d_name, err);
        }
    if (!rc && errno)
        rc = err_set(err, MUSTER_EIO, "The vault's directory cannot be read: %s.", strerror(errno));
    closedir(d);
    return rc;
}

/* Accounts without an index: not a making that was cut off, which never comes so far, but a loss that must not be made worse. */
static int check_no_accounts(int dir_fd, struct err *err) {
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        fd_close(fd);
        return err_set(err, MUSTER_EIO, "The vault's directory cannot be listed.");
    }
    bool accounts = false;
    for (struct dirent *e; (e = readdir(d));)
        accounts = accounts || strncmp(e->d_name, "account-", 8) == 0;
    closedir(d);
    return accounts ? err_set(err, MUSTER_ECORRUPT, "The directory holds accounts of a vault whose index is missing; restore it from a backup.") : 0;
}

static int records_new(int dir_fd, struct records **out, struct err *err) {
    struct records *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, MUSTER_ENOMEM, NULL);
    r->dir_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dir_fd < 0) {
        free(r);
        return err_set(err, MUSTER_EIO, "The vault's directory cannot be opened: %s.", strerror(errno));
    }
    *out = r;
    return 0;
}

void records_free(struct records *r) {
    if (!r)
        return;
    secret_fini(&r->master);
    secret_fini(&r->next_master);
    free(r->entries);
    fd_close(r->dir_fd);
    free(r);
}

int records_create(int dir_fd, const struct key_master_options *master, struct records **out, struct err *err) {
    CLEANUP(records_free) struct records *r = NULL;
    int rc = records_new(dir_fd, &r, err);
    if (rc)
        return rc;
    if (faccessat(dir_fd, RECORDS_INDEX, F_OK, 0) == 0)
        return err_set(err, MUSTER_EEXISTS, "There is a vault already.");
    if ((rc = check_no_accounts(dir_fd, err)))
        return rc;
    r->head.kind = master->kind;
    key_master_costs_new(&r->head.costs);
    secret_random_bytes(r->head.id, sizeof r->head.id);
    if ((rc = key_master_load(r->dir_fd, master, &r->head.costs, true, &r->master, err)) || (rc = records_head_write(r, &r->head, secret_span(&r->master), err)))
        return rc;
    *out = TAKE(r);
    return 0;
}

int records_open(int dir_fd, const struct key_master_options *master, struct records **out, struct err *err) {
    CLEANUP(records_free) struct records *r = NULL;
    int rc = records_new(dir_fd, &r, err);
    if (rc || (rc = records_head_open(r, master, err)) || (rc = read_index(r, err)))
        return rc;
    /* The version that is now reported must be one that no power cut takes back, but the process before may have been killed
     * between its rename and the sync of the directory: so the index is written again; and the head before it, which may be as young: an
     * index must not outlive the head whose key opens it. */
    if (r->head.rekeys && (rc = records_head_write(r, &r->head, secret_span(&r->master), err)))
        return rc;
    if ((rc = write_index(r, r->version, r->entries, r->n, err)) || (rc = remove_leftovers(r, err)))
        return rc;
    *out = TAKE(r);
    return 0;
}

/* --- records ------------------------------------------------------------------------------------------------------------------- */

uint64_t records_version(const struct records *r) { return r->version; }
size_t records_count(const struct records *r) { return r->n; }
bool records_has(const struct records *r, const char *name) { return entry_find(r, name) != NULL; }
const char *records_name(const struct records *r, size_t i) { return i < r->n ? r->entries[i].name : NULL; }
const struct records_head *records_head(const struct records *r) { return &r->head; }
struct span records_master(const struct records *r) { return secret_span(&r->master); }

int records_new_key(struct secret *data_key) { return secret_random(data_key, SEAL_KEY_LEN); }

int records_load(struct records *r, const char *name, struct secret *data_key, struct secret *body, struct err *err) {
    const struct entry *e = entry_find(r, name);
    if (!e)
        return err_set(err, MUSTER_ENOTFOUND, NULL);
    char file_at[RECORDS_FILE_NAME_MAX];
    CLEANUP(buf_fini) struct buf file = BUF_INIT(RECORD_FILE_MAX);
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    struct err why = ERR_INIT;
    int rc = records_file_name(name, e->version, file_at);
    if (rc || (rc = file_read(r->dir_fd, file_at, &file, &why)))
        return err_set(err, rc == MUSTER_ENOTFOUND ? MUSTER_ECORRUPT : rc, "The vault's record %s cannot be read: %s", name, err_text(&why));
    struct hash hash;
    hash_of(buf_span(&file), &hash);
    struct cursor c = cursor_of(buf_span(&file));
    struct span magic = cursor_bytes(&c, sizeof RECORD_MAGIC - 1);
    struct span wrapped = cursor_bytes(&c, WRAPPED_KEY_LEN);
    if (c.failed || !span_eq_str(magic, RECORD_MAGIC) || !hash_eq(&hash, &e->hash) ||
        open_box(r, secret_span(&r->master), "data key", name, e->version, wrapped, &key) ||
        open_box(r, secret_span(&key), "record", name, e->version, c.rest, body))
        return err_set(err, MUSTER_ECORRUPT, "The vault's record %s was changed, or put back from another copy.", name);
    *data_key = key;
    key = SECRET_INIT;
    return 0;
}

int records_settle(struct records *r, struct err *err) {
    if (!r->doubtful)
        return 0;
    int rc = read_index(r, err);
    return rc ? rc : write_index(r, r->version, r->entries, r->n, err);
}

int records_write(struct records *r, struct span master, const char *name, uint64_t version, struct span data_key, struct span body, struct hash *hash, struct err *err) {
    char file_at[RECORDS_FILE_NAME_MAX];
    CLEANUP(buf_fini) struct buf file = BUF_INIT(RECORD_FILE_MAX);
    buf_adds(&file, RECORD_MAGIC);
    int rc = records_file_name(name, version, file_at);
    if (rc || (rc = close_box(r, master, "data key", name, version, data_key, &file)) ||
        (rc = close_box(r, data_key, "record", name, version, body, &file)))
        return err_set(err, rc, NULL);
    hash_of(buf_span(&file), hash);
    return file_replace(r->dir_fd, file_at, buf_span(&file), 0600, err);
}

void records_remove_file(struct records *r, const char *name, uint64_t version) {
    char file_at[RECORDS_FILE_NAME_MAX];
    struct err err = ERR_INIT;
    if (records_file_name(name, version, file_at) == 0 && file_remove(r->dir_fd, file_at, &err))
        log_err(LOG_WARN, "vault_old_record_kept", &err, "record", name, NULL);
}

/* The files of a record that has a successor, or is gone, which is durable. */
static void remove_files(struct records *r, const struct entry *e) {
    const uint64_t versions[] = {e->version, e->next.version, e->old};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        if (versions[i])
            records_remove_file(r, e->name, versions[i]);
}

int records_store(struct records *r, const char *name, struct span data_key, struct span body, struct err *err) {
    if (span_empty(span_str(name)) || strlen(name) > RECORD_NAME_MAX || strchr(name, '/') || strchr(name, '.') || body.n > RECORD_BODY_MAX)
        return err_set(err, MUSTER_EINTERNAL, "A record of %zu bytes cannot be kept under this name.", body.n);
    int rc = records_settle(r, err);
    if (rc)
        return rc;
    bool found;
    size_t at = entry_place(r, name, &found);
    if (!found && r->n >= RECORDS_MAX)
        return err_set(err, MUSTER_EINVALID, "The vault holds %zu records, and can hold no more.", r->n);
    struct entry fresh = {.version = r->version + 1};
    memcpy(fresh.name, name, strlen(name) + 1);
    if ((rc = records_write(r, secret_span(&r->master), name, fresh.version, data_key, body, &fresh.hash, err)))
        return rc;
    struct entry *entries = calloc(r->n + 2, sizeof *entries);
    if (!entries)
        return err_set(err, MUSTER_ENOMEM, NULL);
    struct entry old = {0};
    if (found)
        old = r->entries[at];
    size_t after = at + (found ? 1 : 0);
    if (at)
        memcpy(entries, r->entries, at * sizeof *entries);
    entries[at] = fresh;
    if (after < r->n)
        memcpy(entries + at + 1, r->entries + after, (r->n - after) * sizeof *entries);
    size_t n = at + 1 + (r->n - after);
    if ((rc = write_index(r, fresh.version, entries, n, err))) {
        free(entries);
        return rc;
    }
    free(r->entries);
    r->entries = entries;
    r->n = n;
    r->version = fresh.version;
    remove_files(r, &old);
    return 0;
}

int records_drop(struct records *r, const char *name, struct err *err) {
    int rc = records_settle(r, err);
    if (rc)
        return rc;
    bool found;
    size_t at = entry_place(r, name, &found);
    if (!found)
        return err_set(err, MUSTER_ENOTFOUND, NULL);
    struct entry *entries = calloc(r->n, sizeof *entries);
    if (!entries)
        return err_set(err, MUSTER_ENOMEM, NULL);
    struct entry old = r->entries[at];
    memcpy(entries, r->entries, at * sizeof *entries);
    memcpy(entries + at, r->entries + at + 1, (r->n - at - 1) * sizeof *entries);
    if ((rc = write_index(r, r->version + 1, entries, r->n - 1, err))) {
        free(entries);
        return rc;
    }
    free(r->entries);
    r->entries = entries;
    r->n--;
    r->version++;
    remove_files(r, &old);
    return 0;
}

/* --- files beside the index ------------------------------------------------------------------------------------------------- */

int records_side_load(struct records *r, const char *name, struct span data_key, struct buf *content, struct err *err) {
    CLEANUP(buf_fini) struct buf file = BUF_INIT(content->max + SEAL_OVERHEAD);
    CLEANUP(secret_fini) struct secret plain = SECRET_INIT;
    int rc = file_read(r->dir_fd, name, &file, err);
    if (rc)
        return rc;
    if (open_box(r, data_key, "side", name, 0, buf_span(&file), &plain))
        return err_set(err, MUSTER_ECORRUPT, "The vault's file %s was changed, or put there from elsewhere.", name);
    buf_add(content, secret_span(&plain));
    return buf_check(content, err);
}

int records_side_store(struct records *r, const char *name, struct span data_key, struct span content, struct err *err) {
    CLEANUP(buf_fini) struct buf box = BUF_INIT(content.n + SEAL_OVERHEAD);
    int rc = close_box(r, data_key, "side", name, 0, content, &box);
    return rc ? err_set(err, rc, NULL) : file_replace(r->dir_fd, name, buf_span(&box), 0600, err);
}

int records_side_drop(struct records *r, const char *name, struct err *err) { return file_remove(r->dir_fd, name, err); }
