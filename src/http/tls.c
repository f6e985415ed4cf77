/* tls: the server side of TLS; see tls.h.  conn.c drives what this makes.  Nothing here may judge a client. */
#include "http/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/tls_cache.h"
#include "pki/library.h"

#define SESSION_CERTS_MAX 8      /* more are refused above: not worth keeping */
#define SNI_MAX 255

struct identity {
    char *name;
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) *chain; /* without the leaf */
};

/* An immutable snapshot; swapped whole. */
struct identities {
    atomic_int refs;
    size_t n;
    struct identity each[]; /* by name */
};

struct tls_server {
    SSL_CTX *ctx;
    struct tls_cache *cache; /* NULL: no resumption */
    pthread_mutex_t lock;
    struct identities *ids; /* under lock; NULL before the first tls_server_set */
};

DEFINE_CLEANUP(SSL_free, SSL *)
DEFINE_CLEANUP(BIO_free_all, BIO *)

/* ---- identities ---- */

static void identities_unref(struct identities *ids) {
    if (!ids || atomic_fetch_sub(&ids->refs, 1) != 1)
        return;
    for (size_t i = 0; i < ids->n; i++) {
        free(ids->each[i].name);
        X509_free(ids->each[i].leaf);
        EVP_PKEY_free(ids->each[i].key);
        sk_X509_pop_free(ids->each[i].chain, X509_free);
    }
    free(ids);
}
DEFINE_CLEANUP(identities_unref, struct identities *)

static struct identities *identities_get(struct tls_server *t) {
    pthread_mutex_lock(&t->lock);
    struct identities *ids = t->ids;
    if (ids)
        atomic_fetch_add(&ids->refs, 1);
    pthread_mutex_unlock(&t->lock);
    return ids;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct identity *)a)->name, ((const struct identity *)b)->name);
}

static const struct identity *identities_find(const struct identities *ids, const char *name) {
    const struct identity key = {.name = (char *)name};
    return bsearch(&key, ids->each, ids->n, sizeof key, by_name);
}

/* An encrypted key must fail, never ask on the terminal. */
static int no_passphrase(char *buf, int size, int rw, void *arg) { return -1; }

static int crypto_err(struct err *err, int code, const char *name, const char *what) {
    unsigned long e = ERR_peek_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return err_set(err, code, "The TLS identity \"%s\": %s%s%s.", name, what, reason ? ": " : "", reason ? reason : "");
}

static int identity_read(struct identity *id, const struct tls_identity *from, struct err *err) {
    const char *name = from->name ? from->name : "";
    CLEANUP(BIO_free_all) BIO *chain = BIO_new_mem_buf(from->chain.p, (int)from->chain.n);
    CLEANUP(BIO_free_all) BIO *key = BIO_new_mem_buf(from->key.p, (int)from->key.n);
    id->name = strdup(name);
    id->chain = sk_X509_new_null();
    if (!chain || !key || !id->name || !id->chain)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (const char *c = name; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            return err_set(err, MUSTER_EINVALID, "The TLS identity \"%s\" is not named in lower case.", name);
    id->leaf = PEM_read_bio_X509(chain, NULL, no_passphrase, NULL);
    if (!id->leaf)
        return crypto_err(err, MUSTER_EINVALID, name, "its certificate cannot be read");
    X509 *more;
    while ((more = PEM_read_bio_X509(chain, NULL, no_passphrase, NULL)))
        if (sk_X509_push(id->chain, more) <= 0) {
            X509_free(more);
            return err_set(err, MUSTER_ENOMEM, NULL);
        }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return crypto_err(err, MUSTER_EINVALID, name, "its chain cannot be read");
    ERR_clear_error(); /* the end of the PEM text */
    id->key = PEM_read_bio_PrivateKey(key, NULL, no_passphrase, NULL);
    if (!id->key)
        return crypto_err(err, MUSTER_EINVALID, name, "its private key cannot be read");
    if (!X509_check_private_key(id->leaf, id->key))
        return crypto_err(err, MUSTER_EINVALID, name, "the key is not the certificate's");
    return 0;
}

int tls_server_set(struct tls_server *t, const struct tls_identity *from, size_t n, struct err *err) {
    CLEANUP(identities_unref) struct identities *ids = calloc(1, sizeof *ids + n * sizeof *ids->each);
    if (!ids)
        return err_set(err, MUSTER_ENOMEM, NULL);
    atomic_init(&ids->refs, 1);
    for (size_t i = 0; i < n; i++) {
        ids->n++;
        int rc = identity_read(&ids->each[i], &from[i], err);
        if (rc)
            return rc;
        /* What libssl would refuse at the first handshake is refused here. */
        CLEANUP(SSL_free) SSL *probe = SSL_new(t->ctx);
        if (!probe)
            return err_set(err, MUSTER_ENOMEM, NULL);
        if (SSL_use_cert_and_key(probe, ids->each[i].leaf, ids->each[i].key, ids->each[i].chain, 1) != 1)
            return crypto_err(err, MUSTER_EINVALID, ids->each[i].name, "it cannot be used");
    }
    qsort(ids->each, n, sizeof *ids->each, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(ids->each[i - 1].name, ids->each[i].name) == 0)
            return err_set(err, MUSTER_EINVALID, "There are two TLS identities \"%s\".", ids->each[i].name);
    if (!identities_find(ids, ""))
        return err_set(err, MUSTER_EINVALID, "There is no TLS identity for clients that name none of the others.");

    pthread_mutex_lock(&t->lock);
    struct identities *old = t->ids;
    t->ids = TAKE(ids);
    pthread_mutex_unlock(&t->lock);
    identities_unref(old);
    return 0;
}

/* ---- what the client says first ---- */

static int sni_index = -1;
static pthread_once_t sni_once = PTHREAD_ONCE_INIT;

static void sni_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp) { free(ptr); }
static void sni_init(void) { sni_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, sni_free); }

/* server_name (RFC 6066, 3) out of the raw extension.  SSL_get_servername() will not do: for a session of TLS 1.2 it gives the
 * name of the handshake that made it, not the one that the client sends now. */
static bool sni_parse(struct span ext, struct span *name) {
    if (ext.n < 5)
        return false;
    size_t list = (size_t)ext.p[0] << 8 | ext.p[1], len = (size_t)ext.p[3] << 8 | ext.p[4];
    *name = span_sub(ext, 5, len);
    return list == ext.n - 2 && ext.p[2] == TLSEXT_NAMETYPE_host_name && len == ext.n - 5 && len > 0 && len <= SNI_MAX;
}

static int on_client_hello(SSL *ssl, int *alert, void *arg) {
    struct span ext, name;
    free(SSL_get_ex_data(ssl, sni_index)); /* a second ClientHello, after HelloRetryRequest, says it again */
    SSL_set_ex_data(ssl, sni_index, NULL);
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &ext.p, &ext.n))
        return SSL_CLIENT_HELLO_SUCCESS;
    if (!sni_parse(ext, &name)) {
        *alert = SSL_AD_DECODE_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    char *copy = malloc(name.n + 1);
    if (!copy || !SSL_set_ex_data(ssl, sni_index, copy)) {
        free(copy);
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        copy[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
        bool ok = (copy[i] >= 'a' && copy[i] <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
        if (!ok) {
            copy[0] = '\0';
            *alert = SSL_AD_UNRECOGNIZED_NAME;
            return SSL_CLIENT_HELLO_ERROR;
        }
    }
    copy[name.n] = '\0';
    return SSL_CLIENT_HELLO_SUCCESS;
}

const char *tls_sni(const SSL *ssl) {
    const char *name = SSL_get_ex_data(ssl, sni_index);
    return name ? name : "";
}

/* Full handshakes only: a resumed one needs no certificate. */
static int on_choose_certificate(SSL *ssl, void *arg) {
    CLEANUP(identities_unref) struct identities *ids = identities_get(arg);
    if (!ids)
        return 0;
    const struct identity *id = identities_find(ids, tls_sni(ssl));
    if (!id)
        id = identities_find(ids, "");
    return SSL_use_cert_and_key(ssl, id->leaf, id->key, id->chain, 1);
}

/* The one protocol.  A client that offers only others is refused (RFC 7301, 3.2); one that offers nothing is not asked. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in, unsigned in_n, void *arg) {
    for (unsigned i = 0; i < in_n && in[i] < in_n - i; i += 1u + in[i])
        if (in[i] == 8 && memcmp(in + i + 1, "http/1.1", 8) == 0) {
            *out = in + i + 1;
            *out_n = 8;
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Possession of the key is proven by TLS itself; whether the certificate is worth anything is for the layer above to say. */
static int on_verify(X509_STORE_CTX *ctx, void *arg) {
    X509_STORE_CTX_set_error(ctx, X509_V_OK);
    return 1;
}

/* ---- sessions ---- */

static struct tls_server *server_of(const SSL_CTX *ctx) { return SSL_CTX_get_app_data(ctx); }

static int on_session_new(SSL *ssl, SSL_SESSION *session) {
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl); /* on a server: without the leaf */
    X509 *leaf = SSL_get0_peer_certificate(ssl);
    int n = chain ? sk_X509_num(chain) : 0, weight = leaf ? i2d_X509(leaf, NULL) : 0;
    if (n >= SESSION_CERTS_MAX)
        return 0;
    for (int i = 0; i < n; i++) /* cheap: libcrypto kept the encoding */
        weight += i2d_X509(sk_X509_value(chain, i), NULL);
    const ASN1_BIT_STRING *key = leaf ? X509_get0_pubkey_bitstr(leaf) : NULL;
    struct span owner = key ? span_of(key->data, (size_t)key->length) : span_of(NULL, 0);
    return tls_cache_put(server_of(SSL_get_SSL_CTX(ssl))->cache, session, owner, weight > 0 ? (size_t)weight : 0);
}

static SSL_SESSION *on_session_get(SSL *ssl, const unsigned char *id, int n, int *copy) {
    *copy = 0; /* the reference is ours to give */
    return tls_cache_get(server_of(SSL_get_SSL_CTX(ssl))->cache, id, n > 0 ? (size_t)n : 0);
}

static void on_session_remove(SSL_CTX *ctx, SSL_SESSION *session) { tls_cache_remove(server_of(ctx)->cache, session); }

void tls_forget(SSL *ssl) {
    SSL_SESSION *session = SSL_get_session(ssl);
    if (session)
        SSL_CTX_remove_session(SSL_get_SSL_CTX(ssl), session); /* marks it as well, and calls on_session_remove */
}

size_t tls_server_sessions(struct tls_server *t) { return t->cache ? tls_cache_count(t->cache) : 0; }

/* ---- the context ---- */

/* For signatures by clients as well as ours.  Ed25519 and P-521 are keys that devices may have. */
#define SIGALGS                                                                                                                \
    "ECDSA+SHA256:ed25519:rsa_pss_rsae_sha256:ECDSA+SHA384:ECDSA+SHA512:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"              \
    "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:RSA+SHA256:RSA+SHA384:RSA+SHA512"
#define CIPHERS_12                                                                                                             \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"     \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
/* P-521 last and only because TLS 1.2 accepts a client's P-521 key under no other condition. */
#define GROUPS "X25519:P-256:P-384:P-521"

static bool configure(SSL_CTX *ctx, const struct tls_options *o) {
    static const unsigned char sid_context[] = "muster";
    /* Level 1, not Debian's 2: a client with a weak certificate has to come through to be told so.  It does not weaken what is
     * negotiated, which the lists above fix. */
    SSL_CTX_set_security_level(ctx, 1);
    bool ok = SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) && SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) &&
              SSL_CTX_set_cipher_list(ctx, CIPHERS_12) && SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) &&
              SSL_CTX_set1_groups_list(ctx, GROUPS) && SSL_CTX_set1_sigalgs_list(ctx, SIGALGS) &&
              SSL_CTX_set1_client_sigalgs_list(ctx, SIGALGS) &&
              SSL_CTX_set_session_id_context(ctx, sid_context, sizeof sid_context - 1) && SSL_CTX_set_num_tickets(ctx, o->sessions ? 1 : 0);
    /* NO_TICKET leaves TLS 1.3 with tickets that are keys into the cache.  A client that closes without close_notify is no
     * error: requests say themselves how long they are, and libssl would drop the session for it. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF | (o->cleanse ? SSL_OP_CLEANSE_PLAINTEXT : 0));
    SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1); /* one read() for header and body of a record */
    SSL_CTX_set_max_cert_list(ctx, TLS_CLIENT_CERTS_MAX);
    SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    SSL_CTX_set_verify(ctx, o->client_certificates ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, on_verify, NULL);
    if (!o->sessions) {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        return ok;
    }
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_timeout(ctx, o->session_seconds);
    SSL_CTX_sess_set_new_cb(ctx, on_session_new);
    SSL_CTX_sess_set_get_cb(ctx, on_session_get);
    SSL_CTX_sess_set_remove_cb(ctx, on_session_remove);
    return ok;
}

struct tls_server *tls_server_new(const struct tls_options *o, struct err *err) {
    pthread_once(&sni_once, sni_init);
    CLEANUP(tls_server_free) struct tls_server *t = calloc(1, sizeof *t);
    if (!t || sni_index < 0) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    pthread_mutex_init(&t->lock, NULL);
    t->cache = o->sessions ? tls_cache_new(o->sessions) : NULL;
    t->ctx = SSL_CTX_new_ex(pki_library(), NULL, TLS_server_method());
    if (!t->ctx || (o->sessions && !t->cache)) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    SSL_CTX_set_app_data(t->ctx, t);
    SSL_CTX_set_cert_cb(t->ctx, on_choose_certificate, t);
    if (!configure(t->ctx, o)) {
        crypto_err(err, MUSTER_ECRYPTO, "", "TLS cannot be configured");
        return NULL;
    }
    return TAKE(t);
}

void tls_server_free(struct tls_server *t) {
    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    tls_cache_free(t->cache);
    identities_unref(t->ids);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

SSL *tls_server_accept(struct tls_server *t) {
    SSL *ssl = SSL_new(t->ctx);
    if (ssl)
        SSL_set_accept_state(ssl);
    return ssl;
}
