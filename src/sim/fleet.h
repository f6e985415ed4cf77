/* fleet: the simulated devices, and what each has: in memory, or in a directory that a later run goes on with. */
#ifndef MUSTER_SIM_FLEET_H
#define MUSTER_SIM_FLEET_H

#include <openssl/ssl.h>

#include "agent/credentials.h"
#include "sim/options.h"

/* A key and its certificate with what stands above it, as DER: small, where there are very many. */
struct credential {
    uint8_t *key, *chain; /* PKCS#8; leaf first; owned */
    size_t key_n, chain_n; /* 0: there is none */
};
void credential_fini(struct credential *c);
int credential_set(struct credential *c, const EVP_PKEY *key, const struct cert *leaf, const struct certs *above, struct err *err) MUSTER_MUST_CHECK;
int credential_key(const struct credential *c, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
/* What the connection shows. */
int credential_use(const struct credential *c, SSL *ssl, struct err *err) MUSTER_MUST_CHECK;

enum way { WAY_KEY, WAY_CODE, WAY_ISSUED }; /* how it gets its certificate: with the provisioning key, with a code, or it has it */

struct device {
    char *id;                   /* owned */
    enum way way;
    char *code;                 /* WAY_CODE; owned */
    struct credential has;      /* its identity; none until it has enrolled */
    EVP_PKEY *next;             /* the key for which a certificate is asked */
    bool unsaved;               /* newer than its file */
};

struct fleet {
    struct device *device;
    size_t n, cap;
    struct credential key;      /* the provisioning key; none */
    struct certs anchors;
    char gateway[1024];         /* https://…, without a slash at the end */
    int state;                  /* directory; -1: none is kept */
};
#define FLEET_INIT ((struct fleet){.state = -1})

/* The fleet that the options name, with what earlier runs have kept. */
int fleet_open(const struct sim_options *o, struct fleet *out, struct err *err) MUSTER_MUST_CHECK;
void fleet_fini(struct fleet *f);
/* Writes one down, before it is used: whoever is killed loses no device.  A power cut may take it. */
int fleet_keep(const struct fleet *f, struct device *d, struct err *err) MUSTER_MUST_CHECK;
/* Writes down what is newer than its file. */
int fleet_save(struct fleet *f, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(fleet_fini, struct fleet)

#endif
