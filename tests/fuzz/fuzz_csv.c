/* Lines of comma-separated values, as operators import them. */
#include "fuzz.h"

#include "base/csv.h"

static void write_again(struct buf *out, const struct csv_line *l) {
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            buf_addc(out, ',');
        csv_add(out, l->cell[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct csv_line first, second;
    struct err err = ERR_INIT;
    CLEANUP(buf_fini) struct buf again = BUF_INIT(8 * n + 64), one = BUF_INIT(2 * n + 8);
    /* Any bytes as one cell come back, and begin with nothing that a spreadsheet would run. */
    csv_add(&one, span_of(data, n));
    MUST(buf_ok(&one) && (one.n == 0 || !strchr("=+-@\t", one.p[0]) || one.p[0] == 0));
    MUST(one.n < 2 || one.p[0] != '"' || n == 0 || !strchr("=+-@\t", one.p[1]) || one.p[1] == 0);
    MUST(csv_read(&second, buf_span(&one), &err) == 0 && second.n == 1 && span_eq(second.cell[0], span_of(data, n)));
    csv_line_fini(&second);
    if (csv_read(&first, span_of(data, n), &err) == 0) {
        MUST(first.n >= 1 && first.n <= CSV_CELLS_MAX);
        /* What was read, written and read again is the same. */
        write_again(&again, &first);
        MUST(buf_ok(&again) && csv_read(&second, buf_span(&again), &err) == 0 && second.n == first.n);
        for (size_t i = 0; i < first.n; i++)
            MUST(span_eq(first.cell[i], second.cell[i]));
        csv_line_fini(&second);
    } else {
        MUST(err.code == MUSTER_EINVALID && err.text[0]);
    }
    csv_line_fini(&first);
    return 0;
}
