/* master: the master key of a vault, under which its data keys rest.
 *
 * Three kinds.  A key file holds 64 hex digits and a newline, mode 0600.  A passphrase, and a systemd credential (a file of any
 * content that the service manager provides), go through Argon2id with the salt and the costs that stand in the vault's head.
 * Called by the vault alone, before it is confined. */
#ifndef MUSTER_KEYS_MASTER_H
#define MUSTER_KEYS_MASTER_H

#include "base/secret.h"

enum key_master_kind { KEY_MASTER_FILE = 1, KEY_MASTER_PASSPHRASE = 2, KEY_MASTER_CREDENTIAL = 3 };
#define KEY_MASTER_FILE_NAME "master.key"
#define KEY_MASTER_NEXT ".next"
#define KEY_MASTER_LEN 32 /* bytes of the key itself */
#define KEY_MASTER_PASSPHRASE_MIN 8 /* bytes */
#define KEY_MASTER_PASSPHRASE_MAX 1024

struct key_master_options {
    enum key_master_kind kind;
    const char *path;       /* FILE: NULL: master.key in the vault's directory; CREDENTIAL: the file, required */
    struct span passphrase; /* PASSPHRASE: its bytes, the caller's to wipe */
    bool next;              /* FILE: not the file, but the one beside it that is to take its place: path with KEY_MASTER_NEXT behind it */
    /* Keys themselves, where one is on the way to take this one's place (vault/records.h): that one, and the one that is in force until then, which
     * this one need not be any more; empty: none. */
    struct span candidates[2];
};

/* How a passphrase becomes a key; public, kept in the vault's head. */
#define KEY_MASTER_SALT_LEN 16
struct key_master_costs {
    uint8_t salt[KEY_MASTER_SALT_LEN];
    uint32_t operations; /* Argon2id passes */
    uint64_t memory;     /* bytes */
};
/* Whether they are within all measure: MUSTER_ECORRUPT. */
int key_master_costs_check(const struct key_master_costs *costs, const char *whose, struct err *err) MUSTER_MUST_CHECK;
/* A fresh salt and today's costs: 3 passes over 64 MiB. */
void key_master_costs_new(struct key_master_costs *out);

/* The 32 bytes that a passphrase of at least `min` bytes comes to.  whose: "vault", for errors.  MUSTER_EINVALID (length), _ECORRUPT (costs beyond
 * all measure: they may come from a file that nobody has authenticated), _ENOMEM. */
int key_master_derive(struct span passphrase, const struct key_master_costs *costs, size_t min, const char *whose, struct secret *out, struct err *err) MUSTER_MUST_CHECK;

/* 64 hex digits and a newline, for a key file. */
int key_master_text(struct span key, struct secret *out, struct err *err) MUSTER_MUST_CHECK;
/* The 32 bytes.  create: make the key file where it is absent (file kind only; an existing one is used as it is).  MUSTER_ENOTFOUND,
 * _EINVALID (shape, mode, passphrase too short), _ENOMEM. */
int key_master_load(int dir_fd, const struct key_master_options *o, const struct key_master_costs *costs, bool create, struct secret *out,
                    struct err *err) MUSTER_MUST_CHECK;

#endif
