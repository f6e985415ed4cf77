/* operator: see operator.h.  Both work beside a running server; the database's own locks keep them apart. */
#include "musterd/operator.h"

#include "admin/control.h"
#include "musterd/data.h"

int operator_token_reset(const struct options *o, struct err *err) {
    CLEANUP(data_close) struct data data = DATA_NONE;
    CLEANUP(buf_wipe) struct buf token = BUF_INIT(1024);
    int rc = data_open_ready(&data, o->value[OPT_DATA], err);
    if (rc || (rc = control_token_reset(data.path, &token, err)) || (rc = data_write_line(&data, "admin.token", buf_str(&token), 0600, err)))
        return rc;
    return printf("%s/admin.token\n", data.path) < 0 || fflush(stdout) ? err_set(err, MUSTER_EIO, "Standard output cannot be written.") : 0;
}

int operator_clock_accept(const struct options *o, struct err *err) {
    CLEANUP(data_close) struct data data = DATA_NONE;
    int rc = data_open_ready(&data, o->value[OPT_DATA], err);
    return rc ? rc : control_clock_accept(data.path, err);
}
