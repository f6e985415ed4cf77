/* poison: included before every source file; functions that the conventions forbid do not compile. */
#ifndef MUSTER_BASE_POISON_H
#define MUSTER_BASE_POISON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC poison strcpy strcat sprintf atoi strtok gets

#endif
