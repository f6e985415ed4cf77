/* key_elsewhere: see key_elsewhere.h. */
#undef OPENSSL_NO_DEPRECATED /* EC_KEY_METHOD: OpenSSL 3.0 offers a key of somebody else's by this, or by a whole provider */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "pki/key_elsewhere.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/obj_mac.h>
#include <pthread.h>

#include "pki/pki.h"

DEFINE_CLEANUP(EC_KEY_free, EC_KEY *)
DEFINE_CLEANUP(ECDSA_SIG_free, ECDSA_SIG *)

/* What an EC_KEY carries; owned by it. */
struct elsewhere {
    const struct key_elsewhere_ops *ops;
    void *arg;
    size_t width;
    pthread_mutex_t lock; /* over `why` */
    struct err why;
};

static int key_index = -1;
static EC_KEY_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_elsewhere(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp) {
    struct elsewhere *e = ptr;
    if (!e)
        return;
    e->ops->free(e->arg);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* A copy of such a key cannot sign: one owner is enough. */
static int leave_out(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **value, int index, long argl, void *argp) {
    *value = NULL;
    return 1;
}

static void *failed(struct elsewhere *e, const struct err *why) {
    pthread_mutex_lock(&e->lock);
    e->why = *why;
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

static ECDSA_SIG *signature_of(const uint8_t *rs, size_t width) {
    CLEANUP(ECDSA_SIG_free) ECDSA_SIG *s = ECDSA_SIG_new();
    BIGNUM *first = BN_bin2bn(rs, (int)width, NULL), *second = BN_bin2bn(rs + width, (int)width, NULL);
    if (s && first && second && ECDSA_SIG_set0(s, first, second) == 1)
        return TAKE(s);
    BN_free(first);
    BN_free(second);
    return NULL;
}

static ECDSA_SIG *sign(const unsigned char *digest, int n, const BIGNUM *kinv, const BIGNUM *r, EC_KEY *key) {
    struct elsewhere *e = EC_KEY_get_ex_data(key, key_index);
    CLEANUP(ECDSA_SIG_free) ECDSA_SIG *s = NULL;
    uint8_t rs[2 * KEY_ELSEWHERE_WIDTH_MAX], whole[KEY_ELSEWHERE_WIDTH_MAX] = {0};
    struct err why = ERR_INIT;
    if (!e || n <= 0)
        return NULL;
    size_t short_by = (size_t)n < e->width ? e->width - (size_t)n : 0;
    memcpy(whole + short_by, digest, e->width - short_by);
    if (e->ops->sign(e->arg, span_of(whole, e->width), rs, e->width, &why))
        return failed(e, &why);
    if (!(s = signature_of(rs, e->width)) || ECDSA_do_verify(digest, n, s, key) != 1) {
        if (e->ops->bad)
            e->ops->bad(e->arg);
        err_set(&why, MUSTER_EKEYGONE, "The signature that was given is not one of the key: another key has its place, and is no pair with the certificate, or what it lies in is damaged.");
        return failed(e, &why);
    }
    return TAKE(s);
}

static void prepare(void) {
    int (*whole)(int, const unsigned char *, int, unsigned char *, unsigned int *, const BIGNUM *, const BIGNUM *, EC_KEY *) = NULL;
    int (*setup)(EC_KEY *, BN_CTX *, BIGNUM **, BIGNUM **) = NULL;
    key_index = EC_KEY_get_ex_new_index(0, NULL, NULL, leave_out, free_elsewhere);
    EC_KEY_METHOD *m = key_index < 0 ? NULL : EC_KEY_METHOD_new(EC_KEY_OpenSSL());
    if (!m)
        return;
    EC_KEY_METHOD_get_sign(m, &whole, &setup, NULL);
    EC_KEY_METHOD_set_sign(m, whole, setup, sign);
    method = m;
}

static EC_KEY *public_half(const EVP_PKEY *public, size_t *width) {
    uint8_t point[2 * KEY_ELSEWHERE_WIDTH_MAX + 1];
    size_t n = 0;
    char curve[40] = "";
    if (EVP_PKEY_get_base_id(public) != EVP_PKEY_EC || EVP_PKEY_get_group_name((EVP_PKEY *)(uintptr_t)public, curve, sizeof curve, NULL) != 1)
        return NULL;
    int nid = OBJ_txt2nid(curve);
    *width = nid == NID_X9_62_prime256v1 ? 32 : nid == NID_secp384r1 ? 48 : 0;
    if (!*width || EVP_PKEY_get_octet_string_param(public, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &n) != 1)
        return NULL;
    CLEANUP(EC_KEY_free) EC_KEY *ec = EC_KEY_new_by_curve_name(nid);
    return ec && EC_KEY_oct2key(ec, point, n, NULL) == 1 && EC_KEY_set_method(ec, method) == 1 ? TAKE(ec) : NULL;
}

int key_elsewhere_new(const EVP_PKEY *public, const struct key_elsewhere_ops *ops, void *arg, EVP_PKEY **out, struct err *err) {
    struct elsewhere *e = calloc(1, sizeof *e);
    if (!e) {
        ops->free(arg);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    *e = (struct elsewhere){.ops = ops, .arg = arg};
    pthread_mutex_init(&e->lock, NULL);
    pthread_once(&once, prepare);
    CLEANUP(EC_KEY_free) EC_KEY *ec = method ? public_half(public, &e->width) : NULL;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = EVP_PKEY_new();
    if (!ec || !key || EC_KEY_set_ex_data(ec, key_index, e) != 1) {
        free_elsewhere(NULL, e, NULL, 0, 0, NULL);
        return method && !ec ? err_set(err, MUSTER_EINVALID, "A key that lies in a token or a TPM has to be on P-256 or P-384, and this one is not; RSA keys are not used there.")
                             : pki_err(err, MUSTER_ECRYPTO, "Taking a key whose private half is elsewhere");
    }
    if (EVP_PKEY_assign_EC_KEY(key, ec) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Taking a key whose private half is elsewhere");
    ec = NULL; /* now the key's */
    *out = TAKE(key);
    return 0;
}

static struct elsewhere *elsewhere_of(const EVP_PKEY *key) {
    if (!method || !key || EVP_PKEY_get0_provider(key) || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
        return NULL;
    const EC_KEY *ec = EVP_PKEY_get0_EC_KEY(key);
    return ec ? EC_KEY_get_ex_data(ec, key_index) : NULL;
}

bool key_is_elsewhere(const EVP_PKEY *key) { return elsewhere_of(key) != NULL; }

int key_elsewhere_fault(const EVP_PKEY *key, struct err *err) {
    struct elsewhere *e = elsewhere_of(key);
    if (!e)
        return 0;
    pthread_mutex_lock(&e->lock);
    struct err why = e->why;
    e->why = ERR_INIT;
    pthread_mutex_unlock(&e->lock);
    if (why.code && err)
        *err = why;
    return why.code;
}
