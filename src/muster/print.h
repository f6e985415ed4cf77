/* print: answers for people and for scripts.  Data goes to stdout; text from the server never reaches a terminal with control
 * characters in it. */
#ifndef MUSTER_MUSTER_PRINT_H
#define MUSTER_MUSTER_PRINT_H

#include <jansson.h>

#include "base/err.h"
#include "base/span.h"

int print_json(const json_t *doc, struct err *err) MUSTER_MUST_CHECK; /* indented, a newline behind */
/* One line: what drives a terminal becomes '?', and what is beyond so many characters is cut. */
void print_line(struct span text, int width);
void print_object(const json_t *object);                /* "member: value" lines, nested ones indented */
void print_table(const json_t *items, const char *columns); /* columns: "member member …", widths from the content */
void print_warnings(const json_t *object);              /* its "warnings", on stderr */

#endif
