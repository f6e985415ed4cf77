/* library: see library.h.  What it leaves out: decoders of private keys, of keys in forms of their own and in PEM, and of keys that
 * no certificate of a TLS client has (parameters, DH, DSA, SM2). */
#include "pki/library.h"

#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define DECODERS_MAX 64

static OSSL_PROVIDER *whole;                       /* the default provider, in the default context */
static OSSL_ALGORITHM decoders[DECODERS_MAX + 1];  /* ends with zeros */
static OSSL_LIB_CTX *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* names: of one algorithm, "EC:id-ecPublicKey:1.2.840.10045.2.1". */
static bool reads_clients_key(const OSSL_ALGORITHM *a) {
    static const char *const kinds[] = {"EC", "RSA", "RSA-PSS", "ED25519", "ED448"};
    size_t n = strcspn(a->algorithm_names, ":");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strlen(kinds[i]) == n && strncmp(a->algorithm_names, kinds[i], n) == 0)
            return strstr(a->property_definition, "structure=SubjectPublicKeyInfo") && strstr(a->property_definition, "input=der");
    return false;
}

static const OSSL_ALGORITHM *on_query(void *provider, int operation, int *no_cache) {
    (void)provider;
    const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, operation, no_cache);
    return operation == OSSL_OP_DECODER ? decoders : all;
}

static void on_unquery(void *provider, int operation, const OSSL_ALGORITHM *algorithms) {
    (void)provider;
    OSSL_PROVIDER_unquery_operation(whole, operation, algorithms == decoders ? NULL : algorithms);
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

static bool choose_decoders(void) {
    int no_cache = 0;
    size_t n = 0;
    for (const OSSL_ALGORITHM *a = OSSL_PROVIDER_query_operation(whole, OSSL_OP_DECODER, &no_cache); a && a->algorithm_names && n < DECODERS_MAX; a++)
        if (reads_clients_key(a))
            decoders[n++] = *a;
    return n > 0;
}

static void make(void) {
    whole = OSSL_PROVIDER_load(NULL, "default");
    if (!whole || !choose_decoders())
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
