/* refusal: what was refused at the gateway, kept for those who have to find out why.
 *
 * The gateway collects refusals in memory (gateway/refusal_ring.h) and hands them over in batches; refusal_keep_run() finds out whom each
 * one concerns and writes it down.  The same refusal on one day is one record with a count.  Nothing rests on these records: what a crash
 * takes with it is gone, and no refusal waits for its record.
 *
 * Bounds: each account has two rings, one of devices that proved a registered key and one of everybody else, and strangers have one of
 * their own; inside of them a source (a device, or a network address) has a share.  So nobody pushes out the records of another account,
 * or of devices that are known.  Secrets never get here: no body, no query, no header but User-Agent. */
#ifndef MUSTER_REGISTRY_REFUSAL_H
#define MUSTER_REGISTRY_REFUSAL_H

#include "pki/chain.h"
#include "registry/registry.h"
#include "registry/row.h"

#define REFUSALS_KNOWN 5000    /* of an account: devices that proved their key */
#define REFUSALS_SHADOW 5000   /* of an account: devices that what is tried would have refused; none of them pushes out who was refused */
#define REFUSALS_UNKNOWN 1000  /* of an account: everybody else who named it */
#define REFUSALS_STRANGERS 2000
#define REFUSALS_SOURCE 64     /* of one source, in any of them */
#define REFUSAL_AGE (30 * CLOCK_DAY)
#define REFUSAL_ORDER_SLACK 10 /* seconds: rows stand in the order in which they were written, once a second by each loop */
#define REFUSAL_CHAIN_MAX (24 * 1024) /* bytes of PEM: what 16 KiB of DER become */

/* One of them, as the gateway saw it.  Texts are sanitised: UTF-8 without control characters. */
struct refusal {
    struct uuid id;
    int64_t first, last, count;
    int code; /* MUSTER_E… */
    char reason[480];
    int64_t account, device;                   /* rows where the judgement found them; 0: to be found out here */
    char account_name[ACCOUNT_NAME_MAX + 1];   /* that the host name names; "" none */
    char device_id[DEVICE_ID_MAX + 1];         /* proven where device is not 0, otherwise claimed; "" none */
    bool key_proved;                           /* TLS proved the possession of spki's key */
    struct hash anchors[CHAIN_FOUND_MAX];      /* under which a chain was found, though a rule failed */
    size_t n_anchors;
    char address[64], source[64], host[256], method[16], path[256], tls[16], agent[128];
    bool has_certificate;
    struct hash fingerprint, spki;
    char serial[48], subject[256], issuer[256];
    char top_issuer[256];                      /* whom the last certificate of the chain names as its issuer */
    int64_t not_before, not_after;
    struct buf chain;                          /* PEM, leaf first; empty where there was no room */
};
void refusal_free(struct refusal *r); /* NULL accepted */

/* An error ID of an answer and the id of its record have the same beginning; the record's ends in zeros. */
#define REFUSAL_ID_PREFIX 10 /* bytes */
struct uuid refusal_id_of(struct uuid error_id);

/* A batch, in one transaction.  A record that cannot be placed any more (its account is gone) becomes a stranger's. */
struct refusal_keep {
    struct refusal **at;
    size_t n;
};
int refusal_keep_run(struct store_tx *tx, void *arg, struct err *err);

/* Newest first.  At most one of code, device, address, serial and fingerprint; since goes with any. */
struct refusal_list {
    struct span account;      /* .n 0: strangers */
    struct page page;
    struct span code, device, address, serial; /* device: an ID or a UUID */
    struct hash fingerprint;
    bool has_fingerprint;
    int64_t since;
};
int refusal_list_run(struct store_tx *tx, void *arg, struct err *err);

struct refusal_show {
    struct span account;      /* .n 0: whosoever it is, for tokens of the whole server */
    struct span refusal;      /* its id, or the error ID of an answer */
    json_t *out;              /* with the chain in PEM and what of the registry is nearest to it */
    struct buf *pem;          /* where not NULL: the chain is put here as well; MUSTER_ENOTFOUND where none was kept */
    char host[256], address[64], method[16], path[256]; /* out */
};
int refusal_show_run(struct store_tx *tx, void *arg, struct err *err);

#endif
