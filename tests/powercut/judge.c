/* judge: opens what a cut left, with the real code, and holds it against every promise that was made before; see work.h. */
#include <fcntl.h>
#include <sqlite3.h>

#include "base/file.h"
#include "registry/row.h"
#include "work.h"

struct case_ {
    const struct work *w;
    const char *root;
    size_t cut;
    struct store *registry, *control;
    int64_t vault_seen; /* version of the vault that control has written down */
    const struct audit_points *points;
    char why[400];
};

#define BROKEN(c, ...) (snprintf((c)->why, sizeof(c)->why, __VA_ARGS__), (c)->why)

static const struct note *each(const struct case_ *c, enum note_kind kind, const struct note *after) {
    for (const struct note *n = after ? after + 1 : c->w->notes; n < c->w->notes + c->w->n_notes && n->at <= c->cut; n++)
        if (n->kind == kind)
            return n;
    return NULL;
}
#define EACH(n, c, kind) for (const struct note *n = NULL; (n = each(c, kind, n));)

static bool made(const struct case_ *c, enum note_place place) {
    EACH(n, c, NOTE_MADE)
        if (n->place == place)
            return true;
    return false;
}

static const char *open_one(struct case_ *c, const char *name, enum note_place place, int (*open)(const struct registry_open *, struct store **, struct err *), struct store **out) {
    char path[128];
    struct err err = ERR_INIT;
    snprintf(path, sizeof path, "%s/%s", c->root, name);
    const struct registry_open o = {.path = path, .readers = 1, .queue_max = 16, .migrate = !made(c, place)};
    return open(&o, out, &err) ? BROKEN(c, "%s does not open: %s", name, err_text(&err)) : NULL;
}

/* --- the registry ------------------------------------------------------------------------------------------------------------------- */

struct found_cert {
    int64_t device, state;
};

static int find_cert(struct store_tx *tx, const struct note *n, struct found_cert *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_CERT_BY_SERIAL, "b", span_of(n->serial, n->serial_n));
    if (found <= 0)
        return found;
    *out = (struct found_cert){store_int(row, 3), store_int(row, 4)};
    store_row_end(row);
    return 1;
}

static int check_certificates(struct store_tx *tx, struct case_ *c, const struct account *a, struct err *err) {
    struct found_cert f;
    struct device d;
    int rc;
    EACH(n, c, NOTE_CERT) {
        if ((rc = find_cert(tx, n, &f, err)) < 0)
            return rc;
        if (!rc)
            return err_set(err, MUSTER_ECORRUPT, "The certificate answered to %s is not there.", n->text);
        if ((rc = device_need(tx, a, span_str(n->text), &d, err)))
            return rc;
        if (d.row != f.device)
            return err_set(err, MUSTER_ECORRUPT, "The certificate answered to %s is another device's.", n->text);
    }
    EACH(n, c, NOTE_USED) {
        if ((rc = find_cert(tx, n, &f, err)) <= 0 || f.state == CERT_ISSUED || f.state == CERT_VOID)
            return rc < 0 ? rc : err_set(err, MUSTER_ECORRUPT, "The certificate that %s used is not the device's.", n->text);
        EACH(other, c, NOTE_CERT)
            if (strcmp(other->text, n->text) == 0 && memcmp(other->serial, n->serial, n->serial_n) != 0 && (find_cert(tx, other, &f, err) <= 0 || f.state < CERT_VOID))
                return err_set(err, MUSTER_ECORRUPT, "A second certificate of %s is good.", n->text);
    }
    EACH(n, c, NOTE_STATE)
        if ((rc = device_need(tx, a, span_str(n->text), &d, err)) || (int64_t)d.state != n->number)
            return rc ? rc : err_set(err, MUSTER_ECORRUPT, "The device %s is in state %d instead of %lld.", n->text, d.state, (long long)n->number);
    for (size_t i = 0; i < c->w->n_refused; i++)
        if ((rc = find_cert(tx, &c->w->refused[i], &f, err)))
            return rc < 0 ? rc : err_set(err, MUSTER_ECORRUPT, "A certificate that was refused is in the registry.");
    return 0;
}

static int check_budgets(struct store_tx *tx, struct case_ *c, struct err *err) {
    EACH(n, c, NOTE_KEY) {
        struct store_row *row;
        struct prov_key k;
        int64_t devices, answered = 0;
        int rc = first_row(tx, &row, err, SQL_KEY_BY_UUID, "u", &c->w->keys[n->number]);
        if (rc <= 0)
            return rc < 0 ? rc : err_set(err, MUSTER_ECORRUPT, "The key %s is not there.", n->text);
        rc = row_key(row, &k, err);
        store_row_end(row);
        if (rc || (rc = one_int(tx, &devices, 0, err, SQL_KEY_DEVICES, "i", k.row)))
            return rc;
        EACH(a, c, NOTE_CERT)
            answered += a->number == n->number && a->spent;
        if (k.spent != devices || k.spent < answered || (k.max_devices && k.spent > k.max_devices))
            return err_set(err, MUSTER_ECORRUPT, "The key %s has spent %lld for %lld devices, %lld answered.", n->text, (long long)k.spent, (long long)devices, (long long)answered);
    }
    return 0;
}

/* From the beginning, meeting each head that was reported or signed. */
static int check_audit(struct store_tx *tx, struct case_ *c, int64_t chain, const struct audit_head *points, size_t n, struct err *err) {
    struct audit_verify v = {.chain = chain, .more = true, .points = points, .n_points = n};
    while (v.more) {
        int rc = audit_verify_run(tx, &v, err);
        if (rc)
            return rc;
    }
    return v.first_bad ? err_set(err, MUSTER_ECORRUPT, "Entry %lld of the audit log: %s", (long long)v.first_bad, v.reason) : 0;
}

static int by_seq(const void *a, const void *b) {
    const struct audit_head *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

static int check_account_audit(struct store_tx *tx, struct case_ *c, int64_t chain, struct err *err) {
    static struct audit_head points[WORK_NOTES_MAX + AUDIT_POINTS_MAX];
    size_t n = 0;
    EACH(head, c, NOTE_HEAD)
        points[n++] = head->head;
    for (size_t i = 0; i < c->points->n; i++) /* whatever control holds must be there, answered or not */
        points[n++] = c->points->at[i].head;
    qsort(points, n, sizeof *points, by_seq);
    return check_audit(tx, c, chain, points, n, err);
}

static int registry_run(struct store_tx *tx, void *arg, struct err *err) {
    struct case_ *c = arg;
    struct account a;
    int rc = account_find(tx, SPAN_LIT(WORK_ACCOUNT), &a, err);
    if (rc < 0)
        return rc;
    if (!rc)
        return each(c, NOTE_HEAD, NULL) || c->points->n ? err_set(err, MUSTER_ECORRUPT, "The account is not there.") : 0;
    if ((rc = check_certificates(tx, c, &a, err)) || (rc = check_budgets(tx, c, err)))
        return rc;
    return check_account_audit(tx, c, a.row, err);
}

static int raise_run(struct store_tx *tx, void *arg, struct err *err) { return epoch_raise(tx, err); }

/* --- control ------------------------------------------------------------------------------------------------------------------------ */

static int control_run(struct store_tx *tx, void *arg, struct err *err) {
    struct case_ *c = arg;
    CLEANUP(store_row_end) struct store_row *row = NULL;
    int64_t tokens = 0, version;
    static struct audit_points points;
    snprintf(points.chain, sizeof points.chain, "%s", WORK_ACCOUNT);
    int rc = store_query(tx, &row, err, SQL_TOKEN_PAGE, "ii", I(0), I(1000));
    while (!rc && (rc = store_next(row, err)) > 0) {
        tokens++;
        rc = 0;
    }
    if (rc || (rc = audit_points_run(tx, &points, err)) || (rc = meta_get(tx, "vault", &c->vault_seen, err)))
        return rc;
    c->points = &points;
    EACH(n, c, NOTE_TOKEN)
        if (tokens < n->number)
            return err_set(err, MUSTER_ECORRUPT, "Token %lld was handed out and is not there.", (long long)n->number);
    EACH(n, c, NOTE_SIGNED)
        if (!points.n || points.at[points.n - 1].head.seq < n->head.seq)
            return err_set(err, MUSTER_ECORRUPT, "The signed head of entry %lld is not there.", (long long)n->head.seq);
    version = 0;
    EACH(n, c, NOTE_VERSION)
        version = n->number;
    if (c->vault_seen < version)
        return err_set(err, MUSTER_ECORRUPT, "Control has forgotten version %lld of the vault.", (long long)version);
    return check_audit(tx, c, AUDIT_SERVER, NULL, 0, err);
}

/* --- what holds of a database at any time --------------------------------------------------------------------------------------------- */

static const char *const always_registry[] = {
    "SELECT count(*) FROM cert WHERE device IS NULL OR device NOT IN (SELECT id FROM device)",
    "SELECT count(*) - count(DISTINCT serial) FROM cert NOT INDEXED",
    "SELECT count(*) FROM (SELECT 1 FROM device NOT INDEXED GROUP BY account, device_id HAVING count(*) > 1)",
    "SELECT (SELECT count(*) FROM cert) - (SELECT count(*) FROM audit WHERE action = 'device.enrol')",
    "SELECT count(*) FROM prov_key k WHERE spent <> (SELECT count(*) FROM device d NOT INDEXED WHERE d.prov_key = k.id)",
    NULL,
};
static const char *const always_control[] = {"SELECT count(*) - count(DISTINCT hash) FROM token NOT INDEXED", NULL};

static const char *raw(struct case_ *c, const char *name, const char *const *always) {
    static const char *const sound[] = {"SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'", "SELECT count(*) FROM pragma_foreign_key_check", NULL};
    const char *const *const lists[] = {sound, always};
    char path[128];
    sqlite3 *db;
    const char *bad = NULL;
    snprintf(path, sizeof path, "%s/%s", c->root, name);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL))
        bad = BROKEN(c, "%s does not open again", name);
    for (int l = 0; l < 2; l++)
        for (const char *const *q = lists[l]; !bad && *q; q++) {
            sqlite3_stmt *s = NULL;
            if (sqlite3_prepare_v2(db, *q, -1, &s, NULL) || sqlite3_step(s) != SQLITE_ROW || sqlite3_column_int64(s, 0) != 0)
                bad = BROKEN(c, "%s: %s: %s", name, *q, sqlite3_errmsg(db));
            sqlite3_finalize(s);
        }
    sqlite3_close(db);
    return bad;
}

/* --- vault and files -------------------------------------------------------------------------------------------------------------------- */

static const char *check_record(struct case_ *c, struct records *r, const char *name) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT, body = SECRET_INIT;
    struct err err = ERR_INIT;
    char expected[64] = "";
    for (uint64_t v = 1; v <= records_version(r); v++)
        if (strcmp(c->w->versions[v].name, name) == 0)
            snprintf(expected, sizeof expected, c->w->versions[v].dropped ? "%.0s" : "%s at %llu", name, (unsigned long long)v);
    int rc = records_load(r, name, &key, &body, &err);
    if (!*expected)
        return rc == MUSTER_ENOTFOUND ? NULL : BROKEN(c, "The vault holds %s, which was dropped or never made", name);
    return rc || !span_eq_str(secret_span(&body), expected) ? BROKEN(c, "The vault's %s is not \"%s\": %s", name, expected, err_text(&err)) : NULL;
}

static const char *check_vault(struct case_ *c) {
    char path[128];
    struct err err = ERR_INIT;
    CLEANUP(records_free) struct records *r = NULL;
    int64_t promised = c->vault_seen; /* control would refuse an older one */
    EACH(n, c, NOTE_VAULT)
        if (n->number > promised)
            promised = n->number;
    snprintf(path, sizeof path, "%s/vault", c->root);
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = records_open(fd, &WORK_MASTER, &r, &err);
    if (rc && promised == 0) /* not finished yet: it is begun anew */
        return records_create(fd, &WORK_MASTER, &r, &err) ? BROKEN(c, "The vault cannot be made anew: %s", err_text(&err)) : NULL;
    if (rc)
        return BROKEN(c, "The vault does not open: %s", err_text(&err));
    if ((int64_t)records_version(r) < promised)
        return BROKEN(c, "The vault is at version %llu, and %lld was reported", (unsigned long long)records_version(r), (long long)promised);
    const char *bad = check_record(c, r, "core");
    bad = bad ? bad : check_record(c, r, "account-a");
    bad = bad ? bad : check_record(c, r, "account-c");
    return bad ? bad : check_record(c, r, "account-b");
}

static const char *check_file(struct case_ *c, const char *name) {
    char path[128];
    CLEANUP(buf_fini) struct buf b = BUF_INIT(16384);
    CLEANUP(buf_fini) struct buf whole = BUF_INIT(16384);
    long long promised = 0, there = 0;
    bool going = false, gone = false;
    EACH(n, c, NOTE_FILE)
        if (strcmp(n->text, name) == 0)
            promised = n->number;
    EACH(n, c, NOTE_GOING)
        going = going || strcmp(n->text, name) == 0;
    EACH(n, c, NOTE_GONE)
        gone = gone || strcmp(n->text, name) == 0;
    snprintf(path, sizeof path, "%s/%s", c->root, name);
    int rc = file_read(AT_FDCWD, path, &b, NULL);
    if (rc == MUSTER_ENOTFOUND)
        return promised && !going ? BROKEN(c, "The file %s is not there", name) : NULL;
    if (gone)
        return BROKEN(c, "The file %s was removed and is there", name);
    const char *number = strstr(buf_str(&b), "content ");
    there = number ? strtoll(number + 8, NULL, 10) : -1;
    for (int i = 0; i < 40; i++)
        buf_addf(&whole, FILE_TEXT, name, there);
    return rc || !span_eq(buf_span(&b), buf_span(&whole)) || there < promised ? BROKEN(c, "The file %s is not whole or not the newest (%lld of %lld)", name, there, promised) : NULL;
}

/* The index of a WAL is shared memory, which nobody syncs: whatever is in its file after the cut must not matter. */
static void leave_index(const struct case_ *c, const char *name) {
    char path[128], junk[32768];
    memset(junk, (int)(c->cut % 251), sizeof junk);
    snprintf(path, sizeof path, "%s/%s", c->root, name);
    CLEANUP(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, junk, sizeof junk) != sizeof junk)
        abort();
}

static const char *check_stores(struct case_ *c) {
    struct err err = ERR_INIT;
    leave_index(c, "registry.db-shm");
    leave_index(c, "control.db-shm");
    const char *bad = open_one(c, "registry.db", PLACE_REGISTRY, registry_open, &c->registry);
    bad = bad ? bad : open_one(c, "control.db", PLACE_CONTROL, control_open, &c->control);
    if (!bad && (store_read_now(c->control, control_run, c, &err) || store_read_now(c->registry, registry_run, c, &err) ||
                 store_write_now(c->registry, raise_run, NULL, &err) || store_write_now(c->control, raise_run, NULL, &err)))
        bad = BROKEN(c, "%s", err_text(&err));
    store_close(c->registry);
    store_close(c->control);
    bad = bad ? bad : raw(c, "registry.db", always_registry);
    return bad ? bad : raw(c, "control.db", always_control);
}

const char *judge(const struct work *w, const char *root, size_t cut) {
    static struct case_ c;
    c = (struct case_){.w = w, .root = root, .cut = cut};
    const char *bad = check_stores(&c);
    bad = bad ? bad : check_vault(&c);
    bad = bad ? bad : check_file(&c, "gateway.url");
    return bad ? bad : check_file(&c, "once");
}
