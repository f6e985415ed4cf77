/* audit_seal: entries of an account's log that control wrote carry a seal, and so do the lists that operators make: a code under a key that
 * stands in control.db, where the gateway does not get at it.  So the log tells what an operator did from what a captured gateway, which can
 * write the registry as it likes, only claims that he did.
 *
 * The key is set once, before the process writes anything, and is in the memory of control alone; without it nothing is sealed (the gateway). */
#ifndef MUSTER_REGISTRY_AUDIT_SEAL_H
#define MUSTER_REGISTRY_AUDIT_SEAL_H

#include "registry/audit.h"

#define AUDIT_SEAL_LEN 32

int audit_seal_load_run(struct store_tx *control, void *arg, struct err *err); /* from control.db; the first time it makes one */
/* Over what identifies the entry and all before it.  False: there is no key. */
bool audit_seal_make(int64_t chain, int64_t seq, const struct hash *hash, uint8_t out[AUDIT_SEAL_LEN]);
/* For an entry that is being written; in the transaction that it stands in. */
bool audit_seal_entry(int64_t chain, int64_t seq, const struct hash *hash, uint8_t out[AUDIT_SEAL_LEN]);
/* Whether any was since it was asked last; it may not be committed yet. */
bool audit_seal_news(void);
bool audit_seal_holds(int64_t chain, int64_t seq, const struct hash *hash, struct span seal);

/* A sum over a list whose order does not matter: it grows and shrinks with the list, and nobody without the key can make another list of the
 * same sum. */
struct audit_sum {
    uint64_t lane[4];
};
void audit_sum_add(struct audit_sum *s, int64_t account, struct span id, struct span value, bool take_away);
bool audit_sum_eq(const struct audit_sum *a, const struct audit_sum *b);
void audit_sum_join(struct audit_sum *s, const struct audit_sum *other);
void audit_sum_write(json_t *detail, const struct audit_sum *s); /* "sum"; nothing where there is no key */
bool audit_sum_read(const json_t *detail, struct audit_sum *s);

/* The logs as they stand, once: what they hold is older than seals.  In control.db; heads: of the registry (audit_heads_run). */
int audit_unsealed_wanted_run(struct store_tx *control, void *arg /* bool */, struct err *err);
int audit_unsealed_note_run(struct store_tx *control, void *arg /* const struct audit_heads */, struct err *err);
int audit_unsealed_done_run(struct store_tx *control, void *arg, struct err *err);

#endif
