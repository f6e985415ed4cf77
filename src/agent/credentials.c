/* credentials: see credentials.h. */
#include "agent/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <sys/stat.h>

#include "agent/archive.h"
#include "base/cleanup.h"
#include "base/file.h"

#define P12 "autoprov_credentials.p12"
#define URL "autoprov.url"
#define CA "server_ca.pem"
#define PART_MAX 65536 /* bytes of one file */

static const char *const REMOVED[] = {P12, "treehub.json", NULL};

DEFINE_CLEANUP(PKCS12_free, PKCS12 *)
DEFINE_CLEANUP(X509_free, X509 *)
static inline void stack_free_all(STACK_OF(X509) *s) { sk_X509_pop_free(s, X509_free); }
DEFINE_CLEANUP(stack_free_all, STACK_OF(X509) *)

/* The parts of shared credentials, wherever they stand. */
struct parts {
    struct buf url, p12, ca;
};
#define PARTS_INIT ((struct parts){BUF_INIT(OPTIONS_VALUE_MAX - 1), BUF_INIT(PART_MAX), BUF_INIT(PART_MAX)})
static void parts_fini(struct parts *p) {
    buf_fini(&p->url);
    buf_wipe(&p->p12);
    buf_fini(&p->ca);
}
DEFINE_CLEANUP_FINI(parts_fini, struct parts)

void credentials_fini(struct credentials *c) {
    EVP_PKEY_free(c->key);
    cert_free(c->cert);
    certs_fini(&c->above);
    certs_fini(&c->anchors);
    *c = CREDENTIALS_INIT;
}

static int take_url(struct credentials *c, struct span text, struct err *err) {
    while (text.n && (text.p[text.n - 1] <= ' ' || text.p[text.n - 1] == '/'))
        text.n--;
    while (text.n && text.p[0] <= ' ')
        text = span_sub(text, 1, text.n);
    bool good = span_starts(text, SPAN_LIT("https://")) && text.n < sizeof c->gateway;
    for (size_t i = 0; i < text.n; i++)
        good = good && text.p[i] > ' ' && text.p[i] < 0x7f;
    if (!good)
        return err_set(err, MUSTER_EINVALID, "The credentials in %s do not name the gateway by one line that begins with https://.", c->path);
    snprintf(c->gateway, sizeof c->gateway, "%.*s", SPAN_FMT(text));
    return 0;
}

/* --- shared ------------------------------------------------------------------------------------------------------------------------------------- */

static int take_cas(struct credentials *c, const STACK_OF(X509) *more, struct err *err) {
    for (int i = 0; more && i < sk_X509_num(more) && c->anchors.n < CERTS_MAX; i++) {
        CLEANUP(cert_free) struct cert *one = NULL;
        int rc = cert_from_x509(sk_X509_value(more, i), &one, err);
        if (rc)
            return rc;
        if (one->ca)
            c->anchors.cert[c->anchors.n++] = TAKE(one);
    }
    return c->anchors.n ? 0 : err_set(err, MUSTER_EINVALID, "The credentials in %s have no certificate by which the gateway could be known.", c->path);
}

/* Stock credentials are encrypted by RC2 and 3DES (doc/wire.md), of which OpenSSL has the first in a module of its own: it is loaded for that, and for nothing else. */
static bool parse_p12(PKCS12 *p12, EVP_PKEY **key, X509 **x, STACK_OF(X509) **more) {
    if (PKCS12_parse(p12, "", key, x, more) == 1)
        return true;
    OSSL_PROVIDER *legacy = OSSL_PROVIDER_try_load(NULL, "legacy", 1);
    bool good = legacy && PKCS12_parse(p12, "", key, x, more) == 1;
    if (legacy)
        OSSL_PROVIDER_unload(legacy);
    return good;
}

/* The anchors are server_ca.pem's, where that is there: the stock provider's order. */
static int take_p12(struct credentials *c, const struct parts *p, struct err *err) {
    const unsigned char *at = p->p12.p;
    CLEANUP(PKCS12_free) PKCS12 *p12 = d2i_PKCS12(NULL, &at, (long)p->p12.n);
    CLEANUP(X509_free) X509 *x = NULL;
    CLEANUP(stack_free_all) STACK_OF(X509) *more = NULL;
    if (!p12 || !parse_p12(p12, &c->key, &x, &more) || !c->key || !x)
        return pki_err(err, MUSTER_EINVALID, "Reading " P12 " with the empty password");
    int rc = cert_from_x509(x, &c->cert, err);
    if (rc)
        return rc;
    if (p->ca.n)
        return certs_read(buf_span(&p->ca), &c->anchors, err);
    return take_cas(c, more, err);
}

static int from_zip(struct credentials *c, struct parts *p, struct err *err) {
    CLEANUP(buf_wipe) struct buf archive = BUF_INIT(ARCHIVE_MAX);
    struct archive z;
    int rc = file_read(AT_FDCWD, c->path, &archive, err);
    if (rc || (rc = archive_open(buf_span(&archive), &z, err)))
        return rc;
    if (!archive_has(&z, P12))
        return err_set(err, MUSTER_ENOTFOUND, "There is no provisioning key in %s (any more): " P12 " is missing.", c->path);
    if ((rc = archive_read(&z, URL, &p->url, err)) || (rc = archive_read(&z, P12, &p->p12, err)))
        return rc;
    return archive_has(&z, CA) ? archive_read(&z, CA, &p->ca, err) : 0;
}

static int from_files(int dir, struct parts *p, struct err *err) {
    int rc = file_read(dir, URL, &p->url, err);
    if (rc || (rc = file_read(dir, P12, &p->p12, err)))
        return rc;
    rc = file_read(dir, CA, &p->ca, NULL);
    return rc == MUSTER_ENOTFOUND ? 0 : rc ? file_read(dir, CA, &p->ca, err) : 0;
}

/* Whoever can exchange it says who this device's gateway is. */
static int check_writers(const struct credentials *c, int dir, struct err *err) {
    struct stat st;
    if ((dir < 0 ? stat(c->path, &st) : fstatat(dir, P12, &st, 0)) || !(st.st_mode & 002))
        return 0;
    return err_set(err, MUSTER_EINVALID, "Anybody may write to the credentials in %s (mode %03o). Take that right away: chmod o-w.", c->path, st.st_mode & 0777u);
}

static int read_shared(struct credentials *c, int dir, struct err *err) {
    CLEANUP(parts_fini) struct parts p = PARTS_INIT;
    int rc = check_writers(c, dir, err);
    rc = rc ? rc : dir < 0 ? from_zip(c, &p, err) : from_files(dir, &p, err);
    if (rc || (rc = take_url(c, buf_span(&p.url), err)) || (rc = take_p12(c, &p, err)))
        return rc == MUSTER_ENOTFOUND || rc == 0 ? rc : err_prefix(err, "%s", c->path);
    if (EVP_PKEY_eq(X509_get0_pubkey(c->cert->x), c->key) != 1)
        return err_set(err, MUSTER_EINVALID, "The provisioning key in %s is not that of its certificate.", c->path);
    c->kind = CREDENTIALS_SHARED;
    return 0;
}

static bool has(int dir, const char *name) { return faccessat(dir, name, F_OK, 0) == 0; }

/* --- the device's own ------------------------------------------------------------------------------------------------------------------------------- */

/* A key that others can read is others' identity as well. */
static int check_key_mode(int dir, const char *path, struct err *err) {
    struct stat st;
    if (fstatat(dir, "pkey.pem", &st, 0))
        return err_set(err, MUSTER_EIO, "%s/pkey.pem cannot be looked at: %s.", path, strerror(errno));
    if (st.st_mode & 077)
        return err_set(err, MUSTER_EINVALID, "%s/pkey.pem can be read by others (mode %03o). Make it its owner's alone: chmod 600.", path, st.st_mode & 0777);
    return 0;
}

static int read_key_file(struct credentials *c, int dir, struct err *err) {
    CLEANUP(buf_wipe) struct buf key = BUF_INIT(PART_MAX);
    int rc = check_key_mode(dir, c->path, err);
    if (rc || (rc = file_read(dir, "pkey.pem", &key, err)))
        return rc;
    return key_read_private(buf_span(&key), SPAN_NONE, &c->key, err) ? err_prefix(err, "%s", c->path) : 0;
}

/* By its name: what the options say, or pkey.uri beside the certificate. */
static int read_key_named(struct credentials *c, int dir, const char *named, struct err *err) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(KEYRING_URI_MAX - 1);
    if (named[0]) {
        snprintf(c->where, sizeof c->where, "%s", named);
    } else {
        int rc = file_read(dir, "pkey.uri", &line, err);
        if (rc)
            return rc;
        struct span s = span_trim(buf_span(&line));
        while (s.n && s.p[s.n - 1] <= ' ')
            s.n--;
        snprintf(c->where, sizeof c->where, "%.*s", SPAN_FMT(s));
    }
    int rc = keyring_open_known(c->where, X509_get0_pubkey(c->cert->x), &c->key, err);
    if (keyring_place(c->where) == KEYRING_FILE)
        c->where[0] = '\0';
    return rc ? err_prefix(err, "%s: the key of client.pem", c->path) : 0;
}

static int read_device(struct credentials *c, int dir, const char *named, struct err *err) {
    CLEANUP(buf_fini) struct buf cert = BUF_INIT(PART_MAX), ca = BUF_INIT(PART_MAX), url = BUF_INIT(OPTIONS_VALUE_MAX - 1);
    bool by_name = named[0] || !has(dir, "pkey.pem");
    int rc = by_name ? 0 : read_key_file(c, dir, err);
    if (rc || (rc = file_read(dir, "client.pem", &cert, err)) || (rc = file_read(dir, "root.crt", &ca, err)))
        return rc;
    if ((rc = certs_read(buf_span(&cert), &c->above, err)))
        return err_prefix(err, "%s", c->path);
    if (!(c->cert = certs_shift(&c->above)))
        return err_set(err, MUSTER_EINVALID, "%s/client.pem holds no certificate.", c->path);
    if (by_name && (rc = read_key_named(c, dir, named, err)))
        return rc;
    if ((rc = certs_read(buf_span(&ca), &c->anchors, err)))
        return err_prefix(err, "%s/root.crt", c->path);
    if (EVP_PKEY_eq(X509_get0_pubkey(c->cert->x), c->key) != 1)
        return err_set(err, MUSTER_EINVALID, "%s: pkey.pem is not the key of client.pem.", c->path);
    c->kind = CREDENTIALS_DEVICE;
    rc = file_read(dir, "gateway.url", &url, NULL);
    return rc == 0 ? take_url(c, buf_span(&url), err) : 0;
}

/* --- finding them -------------------------------------------------------------------------------------------------------------------------------------- */

static int read_at(struct credentials *c, const char *key, struct err *err) {
    struct stat st;
    CLEANUP(fd_close) int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st))
        return err_set(err, errno == ENOENT ? MUSTER_ENOTFOUND : MUSTER_EIO, "The credentials %s cannot be opened: %s.", c->path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return read_shared(c, -1, err);
    if (has(fd, "client.pem") && (has(fd, "pkey.pem") || has(fd, "pkey.uri") || key[0]))
        return read_device(c, fd, key, err);
    if (has(fd, P12))
        return read_shared(c, fd, err);
    return err_set(err, MUSTER_ENOTFOUND, "There are no credentials in %s (any more): neither " P12 " nor client.pem with pkey.pem or pkey.uri.", c->path);
}

int credentials_at(const char *path, struct credentials *out, struct err *err) {
    *out = CREDENTIALS_INIT;
    if (snprintf(out->path, sizeof out->path, "%s", path) >= (int)sizeof out->path)
        return err_set(err, MUSTER_EINVALID, "The path of the credentials is too long.");
    return read_at(out, "", err);
}

int credentials_find(const struct options *o, struct credentials *out, struct err *err) {
    static const char *const PLACES[] = {"/var/sota/sota_provisioning_credentials.zip", "/etc/muster-agent/credentials.zip", "/var/sota/import", "/etc/muster-agent/import"};
    *out = CREDENTIALS_INIT;
    if (o->credentials[0]) {
        snprintf(out->path, sizeof out->path, "%s", o->credentials);
        return read_at(out, o->credentials_key, err);
    }
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        if (snprintf(out->path, sizeof out->path, "%s%s", o->sysroot, PLACES[i]) >= (int)sizeof out->path)
            return err_set(err, MUSTER_EINVALID, "The path is too long.");
        int rc = read_at(out, o->credentials_key, err);
        if (rc != MUSTER_ENOTFOUND)
            return rc;
        credentials_fini(out);
    }
    return err_set(err, MUSTER_ENOTFOUND, "There are no credentials in any of the usual places; name them by --credentials.");
}

/* --- and taking them away ----------------------------------------------------------------------------------------------------------------------------------- */

static int open_archive(const char *path, struct buf *archive, struct archive *z, mode_t *mode, struct err *err) {
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode))
        return MUSTER_ENOTFOUND;
    *mode = st.st_mode & 07777;
    int rc = file_read(AT_FDCWD, path, archive, err);
    return rc ? rc : archive_open(buf_span(archive), z, err);
}

static int strip_dir(int dir, struct err *err) {
    for (const char *const *name = REMOVED; *name; name++) {
        int rc = file_remove(dir, *name, err);
        if (rc)
            return rc;
    }
    return 0;
}

int credentials_strip(const char *path, struct err *err) {
    CLEANUP(buf_wipe) struct buf archive = BUF_INIT(ARCHIVE_MAX), rest = BUF_INIT(2 * ARCHIVE_MAX);
    CLEANUP(fd_close) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct archive z;
    mode_t mode = 0600;
    if (dir >= 0)
        return strip_dir(dir, err);
    int rc = open_archive(path, &archive, &z, &mode, err);
    if (rc == MUSTER_ENOTFOUND || (rc == 0 && !archive_has(&z, P12) && !archive_has(&z, "treehub.json")))
        return 0;
    if (rc == 0)
        rc = archive_without(&z, REMOVED, &rest, err);
    if (rc == 0)
        rc = file_replace(AT_FDCWD, path, buf_span(&rest), mode, err);
    return rc ? err_prefix(err, "The provisioning key could not be removed") : 0;
}

bool credentials_unstripped(const char *path) {
    CLEANUP(buf_wipe) struct buf archive = BUF_INIT(ARCHIVE_MAX);
    CLEANUP(fd_close) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct archive z;
    mode_t mode;
    if (dir >= 0)
        return has(dir, P12);
    return open_archive(path, &archive, &z, &mode, NULL) == 0 && archive_has(&z, P12);
}
