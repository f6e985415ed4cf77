/* keyring/tpm_wire: the few commands of a TPM 2.0 (TCG, TPM 2.0 Library, Part 3) that a signing key needs, as bytes; and its answers, read strictly.  Used by tpm.c;
 * fuzzed. */
#ifndef MUSTER_KEYRING_TPM_WIRE_H
#define MUSTER_KEYRING_TPM_WIRE_H

#include "base/buf.h"
#include "pki/key_elsewhere.h"

#define TPM_MESSAGE_MAX 4096
#define TPM_HEAD_LEN 10
#define TPM_HANDLES_MAX 254
#define TPM_UNIQUE_LEN 32

#define TPM_CREATE_PRIMARY 0x131u
#define TPM_EVICT_CONTROL 0x120u
#define TPM_FLUSH_CONTEXT 0x165u
#define TPM_GET_CAPABILITY 0x17au
#define TPM_READ_PUBLIC 0x173u
#define TPM_SIGN 0x15du

/* A key on a curve, as a TPM describes it. */
struct tpm_public {
    uint8_t point[2 * KEY_ELSEWHERE_WIDTH_MAX + 1]; /* uncompressed */
    size_t n;
};
struct tpm_handles {
    uint32_t handle[TPM_HANDLES_MAX];
    size_t n;
};

/* Each appends one command.  Authorisation by password (TPM_RS_PW): `owner` the storage hierarchy's, `pin` the key's. */
void tpm_create_primary(struct buf *b, struct span owner, struct span pin, const uint8_t unique[2 * TPM_UNIQUE_LEN]);
void tpm_evict_control(struct buf *b, struct span owner, uint32_t object, uint32_t persistent);
void tpm_flush_context(struct buf *b, uint32_t object);
void tpm_get_handles(struct buf *b, uint32_t from);
void tpm_read_public(struct buf *b, uint32_t object);
void tpm_sign(struct buf *b, uint32_t key, struct span pin, struct span digest);

/* The length that an answer's head of TPM_HEAD_LEN bytes announces; 0: it is none. */
size_t tpm_answer_len(struct span head);
/* The response code of a whole answer (Part 2, 6.6), and what is behind it; MUSTER_EINVALID where it is none. */
int tpm_answer(struct span answer, uint32_t *rc, struct span *rest) MUSTER_MUST_CHECK;
/* Of the rest of a successful answer. */
int tpm_read_created(struct span rest, uint32_t *object, struct tpm_public *out) MUSTER_MUST_CHECK;
int tpm_read_described(struct span rest, struct tpm_public *out) MUSTER_MUST_CHECK;
int tpm_read_handles(struct span rest, struct tpm_handles *out) MUSTER_MUST_CHECK;
int tpm_read_signature(struct span rest, uint8_t *rs, size_t width) MUSTER_MUST_CHECK;

#endif
