/* enrol: a device gets its certificate with a provisioning key: POST /devices, for a key pair that Muster makes, and EST's simpleenroll, for
 * the device's own; or, there, with an invitation in its place (invitation.h).
 *
 * The same operation runs twice: as a check before the vault is asked, without a certificate, and in the transaction that takes the device
 * ID, spends the budget and stores the certificate.  enrol_decide() is the whole rule, a pure function over facts. */
#ifndef MUSTER_REGISTRY_ENROL_H
#define MUSTER_REGISTRY_ENROL_H

#include "pki/make.h"
#include "registry/hook.h"
#include "registry/invitation.h"
#include "registry/own_key.h"

enum enrol_how {
    ENROL_REFUSED,
    ENROL_NEW,     /* a device that was not known; spends the key's budget, or the invitation */
    ENROL_AGAIN,   /* the answer was lost, with the key that Muster had made: a further certificate, no budget */
    ENROL_REPLACE, /* a known device, wiped, comes again; likewise */
    ENROL_ASK,     /* refused, but the wish is written down */
    ENROL_SAME,    /* the certificate that it got for this very key: nothing is issued, and nothing changes */
};

struct enrol_facts {
    int64_t now, now_ms, newest; /* newest: time of the newest audit entry */
    const char *address;         /* of the device */
    struct span device_id;
    unsigned leave_out;          /* enum enrol_leave_out */
    const struct account *account;
    const struct prov_key *key;          /* NULL: an invitation in its place */
    const struct invitation *invitation; /* of the device ID, and of the code that was brought */
    bool invited_waits;                  /* it was spent for a key that Muster made, whose certificate waits for its first use */
    bool server_keygen;                  /* EST: the device asks for a key that Muster makes */
    const struct device *device; /* NULL: the ID is free */
    int64_t waiting_key;         /* the key whose certificates for the device wait for their first use; 0: none waits */
    int64_t certificates_since;  /* when the first of the device's last REPLACE_MAX certificates was made; 0: it has had fewer */
    bool expected;               /* the ID was announced */
    bool pinned;                 /* together with a public key that is not the one of the request; no key that Muster makes is */
    const struct key_facts *own; /* the device's own key, of its request; NULL: Muster makes one */
    enum own_key own_is;
    bool shut;                   /* the root that the account issues under lets nobody in (root_way.h): nothing is issued */
    bool same_shut;              /* nor does the one that `same` leads to: that is not given */
    bool same;                   /* the provisioning key, or the invitation, gave the device a certificate for that key, which is live or waits for its first use */
    bool over;                   /* an enrolment of that key had given it one, which the device never used, and it is good for nothing any more: it has ended, or its root has, or is shut while
                                  * another one issues (root_way.h) */
    bool asks;                   /* somebody is asked before (hook.h), and this is what he has said */
    struct hook_answer answer;
    int64_t last_hour, oldest;   /* enrolments that the key paid for within an hour, and when the first of them was */
    int64_t hour_ahead;          /* besides those that a clock has written that ran ahead, which count no more */
};
struct enrol_verdict {
    enum enrol_how how;
    struct err err;           /* why not, for REFUSED and ASK */
    enum device_state state;  /* of a new device */
    int withheld;             /* where the device has a key of its own: why it waits for its certificate; MUSTER_EPENDING, MUSTER_EUNEXPECTED, 0: it does not */
    bool anew;                /* of ENROL_AGAIN: no answer that was lost a moment ago, but another certificate, since the one before is over */
    bool ask;                 /* of ENROL_ASK: it is the hook that is asked (hook.h), and not an operator */
    struct err shadow;        /* what a profile that is tried would have said (profile.h) */
};
void enrol_decide(const struct enrol_facts *f, struct enrol_verdict *out);
/* Whether it is a certificate that somebody is asked about before (hook.h): any but the same answer once more. */
bool enrol_is_asked_for(const struct enrol_verdict *v);

/* Names that no device may have, because they name the server: the gateway's host names (hosts[0] with every name under it: the
 * accounts') and its loopback addresses.  Compared without case. */
struct enrol_reserved {
    const char *const *hosts;
    size_t n;
};
bool enrol_is_reserved(const struct enrol_reserved *r, struct span device_id); /* NULL: nothing is */

/* What an explanation does not ask about. */
enum enrol_leave_out { ENROL_ANY_ID = 1, ENROL_ANY_ADDRESS = 2 };

struct enrol {
    struct hash key_spki;     /* the provisioning key that the connection proved */
    const struct hash *code;  /* or: of the invitation that the request brings; NULL: none.  `account` is named then */
    bool server_keygen;       /* EST's serverkeygen, which the account has to allow; without `own` */
    struct span device_id;
    const char *address;
    const char *account;      /* that the connection's host name, or the path, names; "" none */
    const struct enrol_reserved *reserved;
    const struct key_facts *own; /* the device's own key, whose possession it proved; NULL: Muster makes one */
    /* The certificate, once it was signed; NULL: check alone. */
    const struct made_cert *cert;
    struct uuid uuid;         /* of a new device; made by the caller */
    const struct hash *server_ca; /* SPKI of the newest server CA that the answer will have; NULL: it has none */
    /* For explaining alone, never with a certificate: enum enrol_leave_out, and a time that is not now (0: it is). */
    unsigned leave_out;
    int64_t at;
    /* out */
    struct enrol_verdict verdict;
    char account_name[ACCOUNT_NAME_MAX + 1];
    struct uuid device;       /* the device's id: `uuid`, or that of the known one */
    enum device_key_kind device_key;
    struct device_profile profile; /* what the certificate may be, spelt out; and what of that is the key's to say */
    struct device_profile narrow;
    struct buf same;          /* DER of ENROL_SAME; the caller frees it */
};
/* 0 with a verdict; only failures of the storage are errors.  Without a certificate and in a reading transaction an ASK is not written. */
int enrol_run(struct store_tx *tx, void *arg, struct err *err);

#endif
