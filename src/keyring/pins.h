/* keyring/pins: where PINs come from, and those that a token or a TPM has refused (keyring.h): known by a keyed hash of the PIN and of who was asked, so that it makes no
 * difference how a file came to be written anew, and what is not refused is never known as that. */
#ifndef MUSTER_KEYRING_PINS_H
#define MUSTER_KEYRING_PINS_H

#include "base/secret.h"
#include "keyring/uri.h"

/* Who is asked for what: "token SERIAL LABEL", "TPM DEVICE HANDLE SPKI". */
struct pin_asked {
    const char *pin; /* for errors: "the key's PIN" */
    char who[URI_PATH_MAX + 64];
};
#define PIN_OF_KEY "The PIN of the key (pin-source)"
#define PIN_OF_OWNER "The PIN of the storage hierarchy (owner-pin-source)"

/* The PIN, without the line's end; empty where none is named.  MUSTER_EKEYPIN where it cannot be read. */
int pin_read(const struct pin_source *from, const char *pin, struct secret *out, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_EKEYPIN where it was refused before: it is not tried again. */
int pin_check(const struct pin_asked *asked, struct span pin, struct err *err) MUSTER_MUST_CHECK;
void pin_refused(const struct pin_asked *asked, struct span pin);
void pin_taken(const struct pin_asked *asked, struct span pin);

#endif
