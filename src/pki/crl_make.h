/* crl_make: a certificate revocation list (RFC 5280, 5), made and signed piece by piece.
 *
 * A list of 100,000 entries has some five megabytes, and whoever signs it has other things to do meanwhile.  So it is never there as a whole
 * here: its length is known before its first entry (crl_counts), the head is given out and hashed, then entries a few
 * hundred at a time, then the end with the signature.  What was announced and what came have to agree, or nothing is signed.  The list is,
 * in this order,
 *
 *   front   crl_maker_end       the outermost header
 *   head    crl_maker_new       up to and including the header of the entries
 *   …       crl_maker_add       entries, once a piece
 *   tail    crl_maker_end       extensions and signature
 *
 * Only the vault's process calls this, with the key of a CA of Muster's own (P-256). */
#ifndef MUSTER_PKI_CRL_MAKE_H
#define MUSTER_PKI_CRL_MAKE_H

#include "pki/make.h"

#define CRL_KEY_ID_LEN 20 /* bytes of a CA's subject key identifier, as make.c makes it */
#define CRL_BACKDATE 300  /* seconds that thisUpdate lies back, for verifiers whose clock is a little behind: to them a list of the future is none */
#define CRL_REASON_HOLD 6 /* certificateHold (RFC 5280, 5.3.1): may leave the list again */

struct crl_entry {
    uint8_t serial[MAKE_SERIAL_LEN]; /* of a certificate that was made by make.c: the first byte is neither 0 nor above 0x7f */
    int64_t revoked;                 /* when, and not after the list's thisUpdate; 0: nobody knows better than this list's own date */
    uint8_t reason;                  /* CRLReason; 0: unspecified, which is left out (5.3.1) */
};

/* The entries that will come: all of them, and of them those without a date, dated from 2050 on, with a reason.  Their length follows. */
struct crl_counts {
    uint32_t entries, undated, late, reasons;
};
void crl_count(struct crl_counts *c, const struct crl_entry *e);

struct crl_plan {
    uint64_t number;
    int64_t this_update, next_update;
    struct crl_counts counts;
};

/* The subject key identifier of a CA; false: it has none of that length. */
bool crl_key_id(const struct cert *ca, uint8_t out[CRL_KEY_ID_LEN]);
/* The authority key identifier of a certificate that make.c or leaf.c has made, by its DER alone, which costs nothing beside d2i_X509; false:
 * there is none.  What its subject or its key holds is never taken for it. */
bool crl_issuer_key_id(struct span der, uint8_t out[CRL_KEY_ID_LEN]);

struct crl_maker;
/* ca has a P-256 key and a subject key identifier; MUSTER_EINVALID otherwise, and for a plan without sense. */
int crl_maker_new(const struct cert *ca, EVP_PKEY *key, const struct crl_plan *plan, struct buf *head, struct crl_maker **out, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_EINVALID: a serial number or reason that no certificate of ours has, or more than was announced.  Nothing can be added or signed then. */
int crl_maker_add(struct crl_maker *m, const struct crl_entry *entries, size_t n, struct buf *der, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_EINVALID: fewer entries came than were announced, or others. */
int crl_maker_end(struct crl_maker *m, struct buf *front, struct buf *tail, struct err *err) MUSTER_MUST_CHECK;
void crl_maker_free(struct crl_maker *m); /* NULL accepted */

DEFINE_CLEANUP(crl_maker_free, struct crl_maker *)

#endif
