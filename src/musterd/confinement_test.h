/* confinement_test: `musterd self-test-confinement KIND`: becomes what a process of that kind is (child.h, sandbox.h), tries what it must
 * not be able to do and what it must, and prints a line for each. */
#ifndef MUSTER_MUSTERD_CONFINEMENT_TEST_H
#define MUSTER_MUSTERD_CONFINEMENT_TEST_H

#include "musterd/options.h"

/* MUSTER_ESANDBOX where anything is not as the table says. */
int confinement_test_run(const struct options *o, struct err *err);

#endif
