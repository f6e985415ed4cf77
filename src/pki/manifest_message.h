/* manifest_message: what a factory line signs at the end of its manifest (ca/manifest.h), which the line, `muster factory reconcile` and the registry have to agree on. */
#ifndef MUSTER_PKI_MANIFEST_MESSAGE_H
#define MUSTER_PKI_MANIFEST_MESSAGE_H

#include "base/buf.h"

/* kit: a UUID; at: RFC 3339; previous: the hash of the chain, in hex. */
void manifest_message(struct buf *out, const char *kit, const char *at, int64_t entries, const char *previous);

#endif
