/* fleet: see fleet.h. */
#include "sim/fleet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent/device_id.h"
#include "base/csv.h"
#include "base/file.h"

#define FILE_MAX (128u << 10) /* of one device */
#define CODES_MAX (64u << 20)
#define SUFFIX ".pem"

DEFINE_CLEANUP(X509_free, X509 *)
static inline void stack_free_all(STACK_OF(X509) *s) { sk_X509_pop_free(s, X509_free); }
DEFINE_CLEANUP(stack_free_all, STACK_OF(X509) *)
DEFINE_CLEANUP(closedir, DIR *)
DEFINE_CLEANUP_FINI(csv_line_fini, struct csv_line)

/* --- keys and certificates ----------------------------------------------------------------------------------------------------------- */

void credential_fini(struct credential *c) {
    if (c->key)
        secret_wipe(c->key, c->key_n);
    free(c->key);
    free(c->chain);
    *c = (struct credential){0};
}

int credential_set(struct credential *c, const EVP_PKEY *key, const struct cert *leaf, const struct certs *above, struct err *err) {
    CLEANUP(buf_fini) struct buf chain = BUF_INIT(FILE_MAX);
    CLEANUP(secret_fini) struct secret private = SECRET_INIT;
    int rc = cert_der(leaf, &chain);
    for (size_t i = 0; !rc && above && i < above->n; i++)
        rc = cert_der(above->cert[i], &chain);
    if (rc || (rc = buf_check(&chain, err)))
        return err_set(err, rc, NULL);
    if ((rc = key_private_der(key, &private, err)))
        return rc;
    struct credential to = {.key = malloc(private.n), .key_n = private.n, .chain = malloc(chain.n), .chain_n = chain.n};
    if (!to.key || !to.chain) {
        free(to.key);
        free(to.chain);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    memcpy(to.key, private.p, private.n); /* not in guarded memory: a fleet's keys are tens of thousands, and of devices that do not exist */
    memcpy(to.chain, chain.p, chain.n);
    credential_fini(c);
    *c = to;
    return 0;
}

int credential_key(const struct credential *c, EVP_PKEY **out, struct err *err) { return key_from_private_der(span_of(c->key, c->key_n), out, err); }

int credential_use(const struct credential *c, SSL *ssl, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(X509_free) X509 *leaf = NULL;
    CLEANUP(stack_free_all) STACK_OF(X509) *above = sk_X509_new_null();
    const unsigned char *p = c->chain, *end = c->chain + c->chain_n;
    int rc = above ? credential_key(c, &key, err) : err_set(err, MUSTER_ENOMEM, NULL);
    if (rc)
        return rc;
    leaf = d2i_X509(NULL, &p, end - p);
    while (leaf && p < end) {
        X509 *x = d2i_X509(NULL, &p, end - p);
        if (!x || sk_X509_push(above, x) <= 0) {
            X509_free(x);
            return pki_err(err, MUSTER_ECORRUPT, "A certificate of the device cannot be used");
        }
    }
    return leaf && SSL_use_cert_and_key(ssl, leaf, key, above, 1) == 1 ? 0 : pki_err(err, MUSTER_ECORRUPT, "The device's certificate and key cannot be used");
}

static int read_credential(struct span certificates, struct span key, struct credential *out, struct err *err) {
    CLEANUP(certs_fini) struct certs chain = CERTS_INIT;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *private = NULL;
    int rc = certs_read(certificates, &chain, err);
    if (rc || (rc = key_read_private(key, SPAN_NONE, &private, err)))
        return rc;
    CLEANUP(cert_free) struct cert *leaf = certs_shift(&chain);
    return leaf ? credential_set(out, private, leaf, &chain, err) : err_set(err, MUSTER_EINVALID, "There is no certificate.");
}

/* --- the devices ----------------------------------------------------------------------------------------------------------------------- */

/* NULL: *err says why. */
static struct device *add(struct fleet *f, struct span id, enum way way, struct err *err) {
    if (device_id_accept(id, "the list of devices", err))
        return NULL;
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 256;
        struct device *more = reallocarray(f->device, cap, sizeof *more);
        if (!more) {
            err_set(err, MUSTER_ENOMEM, NULL);
            return NULL;
        }
        f->device = more;
        f->cap = cap;
    }
    struct device d = {.id = strndup((const char *)id.p, id.n), .way = way};
    if (!d.id) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    f->device[f->n] = d;
    return &f->device[f->n++];
}

/* `muster ca issue`: a folder a device, whose certificate says its ID. */
static int take_issued(struct fleet *f, const char *top, const char *folder, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(8192), cert = BUF_INIT(FILE_MAX), id = BUF_INIT(DEVICE_ID_MAX);
    CLEANUP(buf_wipe) struct buf key = BUF_INIT(FILE_MAX);
    CLEANUP(certs_fini) struct certs chain = CERTS_INIT;
    buf_addf(&path, "%s/%s/client.pem", top, folder);
    int rc = file_read(AT_FDCWD, buf_str(&path), &cert, err);
    if (rc)
        return rc == MUSTER_ENOTFOUND ? 0 : rc;
    buf_clear(&path);
    buf_addf(&path, "%s/%s/pkey.pem", top, folder);
    if ((rc = file_read(AT_FDCWD, buf_str(&path), &key, err)) || (rc = certs_read(buf_span(&cert), &chain, err)) || (rc = cert_device_id(chain.cert[0], ID_RULE_CN, &id, err)))
        return err_prefix(err, "%s/%s", top, folder);
    struct device *d = add(f, buf_span(&id), WAY_ISSUED, err);
    return !d || read_credential(buf_span(&cert), buf_span(&key), &d->has, err) ? err_prefix(err, "%s/%s", top, folder) : 0;
}

static int read_issued(struct fleet *f, const char *top, struct err *err) {
    CLEANUP(closedir) DIR *dir = opendir(top);
    size_t before = f->n;
    int rc = 0;
    if (!dir)
        return err_set(err, MUSTER_ENOTFOUND, "The directory %s cannot be opened: %s.", top, strerror(errno));
    for (struct dirent *e; !rc && (e = readdir(dir));)
        rc = e->d_name[0] == '.' ? 0 : take_issued(f, top, e->d_name, err);
    if (rc)
        return rc;
    return f->n > before ? 0 : err_set(err, MUSTER_ENOTFOUND, "In %s there is no folder with client.pem and pkey.pem, as `muster ca issue --from` writes them.", top);
}

static int take_code(struct fleet *f, struct span line, struct err *err) {
    CLEANUP(csv_line_fini) struct csv_line cells = {.n = 0};
    int rc = csv_read(&cells, line, err);
    if (rc)
        return rc;
    if (cells.n < 2 || !cells.cell[1].n)
        return err_set(err, MUSTER_EINVALID, "there are not two cells, a device ID and its code.");
    if (span_eq_str(cells.cell[0], "device_id"))
        return 0;
    struct device *d = add(f, cells.cell[0], WAY_CODE, err);
    if (!d)
        return err->code;
    d->code = strndup((const char *)cells.cell[1].p, cells.cell[1].n);
    return d->code ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

static int read_codes(struct fleet *f, const char *path, struct err *err) {
    struct secret file = SECRET_INIT;
    int rc = secret_read_file(&file, path, CODES_MAX, err);
    struct span rest = secret_span(&file);
    for (size_t number = 1; !rc && rest.n; number++) {
        long end = span_index(rest, '\n');
        struct span line = span_sub(rest, 0, end < 0 ? rest.n : (size_t)end);
        rest = span_sub(rest, line.n + 1, rest.n);
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        if (line.n && (rc = take_code(f, line, err)))
            err_prefix(err, "%s, line %zu", path, number);
    }
    secret_fini(&file);
    return rc;
}

/* --- what earlier runs have kept ------------------------------------------------------------------------------------------------------- */

/* A device ID as a file's name: what is not harmless there is written %XX. */
static void name_of(const char *id, struct buf *out) {
    for (const char *p = id; *p; p++)
        if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '_' || (*p == '.' && p > id))
            buf_addc(out, (uint8_t)*p);
        else
            buf_addf(out, "%%%02x", (unsigned char)*p);
    buf_adds(out, SUFFIX);
}

static int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/* And back; false: it is no such name. */
static bool id_of(const char *name, struct buf *out) {
    size_t n = strlen(name);
    if (n <= strlen(SUFFIX) || strcmp(name + n - strlen(SUFFIX), SUFFIX) != 0)
        return false;
    for (const char *p = name; p < name + n - strlen(SUFFIX); p++) {
        int high = *p == '%' ? hex_digit(p[1]) : 0, low = *p == '%' && high >= 0 ? hex_digit(p[2]) : 0;
        if (high < 0 || low < 0)
            return false;
        buf_addc(out, *p == '%' ? (uint8_t)(high << 4 | low) : (uint8_t)*p);
        p += *p == '%' ? 2 : 0;
    }
    return buf_ok(out);
}

static int load(struct fleet *f, struct device *d, struct err *err) {
    CLEANUP(buf_fini) struct buf name = BUF_INIT(8 * DEVICE_ID_MAX);
    CLEANUP(buf_wipe) struct buf file = BUF_INIT(FILE_MAX);
    struct stat st;
    name_of(d->id, &name);
    int rc = file_read(f->state, buf_str(&name), &file, NULL);
    if (rc == MUSTER_ENOTFOUND)
        return 0;
    if (rc)
        return file_read(f->state, buf_str(&name), &file, err);
    /* The key comes first: what reads certificates takes no file that has one. */
    long certs = span_find(buf_span(&file), SPAN_LIT("-----BEGIN CERTIFICATE"));
    size_t at = certs >= 0 ? (size_t)certs : file.n;
    if (fstatat(f->state, buf_str(&name), &st, 0) == 0 && st.st_mode & 077)
        return err_set(err, MUSTER_EINVALID, "%s in the directory of the state can be read by others (mode %03o), and has a device's key. Make it its owner's alone: chmod 600.", buf_str(&name),
                       st.st_mode & 0777u);
    rc = read_credential(span_sub(buf_span(&file), at, file.n), span_sub(buf_span(&file), 0, at), &d->has, err);
    return rc ? err_prefix(err, "%s in the directory of the state", buf_str(&name)) : 0;
}

int fleet_keep(const struct fleet *f, struct device *d, struct err *err) {
    if (f->state < 0)
        return 0;
    CLEANUP(buf_fini) struct buf name = BUF_INIT(8 * DEVICE_ID_MAX);
    CLEANUP(buf_wipe) struct buf file = BUF_INIT(FILE_MAX);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct span rest = span_of(d->has.chain, d->has.chain_n);
    name_of(d->id, &name);
    int rc = credential_key(&d->has, &key, err);
    if (!rc)
        rc = key_private_pem(key, &file, err);
    while (!rc && rest.n) {
        CLEANUP(cert_free) struct cert *c = NULL;
        if (!(rc = cert_from_der_next(&rest, &c, err)) && (rc = cert_pem(c, &file)))
            err_set(err, rc, NULL);
    }
    if (rc || (rc = buf_check(&file, err)) || (rc = file_replace_loose(f->state, buf_str(&name), buf_span(&file), 0600, err)))
        return rc;
    d->unsaved = false;
    return 0;
}

int fleet_save(struct fleet *f, struct err *err) {
    for (size_t i = 0; f->state >= 0 && i < f->n; i++) {
        int rc = f->device[i].unsaved ? fleet_keep(f, &f->device[i], err) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

/* --- all of it ---------------------------------------------------------------------------------------------------------------------------- */

static int take_credentials(struct fleet *f, const char *path, struct err *err) {
    CLEANUP(credentials_fini) struct credentials c = CREDENTIALS_INIT;
    int rc = credentials_at(path, &c, err);
    if (rc)
        return rc;
    if (c.kind != CREDENTIALS_SHARED)
        return err_set(err, MUSTER_EINVALID, "%s has no provisioning key; certificates of devices are named by --issued.", path);
    if ((rc = credential_set(&f->key, c.key, c.cert, &c.above, err)))
        return rc;
    snprintf(f->gateway, sizeof f->gateway, "%s", c.gateway);
    f->anchors = c.anchors;
    c.anchors = CERTS_INIT;
    return 0;
}

static int open_state(struct fleet *f, const char *path, struct err *err) {
    int rc = file_make_dir(AT_FDCWD, path, 0700, err);
    if (rc)
        return rc;
    struct stat st;
    f->state = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->state < 0 || fstat(f->state, &st))
        return err_set(err, MUSTER_EIO, "The directory %s cannot be opened: %s.", path, strerror(errno));
    if ((st.st_mode & 022) || (st.st_uid != geteuid() && st.st_uid != 0))
        return err_set(err, MUSTER_EINVALID, "Others than its owner may write to %s, or it is another user's: keys of devices are not kept there. Name a directory of this user's own.", path);
    return 0;
}

/* Those that are kept, whatever they are called, and in whichever way they came. */
static int add_kept(struct fleet *f, const char *path, struct err *err) {
    CLEANUP(closedir) DIR *dir = opendir(path);
    if (!dir)
        return err_set(err, MUSTER_EIO, "The directory %s cannot be opened: %s.", path, strerror(errno));
    for (struct dirent *e; (e = readdir(dir));) {
        CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
        if (id_of(e->d_name, &id) && !add(f, buf_span(&id), WAY_KEY, err))
            return err->code;
    }
    return 0;
}

static int add_new(struct fleet *f, const struct sim_options *o, struct err *err) {
    for (int64_t i = 1; i <= (o->devices > 0 ? o->devices : 1); i++) {
        CLEANUP(buf_fini) struct buf id = BUF_INIT(DEVICE_ID_MAX);
        buf_addf(&id, "%s-%lld", o->prefix, (long long)i);
        if (!buf_ok(&id))
            return err_set(err, MUSTER_EUSAGE, "--prefix is too long.");
        if (!add(f, buf_span(&id), WAY_KEY, err))
            return err->code;
    }
    return 0;
}

static int by_id(const void *a, const void *b) { return strcmp(((const struct device *)a)->id, ((const struct device *)b)->id); }

/* The ways in which a device may be named twice are errors of whoever said so. */
static int check_ids(struct fleet *f, struct err *err) {
    if (!f->n)
        return err_set(err, MUSTER_ENOTFOUND, "There are no devices: neither kept ones nor others.");
    qsort(f->device, f->n, sizeof *f->device, by_id);
    for (size_t i = 1; i < f->n; i++)
        if (!strcmp(f->device[i - 1].id, f->device[i].id))
            return err_set(err, MUSTER_EINVALID, "The device %s is named twice.", f->device[i].id);
    return 0;
}

int fleet_open(const struct sim_options *o, struct fleet *f, struct err *err) {
    CLEANUP(buf_fini) struct buf ca = BUF_INIT(FILE_MAX);
    int rc = o->credentials ? take_credentials(f, o->credentials, err) : 0;
    if (!rc && o->ca) {
        certs_fini(&f->anchors);
        if (!(rc = file_read(AT_FDCWD, o->ca, &ca, err)) && (rc = certs_read(buf_span(&ca), &f->anchors, err)))
            err_prefix(err, "%s", o->ca);
    }
    if (rc)
        return rc;
    if (o->gateway)
        snprintf(f->gateway, sizeof f->gateway, "%s", o->gateway);
    if (!f->anchors.n || !f->gateway[0])
        return err_set(err, MUSTER_EUSAGE, "Where the gateway is, and by which certificate it is known, say --gateway and --ca, or --credentials.");
    if (o->state && (rc = open_state(f, o->state, err)))
        return rc;
    if ((o->issued && (rc = read_issued(f, o->issued, err))) || (o->codes && (rc = read_codes(f, o->codes, err))))
        return rc;
    if (o->credentials && (o->devices > 0 || !o->state))
        rc = add_new(f, o, err);
    else if (o->state && !o->issued && !o->codes)
        rc = add_kept(f, o->state, err);
    if (!rc && !f->n && o->credentials) /* the first run with a state */
        rc = add_new(f, o, err);
    if (rc || (rc = check_ids(f, err)))
        return rc;
    for (size_t i = 0; !rc && f->state >= 0 && i < f->n; i++)
        rc = load(f, &f->device[i], err);
    return rc;
}

void fleet_fini(struct fleet *f) {
    for (size_t i = 0; i < f->n; i++) {
        struct device *d = &f->device[i];
        credential_fini(&d->has);
        EVP_PKEY_free(d->next);
        free(d->code);
        free(d->id);
    }
    free(f->device);
    credential_fini(&f->key);
    certs_fini(&f->anchors);
    fd_close(f->state);
}
