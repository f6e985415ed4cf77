/* head_key: the key of a backup's file, made and found again; see head.h. */
#include <sodium.h>

#include "backup/head.h"

_Static_assert(RECIPIENT_KEY_LEN == crypto_box_PUBLICKEYBYTES && RECIPIENT_KEY_LEN == crypto_box_SECRETKEYBYTES, "recipient's keys");
_Static_assert(BACKUP_SEALED_LEN == SEAL_KEY_LEN + crypto_box_SEALBYTES, "sealed key");
_Static_assert(BACKUP_STREAM_LEN == crypto_secretstream_xchacha20poly1305_HEADERBYTES, "front of a stream");

static int derive(const struct backup_head *h, struct span passphrase, struct secret *key, struct err *err) {
    return key_master_derive(passphrase, &h->costs, BACKUP_PASSPHRASE_MIN, "backup", key, err);
}

int backup_head_new(const struct backup_key *to, struct backup_head *out, struct secret *key, struct err *err) {
    *out = (struct backup_head){.to = to->to};
    if (to->to == BACKUP_TO_PASSPHRASE) {
        key_master_costs_new(&out->costs);
        return derive(out, to->passphrase, key, err);
    }
    CLEANUP(secret_fini) struct secret fresh = SECRET_INIT;
    memcpy(out->recipient, to->public, sizeof out->recipient);
    if (secret_random(&fresh, SEAL_KEY_LEN))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (crypto_box_seal(out->sealed, fresh.p, fresh.n, out->recipient))
        return err_set(err, MUSTER_EINVALID, "Nothing can be encrypted to the recipient's key.");
    *key = fresh;
    fresh = SECRET_INIT;
    return 0;
}

static int open_sealed(const struct backup_head *h, struct span private, struct secret *key, struct err *err) {
    CLEANUP(secret_fini) struct secret plain = SECRET_INIT;
    uint8_t public[RECIPIENT_KEY_LEN];
    if (private.n != RECIPIENT_KEY_LEN || crypto_scalarmult_base(public, private.p))
        return err_set(err, MUSTER_EINVALID, "The recipient's key cannot be used.");
    if (memcmp(public, h->recipient, sizeof public) != 0)
        return err_set(err, MUSTER_EINVALID, "The backup is encrypted to another recipient's key.");
    if (secret_alloc(&plain, SEAL_KEY_LEN))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (crypto_box_seal_open(plain.p, h->sealed, sizeof h->sealed, public, private.p))
        return err_set(err, MUSTER_EINVALID, "The backup's head was changed.");
    *key = plain;
    plain = SECRET_INIT;
    return 0;
}

int backup_head_open(const struct backup_head *h, const struct backup_key *by, struct secret *key, struct err *err) {
    if (h->to != by->to)
        return err_set(err, MUSTER_EINVALID, h->to == BACKUP_TO_PASSPHRASE ? "The backup is encrypted under a passphrase, and not to a recipient's key."
                                                                           : "The backup is encrypted to a recipient's key, and not under a passphrase.");
    CLEANUP(secret_fini) struct secret found = SECRET_INIT, nothing = SECRET_INIT;
    CLEANUP(buf_fini) struct buf bound = BUF_INIT(BACKUP_HEAD_MAX);
    int rc = h->to == BACKUP_TO_PASSPHRASE ? derive(h, by->passphrase, &found, err) : open_sealed(h, by->private, &found, err);
    if (rc)
        return rc;
    backup_head_put(h, &bound);
    if ((rc = buf_check(&bound, err)))
        return rc;
    if (seal_open(secret_span(&found), buf_span(&bound), span_of(h->box, sizeof h->box), &nothing))
        return err_set(err, MUSTER_EINVALID, h->to == BACKUP_TO_PASSPHRASE ? "The passphrase is not this backup's, or the backup's head was changed." : "The backup's head was changed.");
    *key = found;
    found = SECRET_INIT;
    return 0;
}
