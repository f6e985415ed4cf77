/* internal: what verifier.c and identity.c share. */
#ifndef MUSTER_VERIFIER_INTERNAL_H
#define MUSTER_VERIFIER_INTERNAL_H

#include "verifier/known.h"
#include "verifier/verifier.h"

/* A reference to the newest snapshot; from any thread. */
struct snapshot *verifier_snapshot(struct verifier *v);
struct known *verifier_known(struct verifier *v);
/* The verdict of a good chain, and what the registry said with it, for the next connection. */
void identity_keep(const struct identity *id);

#endif
