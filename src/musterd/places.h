/* places: the configuration as the command line changes it. */
#ifndef MUSTER_MUSTERD_PLACES_H
#define MUSTER_MUSTERD_PLACES_H

#include "config/settings.h"
#include "musterd/data.h"
#include "musterd/options.h"

/* Hosts of the command line as certificates have them (lower case, no dot at the end), separated by blanks; "" where none was given.
 * MUSTER_EUSAGE for what is neither a name nor an address, or too long for a line of the file. */
int places_hosts(const struct options *o, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* The file (--config, or DIR/musterd.conf; with d NULL none: defaults), then the options. */
int places_settings(const struct options *o, const struct data *d, struct settings *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether `key = value` fits on a line of the file: MUSTER_EUSAGE; value NULL: it does. */
int places_line(const char *key, const char *value, struct err *err) MUSTER_MUST_CHECK;
/* The first word of a list. */
void places_first_host(const struct settings *s, char *out, size_t max);

#endif
