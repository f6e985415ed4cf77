/* server_ca: the server CAs, by which devices trust the gateway, and which of them each device has been given.
 *
 * The vault makes them and says which are in use; their order stands here.  A device is given all that are in use at once, so that the newest one that it is
 * known to have says it all: who has only older ones depends on those.  What is not known counts as the first one.  The oldest is retired first. */
#ifndef MUSTER_REGISTRY_SERVER_CA_H
#define MUSTER_REGISTRY_SERVER_CA_H

#include "registry/registry.h"
#include "registry/row.h"

#define SERVER_CA_NAMED_MAX 20      /* devices that are named */
#define SERVER_CA_RETIRE_DAYS 90    /* a device that renews and was not seen for so long is not waited for, where nobody says another number */
#define SERVER_CA_TOLD_MAX 8

enum server_ca_state { SERVER_CA_CURRENT = 1, SERVER_CA_FORMER = 2, SERVER_CA_RETIRED = 3 };

/* What the vault says. */
struct server_ca_told {
    const struct cert *at[SERVER_CA_TOLD_MAX]; /* those in use, the oldest first; the last one is the current one */
    size_t n;
    int64_t number[SERVER_CA_TOLD_MAX]; /* out: theirs; 0 where the registry has not taken it up yet */
    bool due; /* out, in a reading transaction: the registry says something else */
};
int server_ca_told_run(struct store_tx *tx, void *arg, struct err *err);

struct server_ca_list {
    json_t *out; /* an array, the newest first; the caller's */
};
int server_ca_list_run(struct store_tx *tx, void *arg, struct err *err);

/* One of them, and who depends on it; a whole walk over the devices, in a reading transaction. */
struct server_ca_show {
    struct span id; /* its id, or its number */
    bool by_spki;   /* or this: */
    struct hash spki; /* also out */
    int64_t days;   /* over 0: it is to be retired, and named is who is in the way of that, or is cut off */
    /* out: who is not known to have a newer one */
    int64_t learn;  /* renews, and was seen in so many days: it can fetch the newer one */
    int64_t asleep; /* renews, was not seen for so long, and has a certificate that is good still */
    int64_t stuck;  /* cannot renew, however long ago it was seen: it depends on it for good */
    int64_t held;   /* any of these that is not let in now, quarantined or waiting: counted here alone */
    int64_t not_after;
    enum server_ca_state state;
    json_t *out;    /* the caller's */
};
int server_ca_show_run(struct store_tx *tx, void *arg, struct err *err);

/* The device has been given all that were in use with that one. */
struct server_ca_given {
    int64_t device;
    struct hash spki;
    bool due; /* out, in a reading transaction: it is news */
};
int server_ca_given_run(struct store_tx *tx, void *arg, struct err *err);

#endif
