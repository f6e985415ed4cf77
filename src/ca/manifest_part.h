/* manifest_part: what the writer and the reader of manifests have in common. */
#ifndef MUSTER_CA_MANIFEST_PART_H
#define MUSTER_CA_MANIFEST_PART_H

#include "ca/manifest.h"

#define MANIFEST_FORMAT 1

/* What is signed. */
void manifest_message(struct buf *out, const char *kit, const char *at, size_t entries, const char *previous);

#endif
