/* rsa_pool: RSA-2048 keys made ahead.  One takes 150 ms on average and half a second at worst, which no network thread can spend.  From
 * any thread. */
#ifndef MUSTER_ISSUER_RSA_POOL_H
#define MUSTER_ISSUER_RSA_POOL_H

#include "pki/key.h"

struct rsa_pool;
/* Nothing is made before rsa_pool_want(). */
struct rsa_pool *rsa_pool_new(size_t size, struct err *err);
void rsa_pool_free(struct rsa_pool *p); /* NULL accepted */
/* From now on the pool is kept full: some account's devices get RSA keys. */
void rsa_pool_want(struct rsa_pool *p);
/* MUSTER_ERSAPOOL with Retry-After where it is empty. */
int rsa_pool_take(struct rsa_pool *p, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
size_t rsa_pool_count(struct rsa_pool *p);

#endif
