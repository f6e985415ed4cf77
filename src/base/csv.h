/* csv: lines of comma-separated values (RFC 4180), a record a line: cells hold no line ends.
 *
 * A spreadsheet runs a cell that begins with =, +, -, @ or a tab as a formula, and device IDs are chosen by devices.  So such a cell, and
 * one that begins with an apostrophe, is written with an apostrophe in front, which csv_read() takes off again: what was written here is
 * read back as it was. */
#ifndef MUSTER_BASE_CSV_H
#define MUSTER_BASE_CSV_H

#include "base/buf.h"

#define CSV_CELLS_MAX 32

struct csv_line {
    struct span cell[CSV_CELLS_MAX]; /* in `text` */
    size_t n;
    struct buf text;
};

/* Appends one cell, quoted where it has to be; the caller writes commas and line ends. */
void csv_add(struct buf *out, struct span cell);
/* A line without its end.  MUSTER_EINVALID: a quote out of place, or more than CSV_CELLS_MAX cells.  *out is csv_line_fini()'s. */
int csv_read(struct csv_line *out, struct span line, struct err *err) MUSTER_MUST_CHECK;
void csv_line_fini(struct csv_line *line);

#endif
