/* audit_invited: what the log says of invitations, while it is replayed: a table of bounded size, by a keyed hash of the device ID, which has
 * the newest invitation of each.  Where there are more than it may hold the log is replayed in parts, as audit_devices.h says, by whose hashes
 * it goes.  Used on one thread. */
#ifndef MUSTER_REGISTRY_AUDIT_INVITED_H
#define MUSTER_REGISTRY_AUDIT_INVITED_H

#include "registry/audit_devices.h"

#define AUDIT_SERVER_KEY 1

struct audit_invited {
    uint64_t id;         /* of the device ID; 0: the place is free */
    uint64_t invitation; /* keyed hash of its UUID; 0: it was withdrawn */
    uint64_t sum;        /* of the sum that control wrote of its row (invitation.h) */
    uint64_t spent;      /* of the device's own public key that it was spent for; AUDIT_SERVER_KEY: one that Muster made; 0: it is not */
    int64_t expires;
    uint32_t entry;      /* the last one about it */
    bool seen;           /* its row was */
};

struct audit_invitations {
    struct audit_invited *at;
    uint32_t places, used, places_max;
};
void audit_invitations_begin(struct audit_invitations *t); /* empties it */
void audit_invitations_fini(struct audit_invitations *t);
struct audit_invited *audit_invited_find(struct audit_invitations *t, uint64_t id); /* NULL: not there */
/* The one that is there, or a new one.  NULL: full, or out of memory. */
struct audit_invited *audit_invited_add(struct audit_invitations *t, uint64_t id);
/* Each one there is, in no order: start with NULL. */
struct audit_invited *audit_invited_next(struct audit_invitations *t, struct audit_invited *i);

#endif
