/* man: text in the source of a manual page (scdoc(5)). */
#ifndef MUSTER_BASE_MAN_H
#define MUSTER_BASE_MAN_H

#include <stdio.h>

/* As it reads, whatever is in it: what scdoc takes for markup is escaped. */
void man_text(FILE *out, const char *text);

#endif
