/* device_profile_part: what device_profile.c and device_profile_text.c share. */
#ifndef MUSTER_PKI_DEVICE_PROFILE_PART_H
#define MUSTER_PKI_DEVICE_PROFILE_PART_H

#include "pki/device_profile.h"

/* "p256,ed25519": the words of the bits, with `between` between two. */
void device_profile_keys_text(uint32_t keys, const char *between, struct buf *out);
void device_profile_usages_text(uint32_t usages, const char *between, struct buf *out);

#endif
