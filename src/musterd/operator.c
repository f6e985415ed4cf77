/* operator: see operator.h.  Both work beside a running server; the database's own locks keep them apart. */
#include "musterd/operator.h"

#include "admin/control.h"
#include "base/clock.h"
#include "json/json.h"
#include "musterd/data.h"
#include "musterd/report.h"

int operator_token_reset(const struct options *o, struct err *err) {
    CLEANUP(data_close) struct data data = DATA_NONE;
    CLEANUP(buf_wipe) struct buf token = BUF_INIT(1024);
    int rc = data_open_ready(&data, o->value[OPT_DATA], err);
    if (rc || (rc = control_token_reset(data.path, &token, err)) || (rc = data_write_line(&data, "admin.token", buf_str(&token), 0600, err)))
        return rc;
    char path[PATH_MAX];
    if ((rc = data_path(&data, "admin.token", path, err)))
        return rc;
    if (!o->value[OPT_JSON])
        return printf("%s\n", path) < 0 ? err_set(err, MUSTER_EIO, "Standard output cannot be written.") : report_flush(err);
    CLEANUP_JSON json_t *doc = json_object();
    json_set_str(doc, "admin_token_file", path);
    return report_json(doc, err);
}

int operator_clock_accept(const struct options *o, struct err *err) {
    CLEANUP(data_close) struct data data = DATA_NONE;
    int rc = data_open_ready(&data, o->value[OPT_DATA], err);
    if (rc || (rc = control_clock_accept(data.path, err)) || !o->value[OPT_JSON])
        return rc;
    CLEANUP_JSON json_t *doc = json_object();
    json_set_time(doc, "accepted", clock_now());
    return report_json(doc, err);
}
