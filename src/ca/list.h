/* list: the devices of a batch: a file with one on each line, as comma-separated values (base/csv.h).
 *
 * Without a header a line is a device ID.  With one (the first line has a cell "device_id") there may be columns "key", the kind of the device's key,
 * and "life", of its certificate; any other name is an error, for what was meant and not read would be missing.  Or the caller names the
 * column that holds the device ID, and whatever else the factory writes into its file is passed over.  Read whole before anything is made:
 * a batch with a fault in line 9,000 issues nothing. */
#ifndef MUSTER_CA_LIST_H
#define MUSTER_CA_LIST_H

#include "base/arena.h"
#include "pki/key.h"

#define CA_LIST_MAX (64u << 20) /* bytes of a file */

struct ca_list_row {
    struct span device_id;
    size_t line;        /* counted from 1 */
    enum key_kind kind; /* KEY_NONE: not said */
    int bits;
    int64_t life;       /* seconds; 0: not said */
};
struct ca_list {
    struct arena *memory;
    struct ca_list_row *rows;
    size_t n;
};
/* column NULL: the rules above.  MUSTER_EINVALID and _EDEVICEID with the line, also for a device ID that stands twice. */
int ca_list_read(struct span text, const char *column, struct ca_list *out, struct err *err) MUSTER_MUST_CHECK;
/* One more, in line 0: of the command line; its text is kept by reference. */
int ca_list_add(struct ca_list *list, struct span device_id, struct err *err) MUSTER_MUST_CHECK;
/* No ID twice: to be asked behind the last ca_list_add(). */
int ca_list_check(const struct ca_list *list, struct err *err) MUSTER_MUST_CHECK;
void ca_list_fini(struct ca_list *list);

/* "p256", "rsa2048", …: of devices, or of CAs, which are not weaker than what they sign has to be.  False: no such. */
bool ca_key_kind(struct span name, bool of_ca, enum key_kind *kind, int *bits);

DEFINE_CLEANUP_FINI(ca_list_fini, struct ca_list)

#endif
