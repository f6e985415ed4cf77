/* token_wire: the messages between the vault and the process that has the PKCS#11 module (token/process.h).  One message a SOCK_SEQPACKET record.
 *
 *   request   u32 id, u8 operation, the key's id (CKA_ID); GENERATE: bytes label; SIGN: the SHA-256 digest
 *   answer    u32 id, u8 status; OK of GENERATE: the public point, of SIGN: r and s; of others nothing; not OK: bytes text
 *
 * `bytes` are u16 length and content.  Reading is strict.  Used on both sides; fuzzed. */
#ifndef MUSTER_KEYS_TOKEN_WIRE_H
#define MUSTER_KEYS_TOKEN_WIRE_H

#include "base/buf.h"
#include "base/cleanup.h"

#define TOKEN_ID_LEN 16
#define TOKEN_DIGEST_LEN 32
#define TOKEN_POINT_LEN 65
#define TOKEN_SIGNATURE_LEN 64
#define TOKEN_LABEL_MAX 80
#define TOKEN_TEXT_MAX 300
#define TOKEN_MESSAGE_MAX 512

enum token_operation { TOKEN_GENERATE = 1, TOKEN_SIGN, TOKEN_DESTROY, TOKEN_LOOK };
enum token_status { TOKEN_OK, TOKEN_AWAY /* try again later */, TOKEN_NO_KEY, TOKEN_REFUSED };

struct token_request {
    uint32_t id;
    enum token_operation op;
    uint8_t key[TOKEN_ID_LEN];
    char label[TOKEN_LABEL_MAX + 1];
    uint8_t digest[TOKEN_DIGEST_LEN];
};
struct token_answer {
    uint32_t id;
    enum token_operation op; /* of the request: the answer's shape follows from it */
    enum token_status status;
    uint8_t point[TOKEN_POINT_LEN];
    uint8_t signature[TOKEN_SIGNATURE_LEN];
    char text[TOKEN_TEXT_MAX + 1];
};

int token_request_read(struct span message, struct token_request *out) MUSTER_MUST_CHECK;
int token_request_write(const struct token_request *rq, struct buf *out) MUSTER_MUST_CHECK;
int token_answer_read(struct span message, struct token_answer *out) MUSTER_MUST_CHECK;
int token_answer_write(const struct token_answer *a, struct buf *out) MUSTER_MUST_CHECK;

#endif
