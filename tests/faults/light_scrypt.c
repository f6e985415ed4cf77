/* light_scrypt: a library for LD_PRELOAD that lets `muster ca` seal its keys under a passphrase for a fortieth of the work, so that hundreds of its commands cost
 * the tests no minutes, for tests/integration.  What the real program seals with, test_ca looks at.  It is a part of no program that is installed. */
#include <dlfcn.h>
#include <stdint.h>

#include <openssl/x509.h>

__attribute__((visibility("default"))) X509_ALGOR *PKCS5_pbe2_set_scrypt(const EVP_CIPHER *cipher, const unsigned char *salt, int saltlen, unsigned char *iv, uint64_t n, uint64_t r, uint64_t p) {
    static X509_ALGOR *(*real)(const EVP_CIPHER *, const unsigned char *, int, unsigned char *, uint64_t, uint64_t, uint64_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "PKCS5_pbe2_set_scrypt");
    return real(cipher, salt, saltlen, iv, n / 8, r, p / 5 ? p / 5 : 1);
}
