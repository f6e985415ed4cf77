/* trust: a word that tells whether anything has changed on which a judgement rests, at the cost of reading memory.
 *
 * The processes of a server share it.  Whoever raises the registry's epoch changes it twice: before the commit and behind it, before anybody
 * is answered.  So a verdict that was found while the word had a value is the registry's for as long as it has that value, and a change that
 * an operator was told of holds for every verdict that anybody kept.  Changes by a process of another server are seen by the epoch alone. */
#ifndef MUSTER_REGISTRY_TRUST_H
#define MUSTER_REGISTRY_TRUST_H

#include <stdatomic.h>
#include <stdint.h>

/* The word that the processes share; before the first thread.  Without it the process has one of its own. */
void trust_share(_Atomic uint64_t *shared);
uint64_t trust_word(void);   /* from any thread */
/* In the transaction that raises the epoch. */
void trust_change(void);
/* Behind each commit, before its answers. */
void trust_committed(void);

#endif
