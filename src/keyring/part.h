/* keyring/part: what each place of keys does, behind keyring.c.  Called with a URI that was parsed and is complete enough. */
#ifndef MUSTER_KEYRING_PART_H
#define MUSTER_KEYRING_PART_H

#include "keyring/uri.h"

/* As in keyring.h. */
struct naming {
    int (*named)(void *arg, const char *uri, struct err *err);
    void *arg;
};

struct keyring_part {
    /* u: the place; becomes the key's name. */
    int (*make)(struct keyring_uri *u, const char *label, const struct naming *naming, EVP_PKEY **out, struct err *err);
    int (*open)(const struct keyring_uri *u, EVP_PKEY **out, struct err *err);
    int (*open_known)(const struct keyring_uri *u, const EVP_PKEY *public, EVP_PKEY **out, struct err *err);
    int (*has)(const struct keyring_uri *u, bool *has, struct err *err);
    int (*remove)(const struct keyring_uri *u, struct err *err);
    int (*refused)(const struct keyring_uri *u, struct err *err); /* NULL: there nobody counts */
};
extern const struct keyring_part FILE_PART, TOKEN_PART, TPM_PART;

/* A public key of a point (uncompressed, 65 or 97 bytes). */
int part_public(const uint8_t *point, size_t n, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* The key whose private half `ops` signs by, in bounded time (bounded.h).  Owns arg, in the case of an error too. */
int part_key(const EVP_PKEY *public, const struct key_elsewhere_ops *ops, void *arg, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
int part_named(const struct naming *naming, const struct keyring_uri *u, struct err *err) MUSTER_MUST_CHECK;

#endif
