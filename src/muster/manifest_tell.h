/* manifest_tell: holds a line's manifest against what the server was told before, and has it keep what this one says; for reconcile.c. */
#ifndef MUSTER_MUSTER_MANIFEST_TELL_H
#define MUSTER_MUSTER_MANIFEST_TELL_H

#include "ca/manifest.h"
#include "muster/command.h"

/* What the server says of it (LineVerdict of its API), owned by the caller.  Whoever may only look has it not kept.  With --accept-manifest it becomes the line's word
 * whatever was told before, once the operator has agreed: MUSTER_ECONFIRM. */
int manifest_tell(struct invocation *in, const struct manifest *m, json_t **verdict, struct err *err) MUSTER_MUST_CHECK;
/* What a person has to know of it; nothing where it continues what was told. */
void manifest_tell_text(const json_t *verdict, struct buf *out);
/* Whether an operator has to look at it. */
bool manifest_tell_alarming(const json_t *verdict);

#endif
