/* passphrase: read from a terminal without echo, or from the first line of stdin where that is no terminal. */
#ifndef MUSTER_BASE_PASSPHRASE_H
#define MUSTER_BASE_PASSPHRASE_H

#include "base/secret.h"

#define PASSPHRASE_MAX 1024 /* bytes */

/* what: "passphrase of the vault", for prompt and errors.  twice: asked again on a terminal.  min bytes, else MUSTER_EINVALID; interrupted
 * or at its end: MUSTER_EINVALID. */
int passphrase_read(const char *what, bool twice, size_t min, struct secret *out, struct err *err) MUSTER_MUST_CHECK;
/* The first line of a file of mode 0600. */
int passphrase_read_file(const char *path, const char *what, size_t min, struct secret *out, struct err *err) MUSTER_MUST_CHECK;

#endif
