/* dependents: see dependents.h. */
#include "registry/dependents.h"

#include "base/clock.h"

int64_t dependents_hour(int64_t days) {
    const int64_t since = clock_now() - days * CLOCK_DAY;
    return since > 0 ? since / CLOCK_HOUR : 0;
}

static json_t *one_json(struct store_row *row) {
    char text[DEVICE_ID_MAX + 1];
    struct uuid uuid;
    if (store_uuid(row, 0, &uuid))
        return NULL;
    json_t *o = json_object();
    json_set_uuid(o, "id", &uuid);
    row_text(row, 1, text, sizeof text);
    json_set_str(o, "device_id", text);
    json_set_time(o, "last_seen", store_int(row, 2));
    json_set_bool(o, "renews", store_int(row, 3) != 0);
    if (!store_is_null(row, 4)) {
        row_text(row, 4, text, sizeof text);
        json_set_str(o, "account", text);
    }
    return o;
}

int dependents_take(struct store_row *first, int rc, json_t *list, struct err *err) {
    CLEANUP(store_row_end) struct store_row *row = first;
    while (!rc && (rc = store_next(row, err)) > 0) {
        json_t *one = one_json(row);
        if (!one)
            return err_set(err, MUSTER_ECORRUPT, "A row of the table device is damaged.");
        json_array_append_new(list, one);
        rc = 0;
    }
    return rc;
}

void dependents_name(struct buf *text, const json_t *list, int64_t n) {
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) {
        const char *account = json_string_value(json_object_get(one, "account"));
        if (i == DEPENDENTS_NAMED)
            break;
        buf_addf(text, "%s%s%s%s", i ? ", " : "", account ? account : "", account ? "/" : "", json_string_value(json_object_get(one, "device_id")));
    }
    if (n > DEPENDENTS_NAMED)
        buf_adds(text, ", …");
}
