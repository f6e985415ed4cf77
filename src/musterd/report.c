/* report: see report.h. */
#include "musterd/report.h"

#include "json/json.h"

int report_flush(struct err *err) {
    return fflush(stdout) || ferror(stdout) ? err_set(err, MUSTER_EIO, "Standard output cannot be written.") : 0;
}

int report_json(const json_t *doc, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(65536);
    if (json_write_pretty(&text, doc))
        return err_set(err, MUSTER_ENOMEM, NULL);
    fputs(buf_str(&text), stdout);
    return report_flush(err);
}
