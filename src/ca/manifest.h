/* manifest: what a factory line has made, for whoever reconciles it with what shows up: hash-chained and signed by the line's CA.
 *
 * A text file, one JSON object a line.  The first says whose it is; then an entry for each certificate, in the order in which they were issued or revoked; the last
 * one is signed.  Each line but the first has "previous", SHA-256 of the line before without its newline, so that the last one's hash is that of all of it, and a
 * later manifest of the same line begins with the lines of an earlier one but for that one's last.
 *
 *   {"manifest":1,"kit":UUID,"account":A,"line":L,"certificate":PEM}
 *   {"n":1,"event":"issue","at":TIME,"device_id":ID,"serial":HEX,"key":SHA256,"fingerprint":SHA256,"not_after":TIME,"previous":SHA256}
 *   {"n":2,"event":"revoke","at":TIME,"device_id":ID,"serial":HEX,"reason":REASON,"previous":SHA256}
 *   {"event":"end","at":TIME,"entries":2,"previous":SHA256,"signature":BASE64}
 *
 * Signed is the text "muster manifest 1", the kit, the time, the number of entries and `previous` of the end, each on a line of its own, by the key of the certificate
 * (ECDSA, SHA-256).  Reading is strict, and fuzzed. */
#ifndef MUSTER_CA_MANIFEST_H
#define MUSTER_CA_MANIFEST_H

#include "ca/ca.h"

#define MANIFEST_FILE "manifest.jsonl"
#define MANIFEST_MAX (1u << 30)
#define MANIFEST_LINE_MAX 65536

struct manifest {
    json_t *head, *entries, *end; /* the first line, an array of the entries, and the last line; owned */
    struct uuid kit;
    const char *account, *line; /* in head */
    struct cert *cert;      /* of the line's CA; who that is, the caller has to know from elsewhere */
    int64_t at;             /* when it was signed */
    struct hash chain;      /* `previous` of the end */
};
/* MUSTER_EMANIFEST with the line that is at fault. */
int manifest_read(struct span text, struct manifest *out, struct err *err) MUSTER_MUST_CHECK;
void manifest_fini(struct manifest *m);
/* Writes the line's whole manifest as its journal has it, signed, into its directory; the key is unlocked.  With out, appends it there too. */
int manifest_write(struct ca *ca, size_t *entries, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(manifest_fini, struct manifest)

#endif
