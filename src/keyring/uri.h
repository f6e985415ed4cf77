/* keyring/uri: the names of keys and places (keyring.h), taken apart and put together. */
#ifndef MUSTER_KEYRING_URI_H
#define MUSTER_KEYRING_URI_H

#include "keyring/keyring.h"

#define URI_ID_MAX 64
#define URI_PATH_MAX 512

/* Where a PIN comes from; both "": there is none. */
struct pin_source {
    char file[URI_PATH_MAX], env[64];
};

struct keyring_uri {
    enum keyring_place place;
    char path[URI_PATH_MAX]; /* the file; the TPM's device, "" for the usual one; the PKCS#11 module, "" for the usual one */
    struct pin_source pin, owner;
    char token[33], serial[17], manufacturer[33], model[17], object[81]; /* "": any */
    char library_manufacturer[33], library_description[33], library_version[8], slot_description[65], slot_manufacturer[33];
    char module[65]; /* by its name; path comes first */
    uint8_t id[URI_ID_MAX];
    size_t id_n; /* 0: any */
    bool has_slot, has_spki;
    unsigned long slot;
    uint32_t handle; /* 0: none was named */
    struct hash spki;
};

int uri_parse(const char *text, struct keyring_uri *out, struct err *err) MUSTER_MUST_CHECK;
int uri_write(const struct keyring_uri *u, char out[KEYRING_URI_MAX], struct err *err) MUSTER_MUST_CHECK;

#endif
