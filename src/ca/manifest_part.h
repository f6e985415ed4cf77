/* manifest_part: what the writer and the reader of manifests have in common. */
#ifndef MUSTER_CA_MANIFEST_PART_H
#define MUSTER_CA_MANIFEST_PART_H

#include "ca/manifest.h"
#include "pki/manifest_message.h"

#define MANIFEST_FORMAT 1

#endif
