/* ca_sign: what `muster ca sign` does with a directory of requests. */
#ifndef MUSTER_MUSTER_CA_SIGN_H
#define MUSTER_MUSTER_CA_SIGN_H

#include "ca/ca.h"
#include "muster/command.h"

/* Every request in the directory that is the command's argument, into --output.  The CA is unlocked. */
int ca_sign_directory(const struct invocation *in, struct ca *ca, int64_t life, struct err *err) MUSTER_MUST_CHECK;

#endif
