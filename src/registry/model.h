/* model: the words of the registry as types.  Numbers stand in the database and are never reused; texts stand in the API. */
#ifndef MUSTER_REGISTRY_MODEL_H
#define MUSTER_REGISTRY_MODEL_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/uuid.h"
#include "pki/cert.h"

#define ACCOUNT_NAME_MAX 32
#define DEVICE_ID_MAX 128      /* bytes */
#define NAME_MAX_BYTES 64      /* names of keys and tokens */
#define CHALLENGE_PREFIX "muster-challenge-"
#define REISSUE_MAX 8          /* further certificates of one enrolment */
#define REPLACE_MAX 24         /* certificates of one device in a day, after which it is not replaced again without an operator */
#define REISSUE_GAP_MS 500     /* between two of them; the stock client resends after 1 s */
#define OFFERS_MAX 16          /* foreign keys remembered for one device */
#define ROOTS_MAX 64           /* of an account */
#define ROOT_NAMESAKES_MAX 4   /* of them, with one subject */
#define DEVICE_LIFE (20 * CLOCK_YEAR)        /* seconds; of an account, where nobody says another (as the next two, which stand in migration 10 too) */
#define LATE_RENEWAL (90 * CLOCK_DAY)
#define SUPERSEDED_RENEWAL (30 * CLOCK_DAY)
#define ACCOUNT_TRIED_MAX 511   /* bytes of what is tried (tried.h) */
#define KEY_TRIED_MAX 1663
#define ROOT_TRIED_MAX 191
#define CLOCK_TOLERANCE 300    /* seconds that the clock may be behind the log */
#define CLOCK_AHEAD CLOCK_HOUR /* what was written for a time so much later than now, a clock has written that ran ahead: nobody waits for that day */

enum account_kind { ACCOUNT_TEST = 1, ACCOUNT_PRODUCTION = 2 };
enum account_backend { BACKEND_SEALED = 1, BACKEND_PKCS11 }; /* where private keys of CAs are */
enum account_method { METHOD_SHARED = 1, METHOD_DEVICE = 2, METHOD_BOTH = 3 }; /* bits */
enum account_state { ACCOUNT_MAKING = 1, ACCOUNT_ACTIVE = 2, ACCOUNT_DELETED = 3 };
enum reprovision { REPROVISION_NEVER = 1, REPROVISION_ASK = 2, REPROVISION_REPLACE = 3 };
/* Whether somebody is asked before a certificate is issued (hook.h): for new devices, for renewals too; or asked, and issued whatever he says. */
enum hook_rule { HOOK_OFF = 1, HOOK_NEW = 2, HOOK_ALL = 3, HOOK_TRY = 4 };
enum device_key_kind { DEVICE_KEY_P256 = 1, DEVICE_KEY_RSA = 2 };

enum ca_kind { CA_ISSUING = 1, CA_PROVISIONING = 2 };
enum root_origin { ROOT_UPLOADED = 1, ROOT_MUSTER = 2 };
enum root_state { ROOT_UNPROVED = 1, ROOT_ACTIVE = 2, ROOT_KNOWN_ONLY = 3, ROOT_DISABLED = 4, ROOT_RETIRED = 5, ROOT_REVOKED = 6 };
enum key_rule { KEY_RULE_REFUSE = 1, KEY_RULE_ASK = 2, KEY_RULE_ANNOUNCED = 3 };

/* Where a fleet root, or a CA below it, has expired: nobody gets in, or devices that are registered with the key they show. */
enum expired_rule { EXPIRED_REFUSE = 1, EXPIRED_KNOWN = 2 };

enum key_state { KEY_ACTIVE = 1, KEY_BLACKLISTED = 2, KEY_EXPIRED = 3, KEY_EXHAUSTED = 4 }; /* the last two follow, and are not stored */

enum device_state { DEVICE_ACTIVE = 1, DEVICE_PENDING = 2, DEVICE_QUARANTINED = 3, DEVICE_REVOKED = 4, DEVICE_DELETED = 5 };
enum again { AGAIN_NO = 0, AGAIN_ASKED = 1, AGAIN_GRANTED = 2, AGAIN_REFUSED = 3 }; /* a device that wants to come again */
/* What a certificate is to its device.  Whether it was revoked stands beside it (cert.revoked); REVOKED: it was the device's last one. */
enum cert_state { CERT_ISSUED = 1, CERT_CURRENT = 2, CERT_VOID = 3, CERT_SUPERSEDED = 4, CERT_REVOKED = 5 };

/* CRLReason of RFC 5280 5.3.1, as far as it fits a device's certificate and is for good. */
enum revoke_reason { REASON_UNSPECIFIED = 0, REASON_KEY_COMPROMISE = 1, REASON_AFFILIATION = 3, REASON_SUPERSEDED = 4, REASON_CESSATION = 5, REASON_PRIVILEGE = 9 };

enum role { ROLE_OWNER = 1, ROLE_OPERATOR = 2, ROLE_AUDITOR = 4, ROLE_FACTORY = 8 }; /* bits, for tables of who may */

/* The texts of one enumeration: words[number], NULL where there is no such number. */
struct words {
    const char *const *word;
    int n;
};
extern const struct words WORDS_ACCOUNT_KIND, WORDS_METHOD, WORDS_ACCOUNT_STATE, WORDS_REPROVISION, WORDS_DEVICE_KEY, WORDS_HOOK, WORDS_BACKEND, WORDS_ROOT_ORIGIN,
    WORDS_ROOT_STATE, WORDS_KEY_RULE, WORDS_EXPIRED_RULE, WORDS_KEY_STATE, WORDS_DEVICE_STATE, WORDS_AGAIN, WORDS_CERT_STATE, WORDS_REVOKE_REASON, WORDS_ROLE;
const char *word_of(const struct words *w, int64_t number);  /* "?" where there is none */
int word_parse(const struct words *w, const char *text);      /* 0: none */
/* "a, b or c", for errors. */
void words_list(const struct words *w, struct buf *out);

/* A lower-case DNS label of at most 32 characters. */
int account_name_check(struct span name, struct err *err) MUSTER_MUST_CHECK;
/* 1 to 128 bytes of UTF-8 without control characters, and not of the reserved prefix. MUSTER_EDEVICEID, MUSTER_EIDTAKEN. */
int device_id_check(struct span id, struct err *err) MUSTER_MUST_CHECK;
/* And of a device that comes new also: every character can be seen (base/unseen.h).  Devices that are in with another ID stay in. */
int device_id_check_new(struct span id, struct err *err) MUSTER_MUST_CHECK;
/* The pattern of a provisioning key: `*` any characters, `?` one, `[…]` one of a set, `[^…]` one of the others; "" allows all. */
bool id_pattern_match(const char *pattern, struct span id);
int id_pattern_check(const char *pattern, struct err *err) MUSTER_MUST_CHECK;
/* Networks in CIDR form, separated by blanks; "" allows all.  The address as text. */
bool sources_match(const char *sources, const char *address);
int sources_check(const char *sources, struct err *err) MUSTER_MUST_CHECK;

/* What counts against somebody for a while: whether it was so short a time ago. */
bool within(int64_t then, int64_t window, int64_t now);
/* Likewise what is good for somebody: what a clock has written that ran ahead was just now, and a window of 0 stays shut. */
bool lately(int64_t then, int64_t window, int64_t now);

/* Who does something, for the audit log: "token:NAME", "device:ID", "key:NAME", "console", "muster". */
struct actor {
    char text[160];
};
struct actor actor_of(const char *kind, struct span name);

#endif
