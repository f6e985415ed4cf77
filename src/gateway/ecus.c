/* ecus: POST /director/ecus, the registration of a device's ECUs and their public keys.  Idempotent: the stock client repeats the same
 * body until it gets an answer, and never anything else. */
#include "gateway/keep_part.h"

#define ECUS_MAX 64
#define SERIAL_MAX 64
#define HARDWARE_MAX 200
#define KEY_TEXT_MAX 4096

/* What is kept of one ECU. */
static int take_ecu(json_t *from, json_t *list, struct err *err) {
    const char *serial, *hardware, *type;
    json_t *key = json_object_get(from, "clientKey"), *public = json_object_get(json_object_get(key, "keyval"), "public");
    int rc = take_text(from, "ecu_serial", 1, SERIAL_MAX, &serial, err);
    if (!rc)
        rc = take_text(from, "hardware_identifier", 0, HARDWARE_MAX, &hardware, err);
    if (!rc)
        rc = take_text(key, "keytype", 1, 32, &type, err);
    if (rc)
        return rc;
    if (public && (!json_is_string(public) || json_string_length(public) > KEY_TEXT_MAX))
        return err_set(err, MUSTER_EJSON, "public is a text of at most %d bytes.", KEY_TEXT_MAX);
    size_t i;
    json_t *other;
    json_array_foreach(list, i, other) {
        if (strcmp(json_string_value(json_object_get(other, "ecu_serial")), serial) == 0)
            return err_set(err, MUSTER_EJSON, "Two ECUs have the same ecu_serial.");
    }
    json_t *o = json_object();
    json_set_str(o, "ecu_serial", serial);
    json_set_str(o, "hardware_identifier", hardware);
    json_set_str(o, "keytype", type);
    json_set_str(o, "public", public ? json_string_value(public) : NULL);
    json_array_append_new(list, o);
    return 0;
}

int ecus_take(struct span body, struct keeping *k, struct err *err) {
    const struct identity *id = http_exchange_peer(k->x);
    CLEANUP_JSON json_t *doc = json_parse(body, err);
    CLEANUP_JSON json_t *out = json_object();
    const char *primary;
    bool listed = false;
    size_t i;
    json_t *one, *ecus = json_object_get(doc, "ecus"), *list = json_array();
    json_set(out, "ecus", list);
    if (!doc)
        return err->code;
    int rc = take_text(doc, "primary_ecu_serial", 1, SERIAL_MAX, &primary, err);
    if (rc)
        return rc;
    if (!json_is_array(ecus) || json_array_size(ecus) == 0 || json_array_size(ecus) > ECUS_MAX)
        return err_set(err, MUSTER_EJSON, "ecus is a list of 1 to %d ECUs.", ECUS_MAX);
    json_array_foreach(ecus, i, one) {
        if ((rc = take_ecu(one, list, err)))
            return rc;
        listed = listed || strcmp(json_string_value(json_object_get(one, "ecu_serial")), primary) == 0;
    }
    if (!listed)
        return err_set(err, MUSTER_EPRIMARY, NULL);
    json_set_str(out, "primary_ecu_serial", primary);
    if ((rc = json_write_sorted(&k->body, out)))
        return rc;
    k->op.ecus = (struct device_ecus){.device = id->admit.device_row, .ecus = buf_span(&k->body)};
    return 0;
}

/* 201 for what is new, 200 for what was known. */
int ecus_run(struct store_tx *tx, void *keeping, struct err *err) {
    struct keeping *k = keeping;
    int rc = device_ecus_run(tx, &k->op.ecus, err);
    k->status = k->op.ecus.unchanged ? 200 : k->keep->status;
    return rc;
}
