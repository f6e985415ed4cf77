/* revocation_file: certificate revocation lists (RFC 5280, 5), as an operator hands them over: one in DER, or several in PEM one behind the other.
 *
 * Complete lists alone: a delta, or one with a critical extension (an indirect one has) is refused, because what it does not say would be taken for
 * said.  Fuzzed. */
#ifndef MUSTER_PKI_REVOCATION_FILE_H
#define MUSTER_PKI_REVOCATION_FILE_H

#include "pki/cert.h"
#include "pki/crl_make.h"

#define REVOCATION_FILE_MAX (16u << 20) /* bytes */
#define REVOCATION_FILE_LISTS 64
#define REVOCATION_FILE_SERIAL_MAX 20 /* bytes (RFC 5280, 4.1.2.2) */

struct revocation_file;
/* MUSTER_EINVALID. */
int revocation_file_read(struct span file, struct revocation_file **out, struct err *err) MUSTER_MUST_CHECK;
void revocation_file_free(struct revocation_file *c); /* NULL accepted */
size_t revocation_file_lists(const struct revocation_file *c); /* 1..REVOCATION_FILE_LISTS */

/* Of list number i, what it says of itself. */
#define REVOCATION_FILE_NUMBER_MAX 20 /* bytes (RFC 5280, 5.2.3) */
struct revocation_file_facts {
    uint8_t number[REVOCATION_FILE_NUMBER_MAX];
    size_t number_n;                  /* big endian, without zeros in front; 0: it has none */
    int64_t this_update, next_update; /* next_update 0: it names none */
    struct hash hash;                 /* of the whole list, in DER */
    bool weak;                        /* its signature's hash is MD5's or SHA-1's like */
};
/* MUSTER_EINVALID */
int revocation_file_facts(const struct revocation_file *c, size_t i, struct revocation_file_facts *out, struct err *err) MUSTER_MUST_CHECK;

/* Of list number i: whether this CA issued it, by its name and its key; and how many entries it has. */
bool revocation_file_is_of(const struct revocation_file *c, size_t i, const struct cert *ca);
size_t revocation_file_entries(const struct revocation_file *c, size_t i);
/* Likewise: the key identifier of the CA that issued it, as it says itself; false: it says none of that length. */
bool revocation_file_key_id(const struct revocation_file *c, size_t i, uint8_t out[CRL_KEY_ID_LEN]);

enum { REVOCATION_FILE_UNSPECIFIED = 0, REVOCATION_FILE_HOLD = 6, REVOCATION_FILE_REMOVED = 8 }; /* of CRLReason (5.3.1), what is asked about here */
struct revocation_file_entry {
    struct span serial; /* good as long as the file is */
    int reason;         /* CRLReason; REVOCATION_FILE_UNSPECIFIED where there is none */
};
/* Entry k of list i.  MUSTER_EINVALID: it has a critical extension, or what is no serial number or reason. */
int revocation_file_entry_at(const struct revocation_file *c, size_t i, size_t k, struct revocation_file_entry *out, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(revocation_file_free, struct revocation_file *)

#endif
