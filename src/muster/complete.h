/* complete: what may stand next on the command line, from the command table; base/shell.h. */
#ifndef MUSTER_MUSTER_COMPLETE_H
#define MUSTER_MUSTER_COMPLETE_H

#include <stdio.h>

/* Offers what may stand in the place of the last of n words (the program's name is not among them).  Names of accounts, keys and roots
 * are asked of the server, for 2 seconds at most: after that the process ends, silently. */
void complete_words(FILE *out, int n, char **words);

#endif
