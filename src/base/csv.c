/* csv: see csv.h. */
#include "base/csv.h"

static bool is_guarded(struct span cell) { return cell.n && strchr("=+-@\t'", cell.p[0]) && cell.p[0]; }

void csv_add(struct buf *out, struct span cell) {
    bool guard = is_guarded(cell), quote = guard || (cell.n && (cell.p[0] == ' ' || cell.p[cell.n - 1] == ' '));
    for (size_t i = 0; i < cell.n && !quote; i++)
        quote = strchr("\",\r\n", cell.p[i]) && cell.p[i];
    if (quote)
        buf_addc(out, '"');
    if (guard)
        buf_addc(out, '\'');
    for (size_t i = 0; i < cell.n; i++) {
        if (cell.p[i] == '"')
            buf_addc(out, '"');
        buf_addc(out, cell.p[i]);
    }
    if (quote)
        buf_addc(out, '"');
}

/* One cell from the front of *rest, unquoted, behind what out->text holds. */
static int read_cell(struct csv_line *out, struct span *rest, struct err *err) {
    size_t i = 0;
    bool quoted = rest->n && rest->p[0] == '"';
    if (quoted) {
        for (i = 1;; i++) {
            if (i >= rest->n)
                return err_set(err, MUSTER_EINVALID, "A quote is opened and not closed.");
            if (rest->p[i] == '"' && (i + 1 >= rest->n || rest->p[i + 1] != '"'))
                break;
            i += rest->p[i] == '"';
            buf_addc(&out->text, rest->p[i]);
        }
        i++;
    } else {
        for (; i < rest->n && rest->p[i] != ','; i++) {
            if (rest->p[i] == '"')
                return err_set(err, MUSTER_EINVALID, "A quote stands inside a cell that is not quoted.");
            buf_addc(&out->text, rest->p[i]);
        }
    }
    if (i < rest->n && rest->p[i] != ',')
        return err_set(err, MUSTER_EINVALID, "A quote is closed, but no comma follows.");
    *rest = span_sub(*rest, i, rest->n);
    return 0;
}

int csv_read(struct csv_line *out, struct span line, struct err *err) {
    size_t end[CSV_CELLS_MAX];
    *out = (struct csv_line){.text = BUF_INIT(line.n + 1)};
    for (;;) {
        if (out->n == CSV_CELLS_MAX)
            return err_set(err, MUSTER_EINVALID, "There are more than %d cells.", CSV_CELLS_MAX);
        int rc = read_cell(out, &line, err);
        if (rc)
            return rc;
        end[out->n++] = out->text.n;
        if (!line.n)
            break;
        line = span_sub(line, 1, line.n); /* the comma */
    }
    for (size_t i = 0; i < out->n; i++) {
        size_t from = i ? end[i - 1] : 0;
        struct span cell = span_of(out->text.p ? out->text.p + from : NULL, end[i] - from);
        if (cell.n > 1 && cell.p[0] == '\'' && is_guarded(span_sub(cell, 1, 1)))
            cell = span_sub(cell, 1, cell.n);
        out->cell[i] = cell;
    }
    return buf_check(&out->text, err);
}

void csv_line_fini(struct csv_line *line) { buf_fini(&line->text); }
