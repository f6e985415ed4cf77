/* file_arg: files that a user names; "-" is standard input or output. */
#ifndef MUSTER_MUSTER_FILE_ARG_H
#define MUSTER_MUSTER_FILE_ARG_H

#include "base/buf.h"

int file_arg_read(const char *path, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether a credential that does not exist yet could be written there, before it is made; what is there already is not overwritten. */
int file_arg_may_write(const char *path, struct err *err) MUSTER_MUST_CHECK;
/* New content whole or not at all; `secret` gives mode 0600, else 0644.  Standard output is refused for secrets on a terminal. */
int file_arg_write(const char *path, struct span content, bool secret, struct err *err) MUSTER_MUST_CHECK;

#endif
