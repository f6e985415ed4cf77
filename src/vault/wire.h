/* vault/wire: the messages between a vault and its clients, and of an export.  One message a SOCK_SEQPACKET record.
 *
 *   request   u32 id (not 0), u16 number (requests.def), fields
 *   answer    u32 id, u16 number | 0x8000, bytes code ("" for success: err_code()), then the result's fields,
 *             or u32 retry_after and bytes text
 *   event     u32 0, u16 EXPORT_WANTED, fields
 *
 * Integers are big endian, `bytes` are u16 length and content, booleans one byte 0 or 1.  Reading is strict: a value out of its
 * shape, or a byte left over, fails the whole message.  Spans that are read point into the message.  Only the shape is judged here;
 * what the values mean is policy.c's.  Used by client.c, serve.c and export*.c; fuzzed. */
#ifndef MUSTER_VAULT_WIRE_H
#define MUSTER_VAULT_WIRE_H

#include "base/cursor.h"
#include "vault/process.h"

#define WIRE_MESSAGE_MAX (64 * 1024)
#define WIRE_ANSWER_BIT 0x8000
#define WIRE_EXPORT_WANTED 0x4001
#define WIRE_WORKING 0x4002 /* an event without fields: the vault is well, and a request of this channel waits for the token */

enum wire_type {
#define R(NAME, name, number, channels, needs) WIRE_##NAME = number,
#include "vault/requests.def"
#undef R
};

struct wire_request {
    uint32_t id;
    enum wire_type type;
    union {
        uint64_t log_version;           /* HELLO */
        struct vault_issue issue;       /* ISSUE */
        struct vault_account account;   /* ACCOUNT_CREATE, ACCOUNT_POLICY */
        struct span nonce;              /* TIME_SIGN */
        struct span name;               /* ACCOUNT_SHOW, ACCOUNT_DELETE, ISSUING_RENEW */
        struct vault_key_issue key;     /* KEY_ISSUE */
        struct vault_line_issue line;   /* LINE_ISSUE */
        struct vault_root_rotate rotate; /* ROOT_ROTATE */
        struct {
            struct span names[VAULT_NAMES_MAX];
            size_t n;
            struct span public_key;
        } server;                       /* SERVER_ISSUE */
        struct {
            struct vault_head at[VAULT_HEADS_MAX];
            size_t n;
        } heads;                        /* HEADS_SIGN */
        struct {
            uint8_t nonce[VAULT_NONCE_LEN];
            bool allowed;
        } export;                       /* EXPORT_ANSWER */
        struct vault_crl_begin crl;     /* CRL_BEGIN */
        struct {
            struct crl_entry at[VAULT_CRL_PIECE];
            size_t n;
        } entries;                      /* CRL_ENTRIES */
        struct vault_ocsp ocsp;         /* OCSP_SIGN */
        struct vault_server_rotate server_rotate; /* SERVER_ROTATE */
        struct hash spki;               /* SERVER_RETIRE */
    };
};

struct wire_answer {
    uint32_t id;
    enum wire_type type;
    int rc;                             /* 0 or MUSTER_E…; then only the next two count */
    int retry_after;                    /* seconds */
    struct span text;
    union {
        struct {
            uint64_t version;
            bool changed;
        } version;                      /* HELLO, ACCOUNT_DELETE */
        int64_t time;                   /* TIME */
        struct vault_time_signed time_signed; /* TIME_SIGN */
        struct vault_issued issued;     /* ISSUE, KEY_ISSUE, LINE_ISSUE, SERVER_ISSUE */
        struct vault_account_view view; /* ACCOUNT_CREATE, _POLICY, _SHOW, ISSUING_RENEW, ROOT_ROTATE */
        struct vault_server_view server; /* SERVER_CA, _ROTATE, _RETIRE */
        struct span der;                /* AUDIT_KEY, CRL_ENTRIES */
        struct {
            int64_t time;
            struct span signature;
        } heads;                        /* HEADS_SIGN */
        struct vault_crl_begun begun;   /* CRL_BEGIN */
        struct {
            struct span front, tail;
        } crl;                          /* CRL_SIGN */
        struct vault_ocsp_signed ocsp;  /* OCSP_SIGN */
    };                                  /* EXPORT_ANSWER: nothing */
};

/* The number and id at the front; false where there is not even that. */
bool wire_peek(struct span message, uint32_t *id, uint16_t *number);
/* "account_create", or NULL for a number that there is not. */
const char *wire_name(uint16_t number);

/* MUSTER_EINVALID on any fault of shape; MUSTER_ENOMEM where out cannot hold the message. */
int wire_request_read(struct span message, struct wire_request *out) MUSTER_MUST_CHECK;
int wire_request_write(const struct wire_request *rq, struct buf *out) MUSTER_MUST_CHECK;
int wire_answer_read(struct span message, struct wire_answer *out) MUSTER_MUST_CHECK;
int wire_answer_write(const struct wire_answer *a, struct buf *out) MUSTER_MUST_CHECK;
int wire_wanted_read(struct span message, struct vault_export *out) MUSTER_MUST_CHECK;
int wire_wanted_write(const struct vault_export *w, struct buf *out) MUSTER_MUST_CHECK;

/* The export socket's stream: u32 length, then one of these, once each way. */
#define WIRE_EXPORT_REQUEST_MAX (2 + VAULT_ACCOUNT_MAX + 2 + VAULT_PASSPHRASE_MAX)
#define WIRE_EXPORT_ANSWER_MAX (32 * 1024)
int wire_export_read(struct span message, struct span *account, struct span *passphrase) MUSTER_MUST_CHECK;
int wire_export_write(struct span account, struct span passphrase, struct buf *out) MUSTER_MUST_CHECK;
struct wire_export_answer {
    int rc;
    struct span text; /* of the error; or the PEM, or a status */
};
int wire_export_answer_read(struct span message, struct wire_export_answer *out) MUSTER_MUST_CHECK;
int wire_export_answer_write(const struct wire_export_answer *a, struct buf *out) MUSTER_MUST_CHECK;

/* An export's request of no account is another one, and this stands in the passphrase's place; the answer to both is a status. */
enum wire_local { WIRE_LOCAL_NONE, WIRE_LOCAL_STATUS, WIRE_LOCAL_REKEY };
struct wire_local_request {
    enum wire_local op;
    /* REKEY */
    enum key_master_kind kind;
    struct key_master_costs costs;
    struct span key; /* KEY_MASTER_LEN bytes */
};
int wire_local_read(struct span message, struct wire_local_request *out) MUSTER_MUST_CHECK;
int wire_local_write(const struct wire_local_request *rq, struct buf *out) MUSTER_MUST_CHECK;
int wire_status_read(struct span message, struct vault_status *out) MUSTER_MUST_CHECK;
int wire_status_write(const struct vault_status *s, struct buf *out) MUSTER_MUST_CHECK;

/* Shared with the sealed records: the same primitives, one way to write a field. */
void wire_put_bytes(struct buf *b, struct span s); /* fails the buffer where s has over 65535 bytes */
void wire_put_policy(struct buf *b, const struct vault_policy *p);
struct span wire_get_bytes(struct cursor *c);
bool wire_get_bool(struct cursor *c);
int wire_get_end(const struct cursor *c); /* of a message; MUSTER_EINVALID: a field was not right, or something follows */
/* Codes travel by their stable names: two ends of different builds must not take one error for another.  0 is no name. */
int wire_get_code(struct cursor *c);
void wire_put_code(struct buf *b, int rc);
void wire_get_fixed(struct cursor *c, uint8_t *out, size_t n); /* zeros where there are not so many bytes */
void wire_get_policy(struct cursor *c, struct vault_policy *p);
void wire_get_policy_before_profiles(struct cursor *c, struct vault_policy *p); /* of records that were written then */
/* wire_ocsp.c */
void wire_get_ocsp(struct cursor *c, struct vault_ocsp *o);
void wire_put_ocsp(struct buf *b, const struct vault_ocsp *o);

#endif
