/* name: a device ID as the name of a file. */
#ifndef MUSTER_CA_NAME_H
#define MUSTER_CA_NAME_H

#include "base/buf.h"

#define CA_DEVICE_ID_CHARS 64 /* what a subject CN holds (RFC 5280, ub-common-name) */

/* MUSTER_EDEVICEID unless 1 to 64 characters, at most 128 bytes, of UTF-8 without control characters: what a server reads from a subject CN. */
int ca_check_device_id(struct span id, struct err *err) MUSTER_MUST_CHECK;
/* Appends a name that no two device IDs share and that is never "." or "..": ASCII letters, digits, '-', '_' and '.' behind the first
 * character as they are, all else as %XX; longer than a file name may be: "sha256-" and the hash of the ID. */
void ca_file_name(struct buf *out, struct span id);

#endif
