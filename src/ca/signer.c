/* signer: see signer.h; and ca_unlock() of ca.h. */
#include "ca/signer.h"

#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "keyring/keyring.h"

#define KEY_MAX 65536

struct file_name {
    char text[64];
};
static struct file_name with(const char *name, const char *suffix) {
    struct file_name f;
    snprintf(f.text, sizeof f.text, "%s%s", name, suffix);
    return f;
}

static bool is_there(int dir, const char *name, const char *suffix) { return faccessat(dir, with(name, suffix).text, F_OK, AT_SYMLINK_NOFOLLOW) == 0; }

static int read_uri(int dir, const char *name, const char *suffix, char out[KEYRING_URI_MAX], struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(KEYRING_URI_MAX);
    int rc = file_read(dir, with(name, suffix).text, &text, err);
    if (rc)
        return rc;
    struct span uri = span_trim(span_sub(buf_span(&text), 0, strcspn(buf_str(&text), "\r\n")));
    if (!uri.n || uri.n >= KEYRING_URI_MAX)
        return err_set(err, MUSTER_ECORRUPT, "%s%s does not say in its first line where the key lies.", name, suffix);
    snprintf(out, KEYRING_URI_MAX, "%.*s", SPAN_FMT(uri));
    return keyring_check(out, KEYRING_A_KEY, err);
}

/* --- made ------------------------------------------------------------------------------------------------------------------------------- */

struct naming {
    int dir;
    const char *name;
};

static int named(void *arg, const char *uri, struct err *err) {
    const struct naming *n = arg;
    char line[KEYRING_URI_MAX + 1];
    snprintf(line, sizeof line, "%s\n", uri);
    return file_replace(n->dir, with(n->name, ".uri.new").text, span_str(line), 0600, err);
}

int signer_make(int dir, const char *name, const struct signer_make *rq, EVP_PKEY **out, struct err *err) {
    struct naming n = {dir, name};
    if (!rq->place)
        return key_generate(rq->kind, rq->bits, out, err);
    int rc = signer_discard(dir, name, false, err);
    return rc ? rc : keyring_make(rq->place, rq->label, named, &n, out, err);
}

int signer_keep(int dir, const char *name, const EVP_PKEY *key, struct span passphrase, struct err *err) {
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(KEY_MAX);
    if (is_there(dir, name, ".uri.new")) {
        if (renameat(dir, with(name, ".uri.new").text, dir, with(name, ".uri").text))
            return err_set(err, MUSTER_EIO, "%s.uri cannot be written: %s.", name, strerror(errno));
        return file_sync_dir(dir, name, err);
    }
    int rc = key_private_pem_sealed(key, passphrase, &pem, err);
    return rc ? rc : file_create(dir, with(name, ".key").text, buf_span(&pem), 0600, err);
}

int signer_discard(int dir, const char *name, bool kept, struct err *err) {
    const char *const suffixes[] = {".uri.new", ".uri"};
    for (size_t i = 0; i < (kept ? 2 : 1); i++) {
        char uri[KEYRING_URI_MAX];
        if (!is_there(dir, name, suffixes[i]))
            continue;
        int rc = read_uri(dir, name, suffixes[i], uri, err);
        if (rc || (rc = keyring_remove(uri, err)) || (rc = file_remove(dir, with(name, suffixes[i]).text, err)))
            return rc;
    }
    return 0;
}

bool signer_has(int dir, const char *name) { return is_there(dir, name, ".key") || is_there(dir, name, ".uri"); }

void signer_where(int dir, const char *name, char *out) {
    if (is_there(dir, name, ".key"))
        snprintf(out, KEYRING_URI_MAX, "file");
    else if (!is_there(dir, name, ".uri") || read_uri(dir, name, ".uri", out, NULL))
        out[0] = '\0';
}

/* --- used ------------------------------------------------------------------------------------------------------------------------------- */

static const struct cert *cert_of(const struct ca *ca, bool root) { return root ? ca->root : ca->intermediate; }

static int read_key(const struct ca *ca, bool root, struct span passphrase, EVP_PKEY **out, struct err *err) {
    const char *name = root ? SIGNER_ROOT : SIGNER_BELOW;
    const struct cert *cert = cert_of(ca, root);
    char uri[KEYRING_URI_MAX];
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(KEY_MAX);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct key_facts facts;
    int rc;
    if (!is_there(ca->fd, name, ".key") && is_there(ca->fd, name, ".uri"))
        return (rc = read_uri(ca->fd, name, ".uri", uri, err)) ? rc : keyring_open_known(uri, X509_get0_pubkey(cert->x), out, err);
    rc = file_read(ca->fd, with(name, ".key").text, &pem, err);
    if (rc == MUSTER_ENOTFOUND)
        return err_set(err, rc, "%s.key is not in the fleet CA's directory: bring it back from where it is kept, or name the key by --ca-key.", name);
    if (rc || (rc = key_read_private(buf_span(&pem), passphrase, &key, err)) || (rc = key_facts(key, &facts, err)))
        return rc;
    if (!hash_eq(&facts.spki, &cert->key.spki))
        return err_set(err, MUSTER_ECORRUPT, "%s.key is not the key of %s.pem.", name, name);
    *out = TAKE(key);
    return 0;
}

/* The one that the caller names: the root's, or the intermediate's. */
static int open_named(const struct ca *ca, bool root, const char *uri, EVP_PKEY **out, bool *is_root, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct key_facts facts;
    int rc = keyring_open(uri, &key, err);
    if (rc || (rc = key_facts(key, &facts, err)))
        return rc;
    *is_root = hash_eq(&facts.spki, &ca->root->key.spki);
    const bool below = ca->intermediate && hash_eq(&facts.spki, &ca->intermediate->key.spki);
    if (!*is_root && !below)
        return err_set(err, MUSTER_EINVALID, "The key that --ca-key names is none of this fleet CA's.");
    if (!root && *is_root && ca->intermediate)
        return err_set(err, MUSTER_EINVALID, "The key that --ca-key names is the root's, and the intermediate signs.");
    *out = TAKE(key);
    return 0;
}

static bool uses_root(const struct ca *ca, bool root) { return !ca->intermediate || (root && signer_has(ca->fd, SIGNER_ROOT)); }

bool ca_needs_passphrase(const struct ca *ca, bool root) {
    const char *name = uses_root(ca, root) ? SIGNER_ROOT : SIGNER_BELOW;
    return is_there(ca->fd, name, ".key") || !is_there(ca->fd, name, ".uri");
}

int ca_unlock(struct ca *ca, bool root, const char *uri, struct span passphrase, struct err *err) {
    EVP_PKEY *key = NULL;
    bool is_root = uses_root(ca, root);
    int rc = uri ? open_named(ca, root, uri, &key, &is_root, err) : read_key(ca, is_root, passphrase, &key, err);
    if (rc)
        return rc;
    EVP_PKEY_free(ca->key);
    ca->key = key;
    ca->key_is_root = is_root;
    return 0;
}

int signer_fault(const struct ca *ca, int rc, struct err *err) {
    int why = rc ? keyring_fault(ca->key, err) : 0;
    return why ? why : rc;
}
