/* internal: what verifier.c and identity.c share. */
#ifndef MUSTER_VERIFIER_INTERNAL_H
#define MUSTER_VERIFIER_INTERNAL_H

#include "verifier/verifier.h"

/* A reference to the newest snapshot; from any thread. */
struct snapshot *verifier_snapshot(struct verifier *v);

#endif
