/* toml: a strict reader of the TOML that a stock client writes of its configuration: [section] and key = value, a line each.
 *
 * It exists to leave things out: the document holds the PIN of a device's HSM.  So nothing is read in which a line might be part of a
 * value that began on another one: a document with multi-line strings, arrays, inline tables, quoted keys, or a string that does not end
 * on its line is refused whole.  What is harmless but no plain value (dotted keys, escapes, bytes behind a string) is passed over.  Texts
 * of errors name lines and never what stands in them. */
#ifndef MUSTER_GATEWAY_TOML_H
#define MUSTER_GATEWAY_TOML_H

#include "base/err.h"
#include "base/span.h"

/* One plain value; section is empty before the first header.  text: it stood in quotes.  A negative code ends the reading. */
typedef int (*toml_fn)(void *arg, struct span section, struct span key, struct span value, bool text);
/* MUSTER_EINVALID, or what `each` said. */
int toml_read(struct span document, toml_fn each, void *arg, struct err *err) MUSTER_MUST_CHECK;

#endif
