/* vault: the client half.  Asks the vault's process to make certificates and to hold keys; it never sees a private key.
 *
 * Called by a gateway (its channel: vault_issue, vault_time, vault_time_sign) and by control (everything else).  A request on a channel
 * that may not make it ends the vault's process, so a caller never tries one out.
 *
 * All calls and all callbacks are on the thread of the loop that was given to vault_client_new.  A request function returns 0:
 * then `done` is called exactly once, later, never from inside the call; or a negative code: then `done` is never called.
 * Spans in requests are copied before the call returns.  Spans in results live until the callback returns; where rc is not 0 a
 * result is NULL, 0 or empty.  A callback may make further requests and may call vault_forget; it must not free the client.
 *
 * What goes wrong: MUSTER_EVAULT (no vault at the moment, it died, it did not answer in 10 s or has said nothing for 3 s while it was asked, control has not greeted it yet, or
 * it is older than the audit log; Retry-After is set), MUSTER_EBUSY (too many requests outstanding here), or the vault's own
 * refusal as the request's comment says.  The vault may have acted although MUSTER_EVAULT is reported: every changing request
 * is safe to repeat, and a certificate whose answer was lost never leaves. */
#ifndef MUSTER_VAULT_VAULT_H
#define MUSTER_VAULT_VAULT_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/uuid.h"
#include "loop/loop.h"
#include "pki/crl_make.h"
#include "pki/device_profile.h"
#include "pki/ocsp.h"
#include "pki/server_cas.h"

#define VAULT_ACCOUNT_MAX 32        /* characters of an account's name: a lower-case DNS label */
#define VAULT_DEVICE_ID_MAX 128     /* bytes */
#define VAULT_SERIAL_LEN 16         /* bytes; pki/make.h */
#define VAULT_SERVER_CA_NAME SERVER_CA_NAME /* its subject CN */
#define VAULT_NAMES_MAX 32          /* names of a server certificate */
#define VAULT_HEADS_MAX 400         /* heads under one signature; more: several requests */
#define VAULT_NONCE_LEN 16
#define VAULT_TIME_NONCE_MIN 16     /* bytes, of who asks for a signed time */
#define VAULT_TIME_NONCE_MAX 64
#define VAULT_TIME_PREFIX "Muster time 1" /* first line of what is signed then */
#define VAULT_CRL_PIECE 500         /* entries of a CRL in one request: others have their turn in between */
#define VAULT_CRL_ENTRIES_MAX 4000000 /* of one CRL */
#define VAULT_CRL_LIFE_MIN 1        /* seconds from a CRL to its next update */
#define VAULT_CRL_LIFE_MAX (400 * CLOCK_DAY)
#define VAULT_OCSP_LIFE_MIN 1       /* seconds from an OCSP answer to its next update */
#define VAULT_OCSP_LIFE_MAX (3 * CLOCK_DAY) /* half of what the responder's certificate has left when it is made */
#define VAULT_OCSP_URL_MAX 200      /* bytes, without the account */
#define VAULT_FORMER_MAX 16         /* fleet roots of an account that were rotated out and are kept */
#define VAULT_SERVER_FORMER_MAX 3   /* likewise server CAs: each is a certificate that devices are given */
#define VAULT_PASSPHRASE_MIN 8      /* bytes, of an export */
#define VAULT_PASSPHRASE_MAX 1024
#define VAULT_TIMEOUT_MS 10000      /* per request; also what control has for vault_export_answer */
#define VAULT_CHALLENGE_PREFIX "muster-challenge-" /* no device ID may begin so: a proof of possession never doubles as a device */
#define VAULT_LIFE_NONE INT64_MAX   /* a life without a well-defined end (RFC 5280, 4.1.2.5) */

enum vault_kind { VAULT_TEST = 1, VAULT_PRODUCTION = 2 };
enum vault_backend { VAULT_BACKEND_AS_IS, VAULT_BACKEND_SEALED, VAULT_BACKEND_PKCS11 }; /* where the private keys of CAs are made; keys/keys.h */
enum vault_method { VAULT_SHARED = 1, VAULT_DEVICE = 2, VAULT_BOTH = 3 }; /* a set of bits: VAULT_SHARED | VAULT_DEVICE */

/* --- the client ------------------------------------------------------------------------------------------------------- */

struct vault_client;

/* max_outstanding 1..1024 requests; above it a request returns MUSTER_EBUSY.  The client begins without a channel. */
struct vault_client *vault_client_new(struct loop *l, size_t max_outstanding, struct err *err);
/* The channel is given up, for a process that ends: what is outstanding fails now, and what is asked for later at once.  NULL accepted. */
void vault_client_end(struct vault_client *c);
/* Outstanding callbacks are not called any more. */
void vault_client_free(struct vault_client *c);
/* A channel to the vault (SOCK_SEQPACKET, from the supervisor); takes fd over, also on failure.  What is outstanding on the
 * channel before fails with MUSTER_EVAULT first.  Control greets the vault anew after each attach (vault_hello). */
int vault_client_attach(struct vault_client *c, int fd, struct err *err) MUSTER_MUST_CHECK;
bool vault_client_attached(const struct vault_client *c);
size_t vault_client_outstanding(const struct vault_client *c);
/* Called when the channel is lost (the vault died), after every outstanding request has been failed.  NULL: none. */
void vault_client_on_lost(struct vault_client *c, loop_fn fn, void *arg);
/* Drops every outstanding callback with this arg: for owners that go away before their answer comes. */
void vault_forget(struct vault_client *c, const void *arg);

/* --- on every channel --------------------------------------------------------------------------------------------------- */

typedef void (*vault_time_fn)(void *arg, int rc, const struct err *err, int64_t now);
/* The wall clock of the vault's process, seconds. */
int vault_time(struct vault_client *c, vault_time_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

/* --- the gateways' channel ------------------------------------------------------------------------------------------------ */

struct vault_issue {
    struct span account;    /* name */
    struct span device_id;  /* 1..128 bytes of UTF-8 without control characters */
    struct uuid uuid;       /* of the device in the registry: the subject CN where the device ID has more than 64 characters */
    struct span public_key; /* SubjectPublicKeyInfo, DER */
    int64_t life;           /* seconds from now; 0: the account's own; clamped to the policy's maximum and the issuer's end */
    struct span narrow;     /* what the provisioning key allows within the account's profile: text of device_profile.h; empty: all of it */
};
struct vault_issued {
    struct span der;        /* the certificate */
    struct hash issuer;     /* fingerprint of the CA certificate that signed it */
    uint8_t serial[VAULT_SERIAL_LEN];
    int64_t not_before, not_after;
};
typedef void (*vault_issue_fn)(void *arg, int rc, const struct err *err, const struct vault_issued *issued);
/* A device certificate under the account's issuing CA, by the account's profile.  MUSTER_ENOTFOUND (account), _EMETHODOFF (not a shared account), _EDEVICEID,
 * _EIDTAKEN (reserved prefix), _ECERTWEAKKEY (of no kind that the profile takes), _EINVALID (public key or narrow unreadable), _ECEILING with Retry-After (as many in this hour as the account may). */
int vault_issue(struct vault_client *c, const struct vault_issue *rq, vault_issue_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

struct vault_time_signed {
    int64_t time;           /* the vault's wall clock, seconds */
    struct span signature;  /* ECDSA, SHA-256, DER; of vault_time_message() */
    struct span certificate; /* DER: of the key, under the server CA, EKU timeStamping alone, at most a week */
};
typedef void (*vault_time_sign_fn)(void *arg, int rc, const struct err *err, const struct vault_time_signed *answer);
/* The time, and who asks for it by his nonce (VAULT_TIME_NONCE_MIN to _MAX bytes, else MUSTER_EINVALID), signed by a key that signs nothing else. */
int vault_time_sign(struct vault_client *c, struct span nonce, vault_time_sign_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* The bytes that it signs: three lines of text, VAULT_TIME_PREFIX, the time by RFC 3339, and the nonce in lower-case hex. */
void vault_time_message(int64_t time, struct span nonce, struct buf *out);

/* --- control's channel ---------------------------------------------------------------------------------------------------- */

/* `version`, here and below: the vault's version after the request.  It goes up by one with each change; `changed` says that this
 * request was one.  Control writes it into the audit entry of what it did, and greets with the newest one that its log holds. */
typedef void (*vault_hello_fn)(void *arg, int rc, const struct err *err, uint64_t version);
/* First request on a new channel.  MUSTER_EVAULT "… older than the log": a vault put back from an old copy; it then refuses everything
 * until it is started again with a newer one.  0 for log_version: the log holds none yet. */
int vault_hello(struct vault_client *c, uint64_t log_version, vault_hello_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

enum vault_policy_set {
    VAULT_SET_LIFE = 1,     /* device_life */
    VAULT_SET_LIFE_MAX = 2, /* device_life_max */
    VAULT_SET_RSA = 4,
    VAULT_SET_CEILING = 8,
    VAULT_SET_METHOD = 16,  /* vault_account_policy only */
    VAULT_SET_KIND = 32,    /* vault_account_policy only */
    VAULT_SET_PROFILE = 64,
};
struct vault_policy {
    uint32_t set;            /* of VAULT_SET_…: in requests, which fields count (others keep their value or default); in answers all */
    int64_t device_life;     /* seconds for a device that asks for none; default 20 years; at most device_life_max */
    int64_t device_life_max; /* seconds, longest life of a device certificate; default 20 years; may be VAULT_LIFE_NONE */
    bool rsa_allowed;        /* RSA keys of provisioning keys, and of devices where the profile does not say which keys; default false */
    uint32_t ceiling;        /* device certificates per clock hour; default 20000; 1..10000000 */
    struct device_profile profile; /* without lives, which are the two above */
};
struct vault_account {
    struct span name;
    enum vault_kind kind;
    enum vault_method method;
    enum vault_backend backend; /* of keys that are made from now on; AS_IS: the account's, of a new one SEALED */
    struct vault_policy policy;
};
struct vault_account_view {
    uint64_t version;
    bool changed;              /* this request changed something */
    enum vault_kind kind;
    enum vault_method method;
    enum vault_backend backend;
    struct vault_policy policy;
    /* DER; empty while the account never had the method shared */
    struct span fleet_root, issuing_ca, provisioning_ca;
    /* DER behind DER, the oldest first: fleet roots that were rotated out; and of each of them two certificates that carry trust from one to
     * the next: the next root's key signed by it, and its key signed by the next root */
    struct span former, crosses;
    struct span former_provisioning; /* likewise: provisioning CAs that were replaced */
};
typedef void (*vault_account_fn)(void *arg, int rc, const struct err *err, const struct vault_account_view *view);
/* Makes the account, with fleet root, issuing CA and provisioning CA where the method has VAULT_SHARED.  Idempotent: where the account
 * exists it gets this kind, method and policy and keeps its CAs.  MUSTER_EINVALID (name, kind, method, policy). */
int vault_account_create(struct vault_client *c, const struct vault_account *rq, vault_account_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* Changes what policy.set names (kind and method included); VAULT_SHARED for the first time makes the CAs; losing it keeps them, and
 * issues nothing any more.  MUSTER_ENOTFOUND, _EINVALID. */
int vault_account_policy(struct vault_client *c, const struct vault_account *rq, vault_account_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* MUSTER_ENOTFOUND. */
int vault_account_show(struct vault_client *c, struct span account, vault_account_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* Replaces the issuing CA where its remaining life is under the longest leaf's and a new one would live longer (changed is then
 * true); otherwise changes nothing.  MUSTER_ENOTFOUND, _EMETHODOFF. */
int vault_issuing_renew(struct vault_client *c, struct span account, vault_account_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

struct vault_root_rotate {
    struct span account;
    struct hash from; /* SPKI of the fleet root that is to be replaced */
    enum vault_backend backend; /* of these keys, and of the account's from now on; AS_IS: the account's */
};
/* A new fleet root and a new issuing CA under it, which issues from now on, and a new provisioning CA where the account's backend is another one by now than its key's; the root
 * so far is kept among the former ones, and the two certify each other.  Where the fleet root is another one than `from` it was replaced already: changes nothing.  MUSTER_ENOTFOUND, _EMETHODOFF; _EINVALID: there
 * are VAULT_FORMER_MAX former ones, or there is no such backend. */
int vault_root_rotate(struct vault_client *c, const struct vault_root_rotate *rq, vault_account_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

typedef void (*vault_version_fn)(void *arg, int rc, const struct err *err, uint64_t version, bool changed);
/* Destroys the account's CAs and their keys for good.  Absent: changed is false. */
int vault_account_delete(struct vault_client *c, struct span account, vault_version_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

struct vault_key_issue {
    struct span account;
    struct uuid key;        /* id of the provisioning key: the subject CN */
    struct span public_key; /* SubjectPublicKeyInfo, DER; P-256, or RSA-2048 where the account allows that */
    int64_t life;           /* seconds; 0: 10 years; clamped to that and to the CA's end */
};
/* A provisioning key's certificate under the account's provisioning CA.  MUSTER_ENOTFOUND, _EMETHODOFF, _ECERTWEAKKEY, _EINVALID. */
int vault_key_issue(struct vault_client *c, const struct vault_key_issue *rq, vault_issue_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

/* A factory line's own CA, for a key that the line has made and keeps. */
struct vault_line_issue {
    struct span account;
    struct span line;       /* its name: a lower-case DNS label of at most VAULT_LINE_MAX characters */
    struct span public_key; /* SubjectPublicKeyInfo, DER; P-256 or P-384, and no CA's of the account */
    int64_t life;           /* seconds; above 0; clamped to VAULT_LINE_LIFE_MAX and to the fleet root's end */
};
#define VAULT_LINE_MAX 63
#define VAULT_LINE_LIFE_MAX (35 * CLOCK_YEAR)
/* Under the account's fleet root: path length 0, EKU clientAuth, and name constraints that let it certify nothing but subjects of O=account,OU=line.
 * What it may bring in says the registry.  MUSTER_ENOTFOUND, _EMETHODOFF (no fleet root of Muster's own), _ECERTWEAKKEY, _EINVALID. */
int vault_line_issue(struct vault_client *c, const struct vault_line_issue *rq, vault_issue_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

struct vault_server_issue {
    const struct span *names; /* 1..VAULT_NAMES_MAX DNS names or IP addresses; the first is also the CN where it has at most 64 characters */
    size_t n_names;
    struct span public_key;   /* SubjectPublicKeyInfo, DER; P-256, P-384 or RSA from 2048 bits */
};
/* A server certificate under the server CA, 1 year.  MUSTER_EINVALID, _ECERTWEAKKEY. */
int vault_server_issue(struct vault_client *c, const struct vault_server_issue *rq, vault_issue_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

struct vault_server_view {
    uint64_t version;
    bool changed;               /* this request changed something */
    enum vault_backend backend; /* where the current server CA's key is */
    struct span current;        /* the server CA under which the gateway's certificates are issued, DER */
    /* As of an account's fleet roots (vault_account_view): those that were rotated out and not retired, and what carries trust between them */
    struct span former, crosses;
};
typedef void (*vault_server_fn)(void *arg, int rc, const struct err *err, const struct vault_server_view *view);
/* The server CAs. */
int vault_server_ca(struct vault_client *c, vault_server_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

struct vault_server_rotate {
    struct hash from;           /* SPKI of the server CA that is to be replaced */
    enum vault_backend backend; /* of the new one's key; AS_IS: that of the one so far */
};
/* A new server CA, under which the gateway's certificates are issued from now on; the one so far is kept, and the two certify each other.  Where the server CA is another one
 * than `from` it was replaced already: changes nothing.  _EINVALID: VAULT_SERVER_FORMER_MAX are kept, or there is no such backend. */
int vault_server_rotate(struct vault_client *c, const struct vault_server_rotate *rq, vault_server_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* The oldest one, by its SPKI, is out of use, and its key destroyed; one that is not there was retired before: changes nothing.  MUSTER_EINVALID: it is not the oldest, or the current one. */
int vault_server_retire(struct vault_client *c, const struct hash *spki, vault_server_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

typedef void (*vault_der_fn)(void *arg, int rc, const struct err *err, struct span der);
/* The public half of the key that signs audit heads: SubjectPublicKeyInfo, DER (Ed25519). */
int vault_audit_key(struct vault_client *c, vault_der_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

/* The newest entry of one audit chain. */
struct vault_head {
    struct span chain; /* name: an account's, or "" for the server's; at most VAULT_ACCOUNT_MAX bytes */
    uint64_t seq;
    struct hash hash;
};
typedef void (*vault_heads_fn)(void *arg, int rc, const struct err *err, int64_t time, struct span signature);
/* Signs n (1..VAULT_HEADS_MAX) heads together with the vault's clock. */
int vault_heads_sign(struct vault_client *c, const struct vault_head *heads, size_t n, vault_heads_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* The bytes that vault_heads_sign signs, for key_verify (pki/key.h). */
void vault_heads_message(int64_t time, const struct vault_head *heads, size_t n, struct buf *out);

/* --- certificate revocation lists (RFC 5280, 5) ----------------------------------------------------------------------------------- */

/* Of a fleet root or an issuing CA of the account, which may have been replaced.  The vault makes one at a time, for one channel: a begin ends
 * whatever was begun before.  Nobody waits for it: each request is a few hundred entries long, and others are served in between. */
struct vault_crl_begin {
    struct span account;
    uint8_t key_id[CRL_KEY_ID_LEN]; /* the CA's subject key identifier */
    int64_t life;                   /* seconds to the next update; VAULT_CRL_LIFE_MIN..VAULT_CRL_LIFE_MAX */
    struct crl_counts counts;       /* of the entries that will come; at most VAULT_CRL_ENTRIES_MAX */
};
struct vault_crl_begun {
    uint64_t number; /* above every one that this CA's lists had before, durably, whatever becomes of this one */
    int64_t this_update, next_update;
    struct span head; /* pki/crl_make.h */
};
typedef void (*vault_crl_begin_fn)(void *arg, int rc, const struct err *err, const struct vault_crl_begun *begun);
/* MUSTER_ENOTFOUND (account, or no such CA of it), _EINVALID. */
int vault_crl_begin(struct vault_client *c, const struct vault_crl_begin *rq, vault_crl_begin_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
/* n (1..VAULT_CRL_PIECE) further entries; their DER.  MUSTER_ESTATE (none was begun, or another vault is there), _EINVALID: the list is given up. */
int vault_crl_entries(struct vault_client *c, const struct crl_entry *entries, size_t n, vault_der_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;
typedef void (*vault_crl_sign_fn)(void *arg, int rc, const struct err *err, struct span front, struct span tail);
/* Signs it, where all that was announced has come.  MUSTER_ESTATE, _EINVALID. */
int vault_crl_sign(struct vault_client *c, vault_crl_sign_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

/* What is to be said of certificates of one CA (RFC 6960). */
struct vault_ocsp {
    struct span account;
    uint8_t key_id[CRL_KEY_ID_LEN]; /* the CA's: a fleet root or an issuing CA of the account, which may have been replaced */
    int64_t life;                   /* seconds to the next update; VAULT_OCSP_LIFE_MIN..VAULT_OCSP_LIFE_MAX; clamped to the end of the responder's certificate */
    struct span nonce;              /* at most OCSP_NONCE_MAX bytes; empty: none */
    struct ocsp_single at[OCSP_SINGLES_MAX];
    size_t n;                       /* 1..OCSP_SINGLES_MAX */
};
struct vault_ocsp_signed {
    int64_t this_update, next_update;
    struct span der; /* the whole OCSPResponse */
};
typedef void (*vault_ocsp_fn)(void *arg, int rc, const struct err *err, const struct vault_ocsp_signed *answer);
/* Signs it by a responder that the CA has certified for that alone, for seven days at most.  MUSTER_ENOTFOUND (account, or no such CA of it), _EINVALID. */
int vault_ocsp_sign(struct vault_client *c, const struct vault_ocsp *rq, vault_ocsp_fn done, void *arg, struct err *err) MUSTER_MUST_CHECK;

/* --- export of a fleet root's private key ------------------------------------------------------------------------------- */

/* Somebody on this machine, already known by peer credentials, asks for the fleet root's key of an account.  The vault waits
 * VAULT_TIMEOUT_MS for vault_export_answer with the nonce and gives out nothing without it. */
struct vault_export {
    uint8_t nonce[VAULT_NONCE_LEN];
    struct span account; /* exists and has a fleet root of Muster's own */
    uint32_t uid, pid;   /* of the process that asks */
};
typedef void (*vault_export_fn)(void *arg, const struct vault_export *wanted);
/* Control only.  The callback writes the audit entry; once that is durable it calls vault_export_answer(allowed true). */
void vault_client_on_export(struct vault_client *c, vault_export_fn fn, void *arg);
typedef void (*vault_done_fn)(void *arg, int rc, const struct err *err);
/* rc of done: 0, or MUSTER_ENOTFOUND where the export is not waiting any more. */
int vault_export_answer(struct vault_client *c, const uint8_t nonce[VAULT_NONCE_LEN], bool allowed, vault_done_fn done, void *arg,
                        struct err *err) MUSTER_MUST_CHECK;

/* For `musterd vault export`, blocking, up to 30 s: asks at the Unix socket `path`.  *out gets PEM: ENCRYPTED PRIVATE KEY
 * (PKCS#8, scrypt) and the fleet root's certificate.  MUSTER_EUNAVAILABLE (nobody listens), _EROLE (peer uid refused), _EINVALID
 * (passphrase under VAULT_PASSPHRASE_MIN bytes), _ENOTFOUND, _EMETHODOFF, _EVAULT (control absent, silent or against it). */
int vault_export_request(const char *path, struct span account, struct span passphrase, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(vault_client_free, struct vault_client *)

#endif
