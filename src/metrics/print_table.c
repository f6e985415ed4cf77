/* print_table: prints the table of doc/metrics.md, which a test holds against it. */
#include <stdio.h>

#include "metrics/metrics.h"

int main(void) {
    struct buf out = BUF_INIT(1u << 20);
    metrics_document(&out);
    bool ok = buf_ok(&out) && fputs(buf_str(&out), stdout) >= 0 && fflush(stdout) == 0;
    buf_fini(&out);
    return !ok;
}
