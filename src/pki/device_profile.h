/* device_profile: what certificates of an account's devices may be: kinds of keys, lives, names besides the device ID, key usages.  That they are
 * good for clientAuth alone no profile can say otherwise.
 *
 * One for the vault, which enforces it, the registry, which asks before the vault is troubled, and control, which tells the vault: they exchange its
 * text.  Pure functions over values; whatever a field leaves out is as it was before there were profiles. */
#ifndef MUSTER_PKI_DEVICE_PROFILE_H
#define MUSTER_PKI_DEVICE_PROFILE_H

#include "base/clock.h"
#include "base/uuid.h"
#include "pki/make.h"

#define PROFILE_EST_LIFE CLOCK_YEAR    /* whoever speaks EST can renew */
#define PROFILE_NO_END INT64_MAX      /* a life without a well-defined end: RFC 5280, 4.1.2.5 */
#define PROFILE_SUBJECT_MAX 256       /* bytes */
#define PROFILE_SAN_MAX 511           /* bytes of all of them, a blank between two */
#define PROFILE_TEXT_MAX 1200         /* bytes of a profile's text */
#define PROFILE_KEYS_MAX 80           /* characters of all its words, for key kinds and for usages */
#define PROFILE_SUBJECT_DEFAULT "O={account},OU=Devices,CN={device_id}"

enum profile_key { PROFILE_KEY_P256 = 1, PROFILE_KEY_P384 = 2, PROFILE_KEY_P521 = 4, PROFILE_KEY_ED25519 = 8, PROFILE_KEY_RSA2048 = 16, PROFILE_KEY_RSA3072 = 32, PROFILE_KEY_RSA4096 = 64 };
#define PROFILE_KEYS_EC (PROFILE_KEY_P256 | PROFILE_KEY_P384 | PROFILE_KEY_P521 | PROFILE_KEY_ED25519)
#define PROFILE_KEYS_RSA (PROFILE_KEY_RSA2048 | PROFILE_KEY_RSA3072 | PROFILE_KEY_RSA4096)
#define PROFILE_USES_DEFAULT (MAKE_USE_SIGN | MAKE_USE_ENCIPHER)

struct device_profile {
    uint32_t keys;     /* enum profile_key; 0: the elliptic ones, and RSA where the account makes RSA keys */
    uint32_t usages;   /* enum make_usage; 0: PROFILE_USES_DEFAULT; what does not fit a key's kind is left out of its certificate */
    int64_t life;      /* seconds, of a device that asks for none; 0: said elsewhere */
    int64_t life_max;  /* the longest that a device may ask for; 0: life */
    int64_t est_life;  /* of a certificate by EST, where life is not shorter; 0: PROFILE_EST_LIFE */
    char subject[PROFILE_SUBJECT_MAX + 1]; /* of the certificate; "": PROFILE_SUBJECT_DEFAULT */
    char san[PROFILE_SAN_MAX + 1];         /* names besides, at most MAKE_SANS; "": none */
};

bool device_profile_eq(const struct device_profile *a, const struct device_profile *b);
bool device_profile_is_default(const struct device_profile *p);
/* Judges all of it; MUSTER_EINVALID with the reason. */
int device_profile_check(const struct device_profile *p, struct err *err) MUSTER_MUST_CHECK;

/* Its text: a line NAME=VALUE for each field that says something, in one order; "" is the default.  What is read was judged. */
void device_profile_write(const struct device_profile *p, struct buf *out);
int device_profile_read(struct span text, struct device_profile *out, struct err *err) MUSTER_MUST_CHECK;

/* Words of key kinds ("p256", …, "rsa4096") and of usages ("digital-signature", …); 0: none such. */
uint32_t device_profile_key_of(const char *word);
uint32_t device_profile_usage_of(const char *word);
const char *device_profile_key_word(uint32_t bit);   /* of one bit; NULL: none */
const char *device_profile_usage_word(uint32_t bit);

/* The account's profile, and within it what a provisioning key allows (NULL: nothing said), with every field spelt out.  life and life_max of the account
 * are given; rsa: the account makes RSA keys. */
void device_profile_effective(const struct device_profile *account, int64_t life, int64_t life_max, bool rsa, const struct device_profile *key, struct device_profile *out);
/* Whether what a key says lies within what its account allows, spelt out; MUSTER_EINVALID says what does not. */
int device_profile_narrows(const struct device_profile *account, const struct device_profile *key, struct err *err) MUSTER_MUST_CHECK;
/* Of a profile that is spelt out.  MUSTER_ECERTWEAKKEY names the kinds that it takes, and who takes them: the beginning of a sentence, "The account". */
int device_profile_key(const struct device_profile *p, const struct key_facts *k, const char *who, struct err *err) MUSTER_MUST_CHECK;
/* The life of a certificate for which a device asks for `wanted` seconds; 0: for none in particular; est: by EST, which has no place for a wish.  Of a profile that is spelt out. */
int64_t device_profile_life(const struct device_profile *p, int64_t wanted, bool est);

/* What the names in one certificate point into. */
struct device_profile_names {
    char uuid[UUID_TEXT_LEN + 1];
    struct buf text; /* empty where there is no template */
};
#define DEVICE_PROFILE_NAMES_INIT ((struct device_profile_names){.text = BUF_INIT(16 * 1024)})
void device_profile_names_fini(struct device_profile_names *n);
/* The names in one device's certificate: rq's subject, SANs and usages; they point into *names and into what was given.  A DNS name in which the device ID
 * cannot stand is left out.  device_id is of 1 to 128 bytes of UTF-8 without control characters. */
int device_profile_fill(const struct device_profile *p, struct span account, struct span device_id, const struct uuid *uuid, struct device_profile_names *names, struct make_request *rq,
                        struct err *err) MUSTER_MUST_CHECK;
DEFINE_CLEANUP_FINI(device_profile_names_fini, struct device_profile_names)

#endif
