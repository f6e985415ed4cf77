/* explain: what the gateway would say to a chain of certificates, without a device and without a trace.
 *
 * The gateway's own functions run over the registry as it is: identity_judge_at(), verdict_of(), admit_run(), enrol_run().  Where admission
 * would write (a first contact, a first use), the writing runs too, in a transaction that is always undone: the verdict behind it is the
 * one that a device would get, and nothing of it stays.
 *
 * Asked in an account's name: a certificate that the gateway would take for another account's is of another account here, and nothing else
 * is said about it. */
#ifndef MUSTER_VERIFIER_EXPLAIN_H
#define MUSTER_VERIFIER_EXPLAIN_H

#include "json/json.h"
#include "verifier/verifier.h"

#define CHAIN_FILE_MAX 32 /* certificates that are read; the gateway takes 8, and says so */

struct explain {
    const char *account;               /* the account that is asked */
    const char *host;                  /* that the client asks for by SNI and Host alike; "" the gateway's bare name */
    const char *address;               /* of the client; "" not asked about */
    const char *device_id;             /* that an enrolment with a provisioning key asks for; "" any */
    bool enrolment;                    /* POST /devices */
    bool any_request;                  /* what the certificate is for: a provisioning key's enrols, another's does not */
    int64_t at;                        /* the time; 0: now */
    const char *const *hosts;          /* of the gateway */
    size_t n_hosts;
    struct cert *chain[CHAIN_FILE_MAX]; /* leaf first; explain_fini() frees them.  None: a client without a certificate */
    size_t n_chain;
    /* out */
    bool must_write;                   /* ask once more, in a writing transaction */
    bool decided;
    bool recovery;         /* the server issues nothing */
    bool known, registers; /* the device was there before; it would be registered */
    struct identity *id;
    struct err verdict;                /* code 0: admitted */
    int64_t renewable_until;           /* refused, and good for a renewal until then; 0: not */
    json_t *out;
};
/* In a reading transaction.  With must_write set, explain_write_run() has to follow. */
int explain_run(struct store_tx *tx, void *arg, struct err *err);
/* In a writing transaction.  Never returns 0, so that the store undoes it; `decided` says whether it came to its end. */
int explain_write_run(struct store_tx *tx, void *arg, struct err *err);
void explain_fini(struct explain *e);

/* The rule behind a code, as a sentence that does not hold where the code is the verdict; NULL: none of the gateway's judgement. */
const char *rule_of(int code);

#endif
