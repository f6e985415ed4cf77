/* help: texts from the command table, for --help and the man page. */
#ifndef MUSTER_MUSTER_HELP_H
#define MUSTER_MUSTER_HELP_H

#include <stdio.h>

#include "muster/command.h"

void help_all(FILE *out);
void help_noun(FILE *out, const char *noun);
void help_command(FILE *out, const struct command *c);
void help_man(FILE *out); /* the COMMANDS section of muster(1), in scdoc's language */

#endif
