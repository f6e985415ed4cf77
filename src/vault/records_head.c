/* vault/records_head: the head of a vault: whose it is, and what its master key comes from; see records.h.
 *
 *   1   magic, id, kind, salt, operations, memory, box
 *   2   magic, id, kind, salt, operations, memory, how often the master key was changed, when, box
 *
 * The box holds nothing: it binds what stands in front of it to the master key, and tells whether a key is the vault's. */
#include "base/cursor.h"
#include "base/file.h"
#include "base/log.h"
#include "vault/records_part.h"

#define FILE_NAME "head"
#define MAGIC_1 "MUSTER vault 1\n"
#define MAGIC_2 "MUSTER vault 2\n"
#define HEAD_MAX 1024

/* What was read, with what its box is bound to. */
struct read_head {
    struct buf file;
    struct records_head head;
    struct span bound, box;
};

static void read_head_fini(struct read_head *h) { buf_fini(&h->file); }
DEFINE_CLEANUP_FINI(read_head_fini, struct read_head)

static void put_head(const struct records_head *h, struct buf *out) {
    buf_adds(out, h->rekeys ? MAGIC_2 : MAGIC_1);
    buf_add(out, span_of(h->id, sizeof h->id));
    buf_addc(out, (uint8_t)h->kind);
    buf_add(out, span_of(h->costs.salt, sizeof h->costs.salt));
    buf_add_u32(out, h->costs.operations);
    buf_add_u64(out, h->costs.memory);
    if (h->rekeys) {
        buf_add_u32(out, h->rekeys);
        buf_add_u64(out, (uint64_t)h->rekeyed);
    }
}

int records_head_write(struct records *r, const struct records_head *h, struct span master, struct err *err) {
    CLEANUP(buf_fini) struct buf head = BUF_INIT(HEAD_MAX);
    CLEANUP(buf_fini) struct buf box = BUF_INIT(256);
    put_head(h, &head);
    int rc = seal_close(master, buf_span(&head), SPAN_NONE, &box);
    buf_add(&head, buf_span(&box));
    if (rc || (rc = buf_check(&head, NULL)))
        return err_set(err, rc, NULL);
    return file_replace(r->dir_fd, FILE_NAME, buf_span(&head), 0600, err);
}

static int read_file(int dir_fd, struct read_head *out, struct err *err) {
    *out = (struct read_head){.file = BUF_INIT(HEAD_MAX)};
    int rc = file_read(dir_fd, FILE_NAME, &out->file, err);
    if (rc)
        return rc == MUSTER_ENOTFOUND ? err_set(err, rc, "There is no vault here.") : rc;
    struct records_head *h = &out->head;
    struct cursor c = cursor_of(buf_span(&out->file));
    struct span magic = cursor_bytes(&c, sizeof MAGIC_1 - 1);
    struct span id = cursor_bytes(&c, RECORDS_ID_LEN);
    h->kind = cursor_u8(&c);
    struct span salt = cursor_bytes(&c, KEY_MASTER_SALT_LEN);
    h->costs.operations = cursor_u32(&c);
    h->costs.memory = cursor_u64(&c);
    if (span_eq_str(magic, MAGIC_2)) {
        h->rekeys = cursor_u32(&c);
        h->rekeyed = (int64_t)cursor_u64(&c);
        if (!h->rekeys)
            c.failed = true;
    } else if (!span_eq_str(magic, MAGIC_1)) {
        c.failed = true;
    }
    out->bound = span_sub(buf_span(&out->file), 0, out->file.n - c.rest.n);
    out->box = cursor_bytes(&c, SEAL_OVERHEAD);
    if (!cursor_done(&c))
        return err_set(err, MUSTER_ECORRUPT, "The vault's head does not have the shape that it was written with.");
    memcpy(h->id, id.p, id.n);
    memcpy(h->costs.salt, salt.p, salt.n);
    return 0;
}

static bool opens(const struct read_head *h, struct span key) {
    CLEANUP(secret_fini) struct secret nothing = SECRET_INIT;
    return key.n == SEAL_KEY_LEN && seal_open(key, h->bound, h->box, &nothing) == 0;
}

int records_head_look(int dir_fd, struct records_head *out, struct err *err) {
    CLEANUP(read_head_fini) struct read_head h;
    int rc = read_file(dir_fd, &h, err);
    *out = h.head;
    return rc;
}

int records_head_is_of(int dir_fd, struct span key, struct err *err) {
    CLEANUP(read_head_fini) struct read_head h;
    int rc = read_file(dir_fd, &h, err);
    return rc ? rc : opens(&h, key);
}

const char *records_kind_name(enum key_master_kind kind) {
    return kind == KEY_MASTER_FILE ? "file" : kind == KEY_MASTER_PASSPHRASE ? "passphrase" : kind == KEY_MASTER_CREDENTIAL ? "credential" : "unknown";
}

/* A passphrase kept as a credential is the same passphrase: either way in opens the vault. */
static bool kinds_agree(enum key_master_kind stored, enum key_master_kind given) { return (stored == KEY_MASTER_FILE) == (given == KEY_MASTER_FILE); }

static int wrong_kind(const struct read_head *h, struct err *err) {
    bool file = h->head.kind == KEY_MASTER_FILE;
    return err_set(err, MUSTER_EINVALID, "The vault's master key comes from %s, and another kind is configured: master_key in musterd.conf has to be %s.",
                   file ? "a key file" : "a passphrase", file ? "file" : "passphrase, or credential");
}

/* The key of the source, where that opens the head.  1: it does not. */
static int try_source(struct records *r, const struct read_head *h, const struct key_master_options *o, struct err *err) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    int rc = key_master_load(r->dir_fd, o, &h->head.costs, false, &key, err);
    if (rc)
        return rc;
    if (!opens(h, secret_span(&key)))
        return 1;
    r->master = key;
    key = SECRET_INIT;
    return 0;
}

/* While a master key is changed the next one is there too: beside the key file, or known to whoever started this process.  Which of the two it
 * is, the head says. */
static int find_master(struct records *r, const struct read_head *h, const struct key_master_options *o, struct err *err) {
    struct err why = ERR_INIT, ignored = ERR_INIT;
    bool agree = kinds_agree(h->head.kind, o->kind);
    int rc = agree ? try_source(r, h, o, &why) : 1;
    if (rc && agree && o->kind == KEY_MASTER_FILE) {
        struct key_master_options next = *o;
        next.next = true;
        if (try_source(r, h, &next, &ignored) == 0) {
            log_event(LOG_WARN, "vault_opened_with_next_key", "meaning", "a change of the master key was cut off behind its decisive step; `musterd vault rekey` tidies up", NULL);
            return 0;
        }
    }
    if (!rc)
        return 0;
    for (size_t i = 0; i < sizeof o->candidates / sizeof o->candidates[0]; i++)
        if (opens(h, o->candidates[i]))
            return secret_copy(&r->master, o->candidates[i]) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
    if (!agree)
        return wrong_kind(h, err);
    return rc < 0 ? err_set(err, rc, "%s", err_text(&why)) : err_set(err, MUSTER_EINVALID, "The master key is not this vault's, or the vault's head was changed.");
}

int records_head_open(struct records *r, const struct key_master_options *master, struct err *err) {
    CLEANUP(read_head_fini) struct read_head h;
    int rc = read_file(r->dir_fd, &h, err);
    if (rc || (rc = find_master(r, &h, master, err)))
        return rc;
    r->head = h.head;
    return 0;
}
