/* ca_many: certificates for very many devices: `ca issue --from` and `ca sign DIR`.
 *
 * All of them are looked at before anything is made, and where one cannot be served none is.  Then it goes on in pieces: what the CA signs is durable
 * before it is delivered, and what was begun and cut off, at whatever instant, is begun again by the same command and goes on where it was. */
#ifndef MUSTER_MUSTER_CA_MANY_H
#define MUSTER_MUSTER_CA_MANY_H

#include "ca/ca.h"
#include "muster/command.h"

struct ca_many_row {
    struct span device_id;
    char where[96];     /* how errors call it: "Line 7", "car-7.csr" */
    bool done;          /* everything is in its place already; then the next three are set */
    char serial[JOURNAL_SERIAL_LEN + 1];
    int64_t not_after;
    bool clamped;
    struct buf public_key;
    char *output;       /* where its files are; owned */
    struct err err;
};
#define CA_MANY_ROW_INIT ((struct ca_many_row){.public_key = BUF_INIT(8192)})

struct ca_many;
struct ca_many_ops {
    const char *done;     /* "issued", "signed": what it did, for people */
    /* On any thread, and before anything is made: fills what is not known yet, and `done`; row->err where it cannot be served. */
    void (*survey)(struct ca_many *m, struct ca_many_row *row);
    /* On any thread: the device's public key, and what has to be durable before it is certified. */
    int (*prepare)(struct ca_many *m, struct ca_many_row *row, struct ca_order *order, struct err *err);
    /* On any thread: to where it belongs, durable. */
    int (*deliver)(struct ca_many *m, struct ca_many_row *row, const struct ca_issued *issued, struct err *err);
};
struct ca_many {
    const struct invocation *in;
    const struct ca_many_ops *ops;
    struct ca *ca;
    struct ca_many_row *rows;
    size_t n;
    unsigned threads;
    bool again;
    int64_t life;
    const char *dir;
    int fd;               /* of the directory that takes what is made */
    void *arg;            /* the command's */
    size_t made, done;    /* out: now, and before */
};
/* --jobs, or a thread a core. */
int ca_many_threads(const struct invocation *in, unsigned *out, struct err *err) MUSTER_MUST_CHECK;
int ca_many_run(struct ca_many *m, struct err *err) MUSTER_MUST_CHECK;
/* Whether the certificate in the file is of this CA, for this device, issued and not revoked: then the row is done.  1, 0 where there is no file. */
int ca_many_found(struct ca_many *m, int fd, const char *name, struct ca_many_row *row, struct err *err) MUSTER_MUST_CHECK;
void ca_many_fini(struct ca_many *m); /* rows, and the directory */

DEFINE_CLEANUP_FINI(ca_many_fini, struct ca_many)

#endif
