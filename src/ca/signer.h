/* signer: the private keys of a fleet CA, or of a factory line, and where each lies.  In the directory stands, of the root and of the intermediate,
 *
 *   NAME.key       the key itself: PKCS#8, encrypted under the passphrase; or
 *   NAME.uri       its name, where it lies in a PKCS#11 token or a TPM (keyring/keyring.h) and never was anywhere else;
 *   NAME.uri.new   the name of one that is on its way into being: what a power cut left there is removed when the key is made again
 *
 * or neither, where it is kept elsewhere.  Whoever opens the directory on another machine names the key there by ca_unlock()'s `named`. */
#ifndef MUSTER_CA_SIGNER_H
#define MUSTER_CA_SIGNER_H

#include "ca/ca.h"

#define SIGNER_ROOT "root"
#define SIGNER_BELOW "intermediate"

struct signer_make {
    const char *place;  /* where keys are made, by its URI; NULL: here, in a file */
    const char *label;  /* what it is called in a token */
    enum key_kind kind; /* of a file's; elsewhere it is P-256 */
    int bits;
};
/* A new key.  In a token or a TPM it is there then, and NAME.uri.new says so. */
int signer_make(int dir, const char *name, const struct signer_make *rq, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* From here on it is the directory's: writes NAME.key, or takes the .new off. */
int signer_keep(int dir, const char *name, const EVP_PKEY *key, struct span passphrase, struct err *err) MUSTER_MUST_CHECK;
/* Removes a key in a token or a TPM that was not kept, or, with kept, one that was.  0 also where there is none. */
int signer_discard(int dir, const char *name, bool kept, struct err *err) MUSTER_MUST_CHECK;
/* Whether the directory has it, or says where it lies. */
bool signer_has(int dir, const char *name);
/* "file", a URI, or "" where the directory says nothing of it; KEYRING_URI_MAX bytes. */
void signer_where(int dir, const char *name, char *out);

/* Why a signature of the CA's key came to nothing, where that lies elsewhere; otherwise rc, and *err as it is. */
int signer_fault(const struct ca *ca, int rc, struct err *err);

#endif
