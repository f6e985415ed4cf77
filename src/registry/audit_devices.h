/* audit_devices: what the log says of devices, while it is replayed: a table of bounded size.
 *
 * Devices are known by a keyed hash of their ID, the key being new each time, so that nobody can make two that fall together.  Where there are more than
 * the table may hold the log is replayed several times, each time for a part of them (audit_state.c): memory stays the same.  Used on one thread. */
#ifndef MUSTER_REGISTRY_AUDIT_DEVICES_H
#define MUSTER_REGISTRY_AUDIT_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/span.h"

#define AUDIT_DEVICES_MAX (1U << 20) /* places: 104 MiB; three quarters of them are used at most */

/* Sets of certificates are sums of keyed hashes of their fingerprints: `certs` each with the provisioning key that it came by, those that were
 * revoked each with the reason. */
struct audit_device {
    uint64_t id; /* 0: the place is free */
    uint64_t certs, certs_held;     /* that were issued, by the log; that the registry has */
    uint64_t waiting, waiting_held; /* of them, those that wait for their first use */
    uint64_t revoked, last;         /* of all, those that were revoked; of these, those that were the device's last, which are in state revoked */
    uint64_t revoked_held;          /* revoked + AUDIT_LAST times last, by the registry */
    uint64_t identity, spki;        /* keyed hashes of certificate (with its fleet root) and public key; 0: none, or not known */
    uint64_t line;                  /* audit_replay_line_mark(): the factory line that brought it, and the key with which; 0: none did */
    uint32_t accepted;              /* public keys that an operator accepted: where their list begins (audit_replay.h) */
    uint32_t entry;                 /* the last one about it */
    uint8_t states, states_before;  /* sets of bits 1 << enum device_state: what it may be */
    bool seen, granted, unsure;     /* its row was; it may come again; what waits is not known */
    bool own, loose;                /* the identity is a certificate of Muster's own; what was revoked is not known */
};

#define AUDIT_LAST 2

struct audit_devices;
struct audit_devices *audit_devices_new(uint32_t places_max); /* a power of two; NULL: out of memory */
void audit_devices_free(struct audit_devices *t);
/* Empties it, for part `part` of `parts` (a power of two). */
void audit_devices_begin(struct audit_devices *t, uint64_t part, uint64_t parts);
uint64_t audit_devices_hash(const struct audit_devices *t, struct span bytes); /* never 0 */
bool audit_devices_has_part(const struct audit_devices *t, struct span id);
struct audit_device *audit_devices_find(struct audit_devices *t, struct span id);
/* NULL: full, or out of memory. */
struct audit_device *audit_devices_add(struct audit_devices *t, struct span id);
void audit_devices_remove(struct audit_devices *t, struct audit_device *d);
/* Each one there is, in no order: start with NULL. */
struct audit_device *audit_devices_next(struct audit_devices *t, struct audit_device *d);

DEFINE_CLEANUP(audit_devices_free, struct audit_devices *)

#endif
