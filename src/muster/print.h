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
/* A message on stderr: "muster: ", "warning: " or nothing, the text, a newline.  Texts hold names that strangers chose. */
void print_message(const char *before, const char *text);

/* A list piece by piece, so that no more than one page of it is in memory: an array, as print_json() has it, or a table whose header is
 * written with the first page and whose columns only become wider.  Ended also where the list is empty. */
#define PRINT_COLUMNS 12
struct print_list {
    char names[PRINT_COLUMNS][40]; /* none: JSON */
    int widths[PRINT_COLUMNS];
    size_t columns, done;
};
void print_list_begin(struct print_list *l, const char *columns /* NULL: JSON */);
int print_list_items(struct print_list *l, const json_t *items, struct err *err) MUSTER_MUST_CHECK;
void print_list_end(struct print_list *l);

#endif
