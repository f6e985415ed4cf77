/* row: see row.h.  Columns stand in the order of statements.def. */
#include "registry/row.h"

int row_hash(struct store_row *row, int col, struct hash *out) {
    struct span b = store_blob(row, col);
    if (b.n != sizeof out->b)
        return MUSTER_ECORRUPT;
    memcpy(out->b, b.p, b.n);
    return 0;
}

void row_text(struct store_row *row, int col, char *out, size_t n) {
    struct span s = store_text(row, col);
    size_t len = s.n < n ? s.n : n - 1;
    if (len)
        memcpy(out, s.p, len);
    out[len] = '\0';
}

static int corrupt(struct err *err, const char *table) { return err_set(err, MUSTER_ECORRUPT, "A row of the table %s is damaged.", table); }

int row_account(struct store_row *row, struct account *out, struct err *err) {
    *out = (struct account){
        .row = store_int(row, 0),
        .kind = (enum account_kind)store_int(row, 2),
        .method = (enum account_method)store_int(row, 3),
        .state = (enum account_state)store_int(row, 4),
        .created = store_int(row, 5),
        .reprovision = (enum reprovision)store_int(row, 6),
        .approval = store_int(row, 7) != 0,
        .expected_only = store_int(row, 8) != 0,
        .device_key = (enum device_key_kind)store_int(row, 9),
        .device_life = store_int(row, 10),
        .lost_answer_window = store_int(row, 11),
        .issue_ceiling = store_int(row, 12),
        .renewal_window = store_int(row, 13),
        .late_renewal = store_int(row, 14),
        .superseded_renewal = store_int(row, 15),
        .server_keygen = store_int(row, 16) != 0,
        .csr_queue = store_int(row, 17) != 0,
        .own_root = store_int(row, 18),
        .hook = (enum hook_rule)store_int(row, 21),
        .backend = (enum account_backend)store_int(row, 22),
    };
    row_text(row, 1, out->name, sizeof out->name);
    row_text(row, 23, out->tried, sizeof out->tried);
    bool good = !account_name_check(span_str(out->name), NULL) && !device_profile_read(store_text(row, 19), &out->profile, NULL) && !device_profile_read(store_text(row, 20), &out->shadow, NULL);
    return good ? 0 : corrupt(err, "account");
}

int row_root(struct store_row *row, struct root *out, struct err *err) {
    *out = (struct root){
        .row = store_int(row, 0),
        .account = store_int(row, 2),
        .origin = (enum root_origin)store_int(row, 3),
        .state = (enum root_state)store_int(row, 4),
        .not_after = store_int(row, 9),
        .id_rule = (enum id_rule)store_int(row, 10),
        .key_rule = (enum key_rule)store_int(row, 11),
        .challenge_expires = store_int(row, 13),
        .created = store_int(row, 14),
        .state_before = (enum root_state)store_int(row, 15),
        .expired = (enum expired_rule)store_int(row, 16),
    };
    row_text(row, 7, out->subject, sizeof out->subject);
    row_text(row, 12, out->challenge, sizeof out->challenge);
    row_text(row, 17, out->tried, sizeof out->tried);
    return store_uuid(row, 1, &out->uuid) || row_hash(row, 5, &out->fingerprint) || row_hash(row, 6, &out->spki) ? corrupt(err, "root") : 0;
}

int row_key(struct store_row *row, struct prov_key *out, struct err *err) {
    *out = (struct prov_key){
        .row = store_int(row, 0),
        .account = store_int(row, 2),
        .state = (enum key_state)store_int(row, 4),
        .created = store_int(row, 5),
        .expires = store_int(row, 6),
        .certificate_not_after = store_int(row, 7),
        .max_devices = store_int(row, 8),
        .spent = store_int(row, 9),
        .per_hour = store_int(row, 10),
        .last_used = store_int(row, 16),
    };
    row_text(row, 3, out->name, sizeof out->name);
    row_text(row, 11, out->id_pattern, sizeof out->id_pattern);
    row_text(row, 12, out->sources, sizeof out->sources);
    row_text(row, 13, out->build, sizeof out->build);
    row_text(row, 19, out->tried, sizeof out->tried);
    bool profile = device_profile_read(store_text(row, 17), &out->profile, NULL) == 0 && device_profile_read(store_text(row, 18), &out->shadow, NULL) == 0;
    return store_uuid(row, 1, &out->uuid) || row_hash(row, 14, &out->spki) || row_hash(row, 15, &out->fingerprint) || !profile ? corrupt(err, "prov_key") : 0;
}

int row_device(struct store_row *row, struct device *out, struct err *err) {
    *out = (struct device){
        .row = store_int(row, 0),
        .account = store_int(row, 2),
        .state = (enum device_state)store_int(row, 4),
        .state_before = (enum device_state)store_int(row, 5),
        .method = (enum account_method)store_int(row, 6),
        .prov_key = store_int(row, 7),
        .root = store_int(row, 8),
        .created = store_int(row, 9),
        .last_seen = store_int(row, 10),
        .again = (enum again)store_int(row, 12),
        .refused = store_int(row, 13) != 0,
        .expected = store_int(row, 14) != 0,
        .has_certificate = !store_is_null(row, 16),
        .certificate_not_after = store_int(row, 17),
        .issue_first = store_int(row, 19),
        .issue_last_ms = store_int(row, 20),
        .issue_count = store_int(row, 21),
        .chain = store_int(row, 23),
        .renews = store_int(row, 24) != 0,
        .line = store_int(row, 25),
        .has_line_key = !store_is_null(row, 26),
        .has_line_certificate = !store_is_null(row, 27),
        .line_serial_n = store_is_null(row, 28) ? 0 : store_blob(row, 28).n,
    };
    row_text(row, 3, out->device_id, sizeof out->device_id);
    row_text(row, 11, out->last_address, sizeof out->last_address);
    row_text(row, 15, out->reason, sizeof out->reason);
    if (store_uuid(row, 1, &out->uuid) || (out->has_certificate && (row_hash(row, 16, &out->certificate) || row_hash(row, 18, &out->spki))) ||
        (out->has_line_key && row_hash(row, 26, &out->line_key)) || (out->has_line_certificate && row_hash(row, 27, &out->line_certificate)) || out->line_serial_n > sizeof out->line_serial)
        return corrupt(err, "device");
    if (out->line_serial_n)
        memcpy(out->line_serial, store_blob(row, 28).p, out->line_serial_n);
    return 0;
}

int row_token(struct store_row *row, struct token *out, struct err *err) {
    *out = (struct token){
        .row = store_int(row, 0),
        .role = (enum role)store_int(row, 3),
        .created = store_int(row, 5),
        .expires = store_int(row, 6),
        .revoked = store_int(row, 7),
        .last_used = store_int(row, 8),
    };
    row_text(row, 2, out->name, sizeof out->name);
    row_text(row, 4, out->account, sizeof out->account);
    return store_uuid(row, 1, &out->uuid) ? corrupt(err, "token") : 0;
}

/* The row is ended in any case; found: 1, 0 or an error. */
#define READ_ROW(reader, row, found, out, err)                                                                                 \
    ({                                                                                                                         \
        int rc__ = (found);                                                                                                    \
        if (rc__ > 0) {                                                                                                        \
            int read__ = reader(row, out, err);                                                                                \
            store_row_end(row);                                                                                                \
            rc__ = read__ ? read__ : 1;                                                                                        \
        }                                                                                                                      \
        rc__;                                                                                                                  \
    })

int account_find(struct store_tx *tx, struct span name, struct account *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_ACCOUNT_BY_NAME, "t", name);
    return READ_ROW(row_account, row, found, out, err);
}

int account_find_row(struct store_tx *tx, int64_t at, struct account *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_ACCOUNT_BY_ID, "i", at);
    return READ_ROW(row_account, row, found, out, err);
}

int account_need_any(struct store_tx *tx, struct span name, struct account *out, struct err *err) {
    int found = name.n && name.n <= ACCOUNT_NAME_MAX ? account_find(tx, name, out, err) : 0;
    if (found < 0)
        return found;
    if (!found || out->state == ACCOUNT_MAKING)
        return err_set(err, MUSTER_ENOTFOUND, "There is no account \"%.*s\".", (int)(name.n > 64 ? 64 : name.n), (const char *)name.p);
    return 0;
}

int account_need(struct store_tx *tx, struct span name, struct account *out, struct err *err) {
    int rc = account_need_any(tx, name, out, err);
    return rc ? rc : out->state == ACCOUNT_DELETED ? err_set(err, MUSTER_EDELETED, NULL) : 0;
}

int device_state_code(const struct device *d) {
    switch (d->state) {
    case DEVICE_ACTIVE:
    case DEVICE_PENDING:
        return 0;
    case DEVICE_QUARANTINED:
        return MUSTER_EQUARANTINED;
    case DEVICE_REVOKED:
        return d->refused ? MUSTER_EREFUSED : MUSTER_EREVOKED;
    case DEVICE_DELETED:
        return MUSTER_EDEVDELETED;
    }
    return MUSTER_ECORRUPT;
}

int device_find_row(struct store_tx *tx, int64_t at, struct device *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_DEVICE_BY_ROW, "i", at);
    return READ_ROW(row_device, row, found, out, err);
}

int root_find_row(struct store_tx *tx, int64_t at, struct root *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_ROOT_BY_ID, "i", at);
    return READ_ROW(row_root, row, found, out, err);
}

int key_find_row(struct store_tx *tx, int64_t at, struct prov_key *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_KEY_BY_ID, "i", at);
    return READ_ROW(row_key, row, found, out, err);
}

static int missing(struct err *err, const struct account *a, const char *what, struct span name) {
    return err_set(err, MUSTER_ENOTFOUND, "The account %s has no %s \"%.*s\".", a->name, what, (int)(name.n > DEVICE_ID_MAX ? DEVICE_ID_MAX : name.n), (const char *)name.p);
}

int root_need(struct store_tx *tx, const struct account *a, struct span name, struct root *out, struct err *err) {
    struct store_row *row;
    struct uuid id;
    if (uuid_parse(name, &id))
        return missing(err, a, "fleet root", name);
    int found = first_row(tx, &row, err, SQL_ROOT_BY_UUID, "u", &id);
    found = READ_ROW(row_root, row, found, out, err);
    return found < 0 ? found : found && out->account == a->row ? 0 : missing(err, a, "fleet root", name);
}

int key_need(struct store_tx *tx, const struct account *a, struct span name, struct prov_key *out, struct err *err) {
    struct store_row *row;
    struct uuid id;
    int found = 0;
    if (!uuid_parse(name, &id)) {
        found = first_row(tx, &row, err, SQL_KEY_BY_UUID, "u", &id);
        found = READ_ROW(row_key, row, found, out, err);
    }
    if (found == 0) {
        found = first_row(tx, &row, err, SQL_KEY_BY_NAME, "it", a->row, name);
        found = READ_ROW(row_key, row, found, out, err);
    }
    return found < 0 ? found : found && out->account == a->row ? 0 : missing(err, a, "provisioning key", name);
}

int device_need(struct store_tx *tx, const struct account *a, struct span name, struct device *out, struct err *err) {
    struct store_row *row;
    struct uuid id;
    int found = 0;
    if (!uuid_parse(name, &id)) {
        found = first_row(tx, &row, err, SQL_DEVICE_BY_UUID, "u", &id);
        found = READ_ROW(row_device, row, found, out, err);
    }
    if (found == 0 || (found > 0 && out->account != a->row)) {
        found = first_row(tx, &row, err, SQL_DEVICE_BY_ID, "it", a->row, name);
        found = READ_ROW(row_device, row, found, out, err);
    }
    return found < 0 ? found : found && out->account == a->row ? 0 : missing(err, a, "device", name);
}
