/* invitation: see invitation.h. */
#include "registry/invitation.h"

#include "base/hex.h"
#include "base/secret.h"
#include "registry/audit_seal.h"

#define CODE_BYTES 16

/* --- codes --------------------------------------------------------------------------------------------------------------------------- */

void invitation_hash(struct span code, struct hash *out) { hash_of(code, out); }

void invitation_make(char code[INVITATION_CODE_LEN + 1], struct hash *hash) {
    uint8_t random[CODE_BYTES];
    CLEANUP(buf_wipe) struct buf b = BUF_INIT(64);
    secret_random_bytes(random, sizeof random);
    buf_adds(&b, INVITATION_PREFIX);
    base64url_add(&b, span_of(random, sizeof random));
    memcpy(code, buf_str(&b), INVITATION_CODE_LEN);
    code[INVITATION_CODE_LEN] = '\0';
    invitation_hash(buf_span(&b), hash);
    secret_wipe(random, sizeof random);
}

bool invitation_is_of(const struct invitation *i, const struct hash *code) {
    static const struct hash nobodys;
    bool same = secret_eq(hash_span(i ? &i->code : &nobodys), hash_span(code));
    return i && same;
}

/* --- rows ---------------------------------------------------------------------------------------------------------------------------- */

enum col { I_ID, I_UUID, I_ACCOUNT, I_DEVICE_ID, I_CODE, I_CREATED, I_EXPIRES, I_SPENT, I_SPKI };

int row_invitation(struct store_row *row, struct invitation *out, struct err *err) {
    *out = (struct invitation){.row = store_int(row, I_ID), .account = store_int(row, I_ACCOUNT), .created = store_int(row, I_CREATED), .expires = store_int(row, I_EXPIRES),
                               .spent = store_int(row, I_SPENT), .server_key = store_int(row, I_SPENT) && store_is_null(row, I_SPKI)};
    row_text(row, I_DEVICE_ID, out->device_id, sizeof out->device_id);
    bool bad = store_uuid(row, I_UUID, &out->uuid) || row_hash(row, I_CODE, &out->code) || (out->spent && !out->server_key && row_hash(row, I_SPKI, &out->spki));
    return bad ? err_set(err, MUSTER_ECORRUPT, "A row of the table invitation is damaged.") : 0;
}

static int take_row(struct store_row *row, int found, struct invitation *out, struct err *err) {
    if (found <= 0)
        return found;
    int rc = row_invitation(row, out, err);
    store_row_end(row);
    return rc ? rc : 1;
}

int invitation_find(struct store_tx *tx, int64_t account, struct span device_id, struct invitation *out, struct err *err) {
    struct store_row *row;
    int found = first_row(tx, &row, err, SQL_INVITATION_GET, "it", account, device_id);
    return take_row(row, found, out, err);
}

int invitation_spend(struct store_tx *tx, const struct invitation *i, const struct hash *spki, int64_t now, struct err *err) {
    return store_exec(tx, NULL, err, SQL_INVITATION_SPEND, "iib", i->row, now, spki ? hash_span(spki) : SPAN_NONE);
}

void invitation_sum(const struct invitation *i, struct audit_sum *out) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(256);
    buf_add(&b, uuid_span(&i->uuid));
    buf_add(&b, hash_span(&i->code));
    buf_add_u64(&b, (uint64_t)i->created);
    buf_add_u64(&b, (uint64_t)i->expires);
    *out = (struct audit_sum){{0}};
    audit_sum_add(out, i->account, span_str(i->device_id), buf_span(&b), false);
}

static json_t *invitation_json(const struct account *a, const struct invitation *i) {
    json_t *o = json_object();
    json_set_uuid(o, "id", &i->uuid);
    json_set_str(o, "account", a->name);
    json_set_str(o, "device_id", i->device_id);
    json_set_str(o, "state", i->spent ? "spent" : i->expires <= clock_now() ? "expired" : "open");
    json_set_time(o, "created", i->created);
    json_set_time(o, "expires", i->expires);
    json_set_time(o, "spent", i->spent);
    return o;
}

/* --- operations ------------------------------------------------------------------------------------------------------------------------ */

int invitation_check_run(struct store_tx *tx, void *arg, struct err *err) {
    struct invitation_check *c = arg;
    struct account a;
    struct invitation i;
    c->verdict = MUSTER_EINVITATION;
    int found = account_find(tx, span_str(c->account), &a, err);
    if (found > 0)
        found = invitation_find(tx, a.row, span_str(c->device_id), &i, err);
    if (found < 0)
        return found;
    if (invitation_is_of(found ? &i : NULL, &c->code))
        c->verdict = 0;
    return 0;
}

/* A code that could not be used yet must not be handed out: whoever carries it to the device would learn that there. */
static int device_may_come(struct store_tx *tx, const struct account *a, struct span device_id, struct err *err) {
    struct store_row *row;
    struct device d;
    int found = first_row(tx, &row, err, SQL_DEVICE_BY_ID, "it", a->row, device_id);
    if (found <= 0)
        return found ? found : device_id_check_new(device_id, err);
    int rc = row_device(row, &d, err);
    store_row_end(row);
    if (rc)
        return rc;
    const char *state = word_of(&WORDS_DEVICE_STATE, d.state);
    if (device_state_code(&d))
        return err_set(err, MUSTER_ESTATE, "The device is %s; `muster device release` lets it come again.", state);
    if (a->reprovision == REPROVISION_NEVER && d.again != AGAIN_GRANTED)
        return err_set(err, MUSTER_ESTATE, "The device is registered, and %s; `muster device release --for-reprovision` lets it come again.", state);
    return 0;
}

/* The one that the ID has goes; *before: its id, nil where there was none. */
static int drop_before(struct store_tx *tx, const struct account *a, struct span device_id, struct uuid *before, struct err *err) {
    struct invitation i;
    *before = (struct uuid){{0}};
    int found = invitation_find(tx, a->row, device_id, &i, err);
    if (found <= 0)
        return found;
    *before = i.uuid;
    return store_exec(tx, NULL, err, SQL_INVITATION_DROP, "i", i.row);
}

int invitation_create_run(struct store_tx *tx, void *arg, struct err *err) {
    struct invitation_create *c = arg;
    struct account a;
    struct uuid before;
    struct audit_sum sum;
    int64_t now = clock_now();
    int rc = account_need(tx, c->account, &a, err);
    if (rc || (rc = clock_check(tx, now, err)) || (rc = device_id_check(c->device_id, err)))
        return rc;
    if (!(a.method & METHOD_SHARED))
        return err_set(err, MUSTER_EMETHODOFF, "The account %s does not take shared credentials.", a.name);
    struct invitation i = {.account = a.row, .uuid = c->id, .code = c->code, .created = now, .expires = c->expires};
    snprintf(i.device_id, sizeof i.device_id, "%.*s", SPAN_FMT(c->device_id));
    if ((rc = device_may_come(tx, &a, c->device_id, err)) || (rc = drop_before(tx, &a, c->device_id, &before, err)) ||
        (rc = store_exec(tx, NULL, err, SQL_INVITATION_ADD, "uitbii", &i.uuid, a.row, c->device_id, hash_span(&i.code), i.created, i.expires)))
        return rc;
    json_decref(c->out);
    c->out = invitation_json(&a, &i);
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &i.uuid);
    json_set_time(detail, "expires", i.expires);
    json_set_uuid(detail, "replaces", &before);
    invitation_sum(&i, &sum);
    audit_sum_write(detail, &sum);
    return audit_add(tx, a.row, &c->actor, "device.invite", c->device_id, detail, err);
}

int invitation_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct invitation_list *l = arg;
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP(store_row_end) struct store_row *row = NULL;
    struct account a;
    int64_t last = l->page.after, n = 0;
    int rc = account_need(tx, l->account, &a, err);
    if (rc || (rc = store_query(tx, &row, err, SQL_INVITATION_PAGE, "iii", a.row, l->page.after, l->page.limit + 1)))
        return rc;
    while ((rc = store_next(row, err)) > 0 && n < l->page.limit) {
        struct invitation i;
        if ((rc = row_invitation(row, &i, err)))
            return rc;
        json_array_append_new(items, invitation_json(&a, &i));
        last = i.row;
        n++;
    }
    return rc < 0 ? rc : page_finish(&l->page, TAKE(items), last, rc > 0);
}

static int invitation_need(struct store_tx *tx, const struct account *a, struct span name, struct invitation *out, struct err *err) {
    struct store_row *row;
    struct uuid uuid;
    int found = 0;
    if (uuid_parse(name, &uuid) == 0) {
        found = first_row(tx, &row, err, SQL_INVITATION_BY_UUID, "u", &uuid);
        found = take_row(row, found, out, err);
        found = found > 0 && out->account != a->row ? 0 : found;
    }
    if (!found)
        found = invitation_find(tx, a->row, name, out, err);
    return found < 0 ? found : found ? 0 : err_set(err, MUSTER_ENOTFOUND, "No device of that ID is invited.");
}

int invitation_remove_run(struct store_tx *tx, void *arg, struct err *err) {
    struct invitation_remove *r = arg;
    struct account a;
    struct invitation i;
    int rc = account_need(tx, r->account, &a, err);
    if (rc || (rc = invitation_need(tx, &a, r->invitation, &i, err)) || (rc = store_exec(tx, NULL, err, SQL_INVITATION_DROP, "i", i.row)))
        return rc;
    json_decref(r->out);
    r->out = invitation_json(&a, &i);
    json_t *detail = json_object();
    json_set_uuid(detail, "id", &i.uuid);
    return audit_add(tx, a.row, &r->actor, "device.uninvite", span_str(i.device_id), detail, err);
}
