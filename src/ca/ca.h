/* ca: the offline fleet CA: a directory that a person can read and a build pipeline can use from several processes at once.
 *
 *   ca.json             settings: the subject and the life of device certificates
 *   root.pem root.key   the fleet root and its key (PKCS#8, encrypted under the passphrase); the key may be kept elsewhere where there is an
 *   intermediate.pem intermediate.key       intermediate, which then issues
 *   root.uri intermediate.uri               in the place of the .key: the key lies in a token or a TPM (signer.h)
 *   journal.jsonl       what was signed (journal.h)
 *   issued/SERIAL.pem   every certificate
 *   lock                held by whoever signs
 *   kit.json            of a factory line (line.h): what it may make, which every issuing keeps to
 *
 * It needs no server and no network.  A serial is durable before anything is signed with it, and a certificate is durable, with its line in
 * the journal, before a caller gets it: whatever ends a process, nothing that left is unknown here and no serial is used twice. */
#ifndef MUSTER_CA_CA_H
#define MUSTER_CA_CA_H

#include "ca/journal.h"
#include "ca/kit.h"
#include "pki/cert.h"
#include "pki/csr.h"

#define CA_PASSPHRASE_MIN 8 /* bytes */
#define CA_LIFE_MAX (100 * CLOCK_YEAR)
#define CA_CHAIN_MAX 65536 /* bytes of a chain in PEM */

struct ca {
    int fd;                    /* the directory; -1: not open */
    int lock;                  /* -1: not held */
    struct cert *root;
    struct cert *intermediate; /* NULL: the root issues */
    EVP_PKEY *key;             /* of what issues or proves, after ca_unlock */
    bool key_is_root;
    json_t *config;
    struct kit kit;            /* of a factory line; kit.doc NULL: the CA is none's */
    int64_t device_life;       /* seconds */
    struct journal journal;
};
#define CA_NONE ((struct ca){.fd = -1, .lock = -1})

struct ca_init {
    enum key_kind kind; /* KEY_P256, KEY_P384, or KEY_RSA */
    int bits;           /* of RSA: 3072 or 4096 */
    bool intermediate;
    struct span name;   /* common name of the root; SPAN_NONE: one that no other CA has */
    struct subject subject; /* of the CAs and of every device certificate; its common_name and serial_number are not used */
    int64_t root_life, device_life; /* seconds */
    struct span passphrase;
    const char *place, *root_place; /* of the keys, of the root's: a token or a TPM, by its URI; NULL: files.  There they are P-256 */
};
/* Makes the directory, whole or not at all; MUSTER_EEXISTS where there is something already. */
int ca_make(const char *path, const struct ca_init *init, struct err *err) MUSTER_MUST_CHECK;

/* Reads; takes no lock.  MUSTER_ECAMISSING, _ECORRUPT, _EVERSION. */
int ca_open(const char *path, struct ca *out, struct err *err) MUSTER_MUST_CHECK;
void ca_close(struct ca *ca);
/* What signs device certificates. */
static inline const struct cert *ca_issuer(const struct ca *ca) { return ca->intermediate ? ca->intermediate : ca->root; }
/* Loads the issuing key, or the root's (root true: where its key is there; else, with an intermediate, that one's).  uri: where the key lies, whatever the
 * directory says (keyring/keyring.h); NULL: as it says. */
int ca_unlock(struct ca *ca, bool root, const char *uri, struct span passphrase, struct err *err) MUSTER_MUST_CHECK;
bool ca_needs_passphrase(const struct ca *ca, bool root);

struct ca_order {
    struct span device_id;
    struct span public_key; /* SubjectPublicKeyInfo */
    bool again;             /* although the ID has a certificate */
    int64_t life;           /* seconds; 0: the CA's */
};
struct ca_issued {
    char serial[JOURNAL_SERIAL_LEN + 1];
    int64_t not_after;
    bool clamped;           /* to the end of what issued it */
    struct buf chain;       /* PEM, leaf first, without the root */
};
#define CA_ISSUED_INIT ((struct ca_issued){.chain = BUF_INIT(CA_CHAIN_MAX)})
/* Signs for one device and makes it durable.  May be called again and again, by several processes at once; the key has to be unlocked.
 * Where it fails and out->serial is not "", that certificate is on the disk, and the record takes it for issued.
 * MUSTER_EIDISSUED, _EKEYISSUED, _EDEVICEID, _ECERTWEAKKEY, _ECAEXPIRED, _EIO. */
int ca_issue(struct ca *ca, const struct ca_order *order, struct ca_issued *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether ca_issue would refuse the ID as the record stands now: to be asked before a key is made and a file is written. */
int ca_may_issue(const struct ca *ca, struct span device_id, bool again, struct err *err) MUSTER_MUST_CHECK;
/* One of many. */
struct ca_item {
    struct ca_order order;   /* its spans are the caller's */
    struct ca_issued issued;
    bool before;             /* the record has a certificate of this ID and this key already: that one is in `issued`, and none was made */
    struct err err;          /* code 0: it has one; else why it was refused, which the others do not feel */
};
#define CA_ITEMS_MAX JOURNAL_BATCH_MAX
/* The same for 1 to CA_ITEMS_MAX devices under one lock, on so many threads.  Fails where the CA does; then what was issued may be in the record, and
 * is found there again by ID and key. */
int ca_issue_many(struct ca *ca, struct ca_item *items, size_t n, unsigned threads, struct err *err) MUSTER_MUST_CHECK;

/* Takes a certificate back, for good, and for the reason that is given first, since a line's manifests are signed with it.  MUSTER_ENOTFOUND; _ESTATE: it was not issued, is revoked already, or is the root's or a proof. */
int ca_revoke(struct ca *ca, const char *serial, const char *reason, struct err *err) MUSTER_MUST_CHECK;
struct ca_crl {
    bool root;            /* the root's list, else that of what issues device certificates; the key has to be unlocked */
    int64_t life;         /* seconds to the next one */
    uint64_t number;      /* out */
    int64_t next_update;  /* out */
    size_t entries;       /* out */
};
/* The list of what is revoked, in PEM.  MUSTER_ECAEXPIRED. */
int ca_make_crl(struct ca *ca, struct ca_crl *crl, struct buf *pem, struct err *err) MUSTER_MUST_CHECK;
/* Of a factory line: how many devices have, or had, a certificate of it; 0 where there is no kit to hold that against. */
int64_t ca_made(const struct ca *ca);
/* Whether its kit allows the device, where so many are made; of any other CA always.  MUSTER_EKIT. */
int ca_kit_allows(const struct ca *ca, struct span device_id, int64_t made, struct err *err) MUSTER_MUST_CHECK;
/* A certificate whose subject CN is the challenge of a server (and nothing else is taken for one), by the key that is unlocked; for a key that
 * is thrown away, so that it is good for nothing else. */
int ca_prove(struct ca *ca, struct span challenge, struct ca_issued *out, struct err *err) MUSTER_MUST_CHECK;
/* The certificate of a record with what stands between it and the root, in PEM. */
int ca_chain(const struct ca *ca, const char *serial, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

/* Reads what others have written meanwhile: for whoever has waited since he opened it, for a passphrase say. */
int ca_reread(struct ca *ca, struct err *err) MUSTER_MUST_CHECK;

/* For the files of this layer: begin takes the lock, reads what others wrote meanwhile, and closes what they left open; append makes a line
 * durable and takes it in. */
int ca_begin(struct ca *ca, struct err *err) MUSTER_MUST_CHECK;
void ca_end(struct ca *ca);
int ca_append(struct ca *ca, struct span line, struct err *err) MUSTER_MUST_CHECK;
/* ca.json, strict and whole; MUSTER_ECORRUPT, or _EVERSION where a newer version wrote it.  The subject's spans point into config. */
int ca_read_config(struct span text, json_t **config, int64_t *device_life, struct err *err) MUSTER_MUST_CHECK;
int ca_write_config(const struct ca_init *init, int64_t now, struct buf *out) MUSTER_MUST_CHECK;
struct subject ca_subject(const json_t *config);

static inline void ca_issued_fini(struct ca_issued *i) { buf_fini(&i->chain); }
DEFINE_CLEANUP_FINI(ca_close, struct ca)
DEFINE_CLEANUP_FINI(ca_issued_fini, struct ca_issued)

#endif
