/* ocsp_ask: what the gateway's process asks control of OCSP, and what it is told; one message a SOCK_SEQPACKET record, integers big endian.
 *
 *   question  u32 id (not 0), account (u8 length, content), the request in DER as it came (u16 length, content)
 *   answer    u32 id, u8 OCSPResponseStatus; where that is successful: i64 this update, i64 next update, 32 bytes of `said`, u8 all, the OCSPResponse (u16 length, content)
 *
 * Control believes the gateway nothing but that somebody asks: it reads the request itself, and says what it finds in the registry.  Reading is strict; fuzzed. */
#ifndef MUSTER_REGISTRY_OCSP_ASK_H
#define MUSTER_REGISTRY_OCSP_ASK_H

#include "pki/key.h"
#include "pki/ocsp_read.h"
#include "registry/model.h"

#define OCSP_ASK_MAX (4 + 1 + ACCOUNT_NAME_MAX + 2 + OCSP_REQUEST_MAX)
#define OCSP_TOLD_MAX (32 * 1024)

struct ocsp_question {
    uint32_t id;
    struct span account, der; /* into the message */
};

struct ocsp_told {
    uint32_t id;
    enum ocsp_answer what;
    /* OCSP_SUCCESSFUL */
    int64_t this_update, next_update;
    struct hash said; /* registry/ocsp.h */
    bool all;
    struct span der;
};

/* MUSTER_EINVALID on any fault of shape; MUSTER_ENOMEM where out cannot hold the message. */
int ocsp_question_read(struct span message, struct ocsp_question *out) MUSTER_MUST_CHECK;
int ocsp_question_write(const struct ocsp_question *q, struct buf *out) MUSTER_MUST_CHECK;
int ocsp_told_read(struct span message, struct ocsp_told *out) MUSTER_MUST_CHECK;
int ocsp_told_write(const struct ocsp_told *t, struct buf *out) MUSTER_MUST_CHECK;

#endif
