/* device_chain: the CA certificates between a device's certificate and its uploaded root, which the registry does not have by itself: a device
 * brings them.  They are kept, each set once, so that it can be said ahead which devices one of them takes along when it ends (verifier/forecast.h).
 * Kept are only such as stood on a path that held.  Nothing is admitted by what stands here. */
#ifndef MUSTER_REGISTRY_DEVICE_CHAIN_H
#define MUSTER_REGISTRY_DEVICE_CHAIN_H

#include "registry/admit.h"
#include "registry/row.h"

#define DEVICE_CHAINS_MAX 256            /* of an account; beyond, one with which every certificate has ended makes room, or further ones are not kept */
#define DEVICE_CHAIN_BYTES CHAIN_MAX_BYTES

/* The row of what the device showed: *row; 0: none is kept of it, and nothing is known of it (a verdict from an earlier connection).
 * *due: a row has to be made, or told of a certificate that ends later. */
int device_chain_find(struct store_tx *tx, const struct admit *a, const struct root *r, int64_t *row, bool *due, struct err *err) MUSTER_MUST_CHECK;
/* The same, and writes what is due. */
int device_chain_keep(struct store_tx *tx, const struct admit *a, const struct root *r, int64_t *row, struct err *err) MUSTER_MUST_CHECK;
/* A device showed this one until now, and shows another: it goes where no other device does.  row 0: nothing. */
int device_chain_release(struct store_tx *tx, int64_t row, struct err *err) MUSTER_MUST_CHECK;

/* One that was kept. */
struct device_chain {
    int64_t row, root;
    struct cert *leaf, *cas[CHAIN_MAX_CERTS]; /* owned */
    size_t n;
};
/* leaf: one certificate, DER; cas: CHAIN_MAX_CERTS - 1 at most, DER behind DER.  MUSTER_ECORRUPT: anything else.  On failure too the caller calls
 * device_chain_fini(). */
int device_chain_read(struct span leaf, struct span cas, struct device_chain *out, struct err *err) MUSTER_MUST_CHECK;
/* *out has `row` on failure too. */
int row_device_chain(struct store_row *row, struct device_chain *out, struct err *err) MUSTER_MUST_CHECK;
void device_chain_fini(struct device_chain *c);

DEFINE_CLEANUP_FINI(device_chain_fini, struct device_chain)

#endif
