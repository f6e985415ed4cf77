/* library: see library.h.  What it leaves out: decoders of private keys, of keys in forms of their own and in PEM; kinds of keys that neither a
 * TLS client's certificate nor its handshake has (parameters, DH, DSA, SM2, scrypt's and the like); ciphers that no suite of ours has. */
#include "pki/library.h"

#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define CHOSEN_MAX 64
#define N(array) (sizeof(array) / sizeof *(array))

static OSSL_PROVIDER *whole; /* the default provider, in the default context */
static OSSL_LIB_CTX *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Of which it has the name that comes first: "EC" of "EC:id-ecPublicKey:1.2.840.10045.2.1". */
static bool is_one_of(const OSSL_ALGORITHM *a, const char *const *names, size_t n) {
    size_t length = strcspn(a->algorithm_names, ":");
    for (size_t i = 0; i < n; i++)
        if (strlen(names[i]) == length && strncmp(a->algorithm_names, names[i], length) == 0)
            return true;
    return false;
}

static bool reads_clients_key(const OSSL_ALGORITHM *a) {
    static const char *const names[] = {"EC", "RSA", "RSA-PSS", "ED25519", "ED448"};
    return is_one_of(a, names, N(names)) && strstr(a->property_definition, "structure=SubjectPublicKeyInfo") && strstr(a->property_definition, "input=der");
}

/* Those, what TLS agrees on a key with (GROUPS of http/tls.c), and what binds a resumed session. */
static bool is_handshakes_key(const OSSL_ALGORITHM *a) {
    static const char *const names[] = {"EC", "RSA", "RSA-PSS", "ED25519", "ED448", "X25519", "HMAC"};
    return is_one_of(a, names, N(names));
}

/* Of our suites (CIPHERS_12, CIPHERS_13), and what random numbers are made with. */
static bool is_handshakes_cipher(const OSSL_ALGORITHM *a) {
    static const char *const names[] = {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305", "NULL", "AES-128-CTR", "AES-256-CTR", "AES-128-ECB", "AES-256-ECB"};
    return is_one_of(a, names, N(names));
}

static OSSL_ALGORITHM room[3][CHOSEN_MAX + 1]; /* beside the table: so it takes no room in a device's program */
static const struct choice {
    int operation;
    bool (*fits)(const OSSL_ALGORITHM *a);
    OSSL_ALGORITHM *chosen; /* ends with zeros */
} choices[] = {
    {OSSL_OP_DECODER, reads_clients_key, room[0]},
    {OSSL_OP_KEYMGMT, is_handshakes_key, room[1]},
    {OSSL_OP_CIPHER, is_handshakes_cipher, room[2]},
};

static const struct choice *choice_of(int operation) {
    for (size_t i = 0; i < N(choices); i++)
        if (choices[i].operation == operation)
            return &choices[i];
    return NULL;
}

static bool choose(const struct choice *c) {
    int no_cache = 0;
    size_t n = 0;
    for (const OSSL_ALGORITHM *a = OSSL_PROVIDER_query_operation(whole, c->operation, &no_cache); a && a->algorithm_names && n < CHOSEN_MAX; a++)
        if (c->fits(a))
            c->chosen[n++] = *a;
    return n > 0;
}

static const OSSL_ALGORITHM *on_query(void *provider, int operation, int *no_cache) {
    (void)provider;
    const struct choice *c = choice_of(operation);
    const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, operation, no_cache);
    return c ? c->chosen : all;
}

static void on_unquery(void *provider, int operation, const OSSL_ALGORITHM *algorithms) {
    (void)provider;
    OSSL_PROVIDER_unquery_operation(whole, operation, choice_of(operation) ? NULL : algorithms);
}

static int on_capabilities(void *provider, const char *capability, OSSL_CALLBACK *each, void *arg) {
    (void)provider;
    return OSSL_PROVIDER_get_capabilities(whole, capability, each, arg);
}

/* The functions of its algorithms get the default provider's context. */
static int on_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **functions, void **provider) {
    static const OSSL_DISPATCH own[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))on_query},
        {OSSL_FUNC_PROVIDER_UNQUERY_OPERATION, (void (*)(void))on_unquery},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))on_capabilities},
        {0, NULL},
    };
    (void)handle;
    (void)core;
    *functions = own;
    *provider = OSSL_PROVIDER_get0_provider_ctx(whole);
    return 1;
}

static void make(void) {
    whole = OSSL_PROVIDER_load(NULL, "default");
    for (size_t i = 0; i < N(choices); i++)
        if (!whole || !choose(&choices[i]))
            return;
    OSSL_LIB_CTX *made = OSSL_LIB_CTX_new();
    if (made && OSSL_PROVIDER_add_builtin(made, "clients", on_init) == 1 && OSSL_PROVIDER_load(made, "clients"))
        library = made;
    else
        OSSL_LIB_CTX_free(made);
}

OSSL_LIB_CTX *pki_library(void) {
    pthread_once(&once, make);
    return library;
}
