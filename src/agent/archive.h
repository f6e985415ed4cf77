/* archive: credentials.zip as a device needs it: single entries read, and the same archive without some of them.
 *
 * Stored and deflated entries of one volume, whole and in memory; no Zip64, no encryption.  Bytes are somebody else's: what does not add up is
 * MUSTER_EINVALID with what is wrong, never a guess.  Names are compared byte for byte, as a stock client does. */
#ifndef MUSTER_AGENT_ARCHIVE_H
#define MUSTER_AGENT_ARCHIVE_H

#include "base/buf.h"

#define ARCHIVE_MAX (1u << 20) /* bytes of an archive */
#define ARCHIVE_ENTRIES_MAX 64

struct archive_entry {
    struct span name, extra, comment; /* of the central directory, in the archive */
    struct span data;                 /* as it is stored */
    uint16_t made_by, needs, flags, method, time, date, internal;
    uint32_t crc, size, external;
};

struct archive {
    struct archive_entry entry[ARCHIVE_ENTRIES_MAX];
    size_t n;
    struct span comment;
};

/* The archive stays the caller's, and has to outlive *out.  No two entries have one name or lie over one another. */
int archive_open(struct span archive, struct archive *out, struct err *err) MUSTER_MUST_CHECK;
/* Appends the content, whose checksum is right; out->max bounds it.  MUSTER_ENOTFOUND: there is no such entry. */
int archive_read(const struct archive *z, const char *name, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
bool archive_has(const struct archive *z, const char *name);
/* Appends an archive with all entries but those named (NULL-terminated), as they are stored. */
int archive_without(const struct archive *z, const char *const *names, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

#endif
