/* key_weak: public keys of a good kind and length that others can sign with all the same.  Looked for where Muster certifies a key; what another CA has
 * certified is that CA's word.
 *
 * RSA: RFC 8017, 3.1 (an odd exponent), of at least 65537; of SP 800-56B, 6.4.2, an odd modulus without a factor up to 751 that is neither square nor prime;
 * and none of CVE-2017-15361.  Ed25519: no point of small order, in any of its encodings (RFC 8032, 5.1; the list is libsodium's,
 * ge25519_has_small_order). */
#ifndef MUSTER_PKI_KEY_WEAK_H
#define MUSTER_PKI_KEY_WEAK_H

#include "pki/key.h"

#define KEY_ED25519_POINT_LEN 32

/* MUSTER_ECERTWEAKKEY, of a key that key_acceptable() takes; what is cheap to see. */
int key_weak_fault(const EVP_PKEY *key, const struct key_facts *k, struct err *err) MUSTER_MUST_CHECK;
/* And what is not, of the key of a request: whether it is RSA with a prime for its modulus.  MUSTER_ECSR.  It is one exponentiation, ten milliseconds for 4096 bits: where a device asks,
 * behind everything else that may refuse it. */
int key_check_prime(struct span public_der, const struct key_facts *k, struct err *err) MUSTER_MUST_CHECK;
bool key_ed25519_is_small(const uint8_t point[KEY_ED25519_POINT_LEN]);

#endif
