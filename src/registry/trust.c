/* trust: see trust.h. */
#include "registry/trust.h"

#include <stdbool.h>

static _Atomic uint64_t own = 1;
static _Atomic uint64_t *word = &own;
static atomic_bool changing;

void trust_share(_Atomic uint64_t *shared) { word = shared; }
uint64_t trust_word(void) { return atomic_load(word); }

void trust_change(void) {
    atomic_store(&changing, true);
    atomic_fetch_add(word, 1);
}

/* A verdict that somebody found in between, by the registry as it was before the commit, ends with the second change. */
void trust_committed(void) {
    if (atomic_exchange(&changing, false))
        atomic_fetch_add(word, 1);
}
