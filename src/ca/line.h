/* line: the directory of a factory line: a fleet CA (ca.h) whose intermediate is the line's own CA, whose root has no key here, and which keeps to a kit (kit.h).
 *
 *   line.json request.csr intermediate.key   made by the line; the key never leaves it.  Or intermediate.uri, where it lies in a token or a TPM (signer.h)
 *   kit.json and what a fleet CA has         once the kit has come
 *
 * From the kit on it issues as any fleet CA does, and to its manifest (manifest.h) besides. */
#ifndef MUSTER_CA_LINE_H
#define MUSTER_CA_LINE_H

#include "ca/ca.h"

struct line_make {
    struct span account, line;
    enum key_kind kind; /* KEY_P256 or KEY_P384 */
    struct span passphrase;
    const char *place; /* of the key, in a token or a TPM; NULL: a file.  There it is P-256 */
};
/* Makes the directory, with a key and a request for its certificate, which is appended to pem.  MUSTER_EEXISTS where there is a key already. */
int line_make(const char *path, const struct line_make *rq, struct buf *pem, struct err *err) MUSTER_MUST_CHECK;
/* Takes a kit in: the first makes the directory a CA, later ones change its bounds alone.  MUSTER_EKIT: it is another line's, or for another key; _ENOTFOUND. */
int line_start(const char *path, struct span kit, int64_t device_life, struct err *err) MUSTER_MUST_CHECK;

/* By the root's key, which is unlocked: the certificate of a line's CA, for the key of a request.  MUSTER_ECSR, _ECAEXPIRED, _EKEYISSUED, _EIO. */
struct line_sign {
    struct span account, line;
    struct span public_key;
    int64_t life; /* seconds */
};
int ca_sign_line(struct ca *ca, const struct line_sign *rq, struct ca_issued *out, struct err *err) MUSTER_MUST_CHECK;

#endif
