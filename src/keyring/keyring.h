/* keyring: where a private key lies that a program holds for itself, and the key, to sign with: a file, a PKCS#11 token, a TPM 2.0.
 *
 * A key is named by a URI, and a place where keys are made by one that is less complete:
 *
 *   PATH, file:PATH[?pin-source=…]             PEM or DER; the PIN is the passphrase of an encrypted one
 *   pkcs11:token=…;object=…;id=…?module-path=/…&pin-source=…
 *                                              RFC 7512, but for pin-value.  A place leaves id out.  Unknown attributes of the query are passed over, as it has it.  module-path,
 *                                              or module-name: default p11-kit-proxy.so, the modules that p11-kit is configured for, of which library-… says nothing
 *   tpm2:[0x81…][;spki=…][?device=/…&pin-source=…&owner-pin-source=…]
 *                                              a persistent handle; in a place, the first that is tried (default 0x81400000).  spki: SHA-256 of the SubjectPublicKeyInfo in
 *                                              hex: a key of another one is not taken for it.  device: default /dev/tpmrm0; a socket of a TPM simulator is one as well.
 *                                              The PINs are the key's authorisation value, and the storage hierarchy's
 *
 * pin-source is file:/PATH (or a path, absolute; nobody but its owner may read it) or env:NAME, an environment variable.  A PIN itself never stands in a URI: those
 * are shown, logged, and seen in lists of processes.
 *
 * Nothing of a module or of the TPM is loaded or opened before a key there is asked for, and each question has an answer in bounded time: MUSTER_EKEYTIME where what
 * the key lies in has none; nothing else is asked then before that one is back.  Errors: MUSTER_EKEYAWAY (what the key lies in is not there, or fails),
 * MUSTER_EKEYPIN (PIN refused, or not tried since the token has one try left), MUSTER_EKEYFULL, MUSTER_EKEYGONE (no such key), MUSTER_EINVALID.
 * Any thread; calls into one module, or one TPM, wait for one another.  Used by src/agent and src/ca. */
#ifndef MUSTER_KEYRING_H
#define MUSTER_KEYRING_H

#include "pki/key_elsewhere.h"

#define KEYRING_URI_MAX 1024 /* bytes, with the NUL */

enum keyring_place { KEYRING_FILE, KEYRING_PKCS11, KEYRING_TPM2 };

/* By the URI's scheme alone. */
enum keyring_place keyring_place(const char *uri);
const char *keyring_place_name(enum keyring_place place); /* "file", "pkcs11", "tpm2" */

/* Whether it is well-formed: as the name of a key, or as a place where keys are made.  Asks nobody. */
enum keyring_use { KEYRING_A_KEY, KEYRING_A_PLACE };
int keyring_check(const char *uri, enum keyring_use use, struct err *err) MUSTER_MUST_CHECK;

/* A new P-256 key in that place, which cannot leave a token or a TPM.  label: what it is called in a token that the place gives no `object` for.
 *
 * named() is called before anything comes to be that outlasts this call, with the URI of the key: where it fails nothing is made.  What it writes down is what
 * keyring_remove() takes after a power cut.  It may be called again, where another handle had to be taken; the last one counts.  *out is the caller's. */
int keyring_make(const char *place, const char *label, int (*named)(void *arg, const char *uri, struct err *err), void *arg, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;

/* The key of that name; the caller's.  It is asked for its public half now, and looked for again whenever a signature fails: a token may go away and come back. */
int keyring_open(const char *uri, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* The same where the public half is known, by a certificate say: nothing is asked before the first signature (a file is read at once).  Another key there is found
 * out by its signature. */
int keyring_open_known(const char *uri, const EVP_PKEY *public, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* What libcrypto does not say: where a call that signs with the key failed (TLS, csr_make(), key_sign(), …), the reason, if it was that of the keyring.  See
 * key_elsewhere_fault(). */
int keyring_fault(const EVP_PKEY *key, struct err *err);

int keyring_has(const char *uri, bool *has, struct err *err) MUSTER_MUST_CHECK;
/* For ever.  One that is not there (any more), or in whose handle another one is than its spki says: 0. */
int keyring_remove(const char *uri, struct err *err) MUSTER_MUST_CHECK;

/* The key by the module and the PIN that `place` says, where that is the same token, or by its owner's PIN, where it is the same TPM: operators move them.  False where it
 * is another place, or says nothing else. */
bool keyring_moved(const char *uri, const char *place, char out[KEYRING_URI_MAX]);
/* A PIN that a token or a TPM has refused is not tried there again before it is another one: not by this process, and by nobody who names the same directory here, where
 * a keyed hash of it is kept (mode 0600).  Nothing else is remembered: a PIN that could not be read, a token that is locked or has one try left is looked at again.
 * once_more: what is kept there is tried once by this process, and forgotten where it is taken.  in NULL: nothing is kept.  For the whole process. */
void keyring_refusals(const char *in, bool once_more);
/* MUSTER_EKEYPIN where the PIN of that key was refused before.  Tries nothing; where it cannot be known now (the token is away): 0. */
int keyring_refused(const char *uri, struct err *err) MUSTER_MUST_CHECK;
bool keyring_has_pin(const char *uri);
/* The environment variables that its PINs come from, "" for none: programs that somebody starts are not to have them. */
void keyring_pin_variables(const char *uri, char names[2][64]);

#define KEYRING_PATIENCE 60 /* seconds */
/* How long a token or a TPM may take for one answer.  For the whole process. */
void keyring_patience(int seconds);
bool keyring_hangs(void); /* one has taken longer, and has not answered yet */
/* At the end of a program: ends it at once where one hangs, which would not let it end otherwise.  Returns where none does. */
void keyring_exit(int status);

/* Whether the key lies where `place` is, as far as both say which token or TPM that is. */
bool keyring_lies_in(const char *uri, const char *place);
/* The place that a key lies in, where further ones are made: the same token or TPM, by the same PIN.  "" for a file, and where the key's URI does not say which token. */
void keyring_place_of(const char *uri, char out[KEYRING_URI_MAX]);
/* Whether two names may be of one key, however they say where the module and the PIN are: by id, handle (and spki), or path.  True where one cannot be read. */
bool keyring_same(const char *one, const char *other);
bool keyring_exact(const char *uri); /* it names one key: not by its label alone */
/* The same key by the name that other programs know: of a TPM "handle:0x81…" (tpm2-openssl), of a token its URI (RFC 7512), of a file its path.  out has
 * KEYRING_URI_MAX bytes. */
void keyring_others_name(const char *uri, char out[KEYRING_URI_MAX]);

#endif
