/* ca_revoke: `muster ca revoke` and `ca crl`: what the fleet CA takes back, and the list that says so; see command.h. */
#include "json/json.h"
#include "muster/ca_part.h"
#include "muster/print.h"
#include "muster/run_part.h"

#define CRL_LIFE (30 * CLOCK_DAY)

/* Those that a name means: one by its serial number, or all of a device that are in force. */
static json_t *meant(const struct ca *ca, const char *name) {
    json_t *list = json_array();
    json_t *record = json_object_get(ca->journal.serials, name);
    if (record) {
        json_array_append(list, record);
        return list;
    }
    const json_t *of_device = json_object_get(ca->journal.devices, name);
    for (size_t i = 0; i < json_array_size(of_device); i++)
        if (journal_is(json_array_get(of_device, i), "issued"))
            json_array_append(list, json_array_get(of_device, i));
    return list;
}

static int nothing_in_force(const struct ca *ca, const char *name, struct err *err) {
    const json_t *of_device = json_object_get(ca->journal.devices, name);
    for (size_t i = json_array_size(of_device); i-- > 0;)
        if (journal_is(json_array_get(of_device, i), "revoked"))
            return err_set(err, MUSTER_ESTATE, "Nothing of the device %.128s is in force: its newest certificate was revoked already (%s). A reason stays as it was given: lists and manifests that are out have it.", name,
                           json_string_value(json_object_get(json_array_get(of_device, i), "reason")));
    return err_set(err, MUSTER_ENOTFOUND, "The fleet CA has no certificate in force of the serial number or the device ID %.128s.", name);
}

static int ask(const struct invocation *in, const json_t *list, struct err *err) {
    char reach[256];
    const char *kind = json_string_value(json_object_get(json_array_get(list, 0), "kind"));
    if (kind && strcmp(kind, "intermediate") == 0)
        snprintf(reach, sizeof reach, "This revokes the intermediate, and with it every certificate of a device that it has issued.");
    else if (json_array_size(list) > 1)
        snprintf(reach, sizeof reach, "This revokes %zu certificates of the device %.128s.", json_array_size(list), in->args[0]);
    else
        return 0;
    return run_agreed(in, reach) ? 0 : err_set(err, MUSTER_ECONFIRM, "%s", reach);
}

int command_ca_revoke(struct invocation *in, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    const char *reason = invocation_option(in, "reason");
    json_t *record;
    size_t i;
    int rc = ca_open(ca_part_dir(in), &ca, err);
    if (rc)
        return rc;
    CLEANUP_JSON json_t *list = meant(&ca, in->args[0]);
    if (json_array_size(list) == 0)
        return nothing_in_force(&ca, in->args[0], err);
    if ((rc = ask(in, list, err)))
        return rc;
    json_array_foreach(list, i, record)
        if ((rc = ca_revoke(&ca, json_string_value(json_object_get(record, "serial")), reason ? reason : "unspecified", err)))
            return i ? err_prefix(err, "After %zu of %zu", i, json_array_size(list)) : rc;
    CLEANUP_JSON json_t *shown = json_object();
    ca_part_warn_clock(&ca, shown);
    print_warnings(shown);
    if (!in->json) {
        print_table(list, "id device_id state revoked reason");
        fprintf(stderr, "It counts where the next list is: `muster ca crl`, then `muster crl import` at the server.\n");
        return 0;
    }
    json_set_str(shown, "id", in->args[0]);
    json_set_int(shown, "revoked", (int64_t)json_array_size(list));
    json_set(shown, "certificates", json_incref(list));
    return print_json(shown, err);
}

int command_ca_crl(struct invocation *in, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(512u << 20);
    struct ca_crl crl = {0};
    int rc = ca_part_life(in, "life", CRL_LIFE, &crl.life, err);
    if (rc || (rc = ca_open(ca_part_dir(in), &ca, err)))
        return rc;
    crl.root = invocation_option(in, "of-root") || !ca.intermediate;
    if ((rc = ca_part_unlock(in, &ca, crl.root, err)))
        return rc;
    if (ca.key_is_root != crl.root)
        return err_set(err, MUSTER_ENOTFOUND, crl.root ? "root.key is not in the fleet CA's directory: bring it back from where it is kept, or name the key by --ca-key."
                                                       : "The key that --ca-key names is the root's, and the list is the intermediate's; --of-root makes the root's.");
    if ((rc = ca_make_crl(&ca, &crl, &pem, err)))
        return rc;
    CLEANUP_JSON json_t *shown = json_object();
    char id[32];
    snprintf(id, sizeof id, "%llu", (unsigned long long)crl.number);
    json_set_str(shown, "id", id);
    json_set_str(shown, "issuer", crl.root ? "root" : "intermediate");
    json_set_int(shown, "number", (int64_t)crl.number);
    json_set_int(shown, "entries", (int64_t)crl.entries);
    json_set_time(shown, "next_update", crl.next_update);
    ca_part_warn_clock(&ca, shown);
    return ca_part_put_as(in, "crl", buf_span(&pem), shown, err);
}
