/* head: the front of a backup's file: to whom it is encrypted.
 *
 *   magic       "MUSTER backup 1\n"
 *   to          one byte: 1 a passphrase, 2 a recipient
 *   passphrase  salt (16), operations (u32), memory (u64): Argon2id makes the file's key
 *   recipient   public key (32), the file's key sealed to it (80: libsodium's crypto_box_seal)
 *   stream      24 bytes: the front of the encrypted stream (stream.h)
 *   box         40 bytes: nothing, sealed under the file's key and bound to all of the above: whether the key is the right one
 *
 * What is read here nobody has authenticated yet, so the costs that it may ask for are bounded (keys/master.h).  Fuzzed. */
#ifndef MUSTER_BACKUP_HEAD_H
#define MUSTER_BACKUP_HEAD_H

#include "backup/recipient.h"
#include "keys/master.h"
#include "keys/seal.h"

enum backup_to { BACKUP_TO_PASSPHRASE = 1, BACKUP_TO_RECIPIENT = 2 };
#define BACKUP_PASSPHRASE_MIN 12 /* bytes: whoever has the file can guess for as long as he likes */
#define BACKUP_HEAD_MAX 256
#define BACKUP_SEALED_LEN (SEAL_KEY_LEN + 48)
#define BACKUP_STREAM_LEN 24

struct backup_head {
    enum backup_to to;
    struct key_master_costs costs;        /* of a passphrase */
    uint8_t recipient[RECIPIENT_KEY_LEN]; /* of a recipient */
    uint8_t sealed[BACKUP_SEALED_LEN];
    uint8_t stream[BACKUP_STREAM_LEN];
    uint8_t box[SEAL_OVERHEAD];
};

/* To whom, or by whom: a passphrase, or one half of a recipient's key. */
struct backup_key {
    enum backup_to to;
    struct span passphrase;            /* its bytes, the caller's to wipe */
    uint8_t public[RECIPIENT_KEY_LEN]; /* to make one */
    struct span private;               /* to open one: RECIPIENT_KEY_LEN bytes; likewise */
};

/* A fresh key for a file, and the head that says how to get it, but for stream and box. */
int backup_head_new(const struct backup_key *to, struct backup_head *out, struct secret *key, struct err *err) MUSTER_MUST_CHECK;
/* All but the box: what it is bound to. */
void backup_head_put(const struct backup_head *h, struct buf *out);
/* Makes the box and appends the head. */
int backup_head_write(struct backup_head *h, struct span key, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* From the front of a file, which may go on; *n: how long the head is.  MUSTER_EINVALID: no backup of Muster's. */
int backup_head_read(struct span front, struct backup_head *out, size_t *n, struct err *err) MUSTER_MUST_CHECK;
/* The file's key.  MUSTER_EINVALID: it is encrypted to somebody else, or the head was changed. */
int backup_head_open(const struct backup_head *h, const struct backup_key *by, struct secret *key, struct err *err) MUSTER_MUST_CHECK;

#endif
