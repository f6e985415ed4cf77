/* keyring: see keyring.h. */
#include "keyring/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <sys/stat.h>

#include "base/file.h"
#include "keyring/call.h"
#include "keyring/pins.h"
#include "pki/pki.h"

#define KEY_FILE_MAX 65536

static const struct keyring_part *const PARTS[] = {[KEYRING_FILE] = &FILE_PART, [KEYRING_PKCS11] = &TOKEN_PART, [KEYRING_TPM2] = &TPM_PART};

/* --- names --------------------------------------------------------------------------------------------------------------------------------------- */

static int complete(const struct keyring_uri *u, enum keyring_use use, struct err *err) {
    if (use == KEYRING_A_PLACE && (u->id_n || u->has_spki))
        return err_set(err, MUSTER_EINVALID, "The URI names a key (%s), and a place where keys are made is needed.", u->id_n ? "id" : "spki");
    if (use == KEYRING_A_PLACE && u->place == KEYRING_PKCS11 && !u->token[0] && !u->serial[0] && !u->has_slot)
        return err_set(err, MUSTER_EINVALID, "The URI names no token: pkcs11:token=LABEL, or by serial or slot-id.");
    if (use == KEYRING_A_KEY && u->place == KEYRING_PKCS11 && !u->id_n && !u->object[0])
        return err_set(err, MUSTER_EINVALID, "The URI names no key in the token: by its id, or by object, its label.");
    if (use == KEYRING_A_KEY && u->place == KEYRING_TPM2 && !u->handle)
        return err_set(err, MUSTER_EINVALID, "The URI names no key in the TPM: tpm2:0x81…, a persistent handle.");
    return 0;
}

static int parse(const char *text, enum keyring_use use, struct keyring_uri *out, struct err *err) {
    int rc = uri_parse(text, out, err);
    return rc ? rc : complete(out, use, err);
}

int keyring_check(const char *uri, enum keyring_use use, struct err *err) {
    struct keyring_uri u;
    return parse(uri, use, &u, err);
}

int part_named(const struct naming *naming, const struct keyring_uri *u, struct err *err) {
    char uri[KEYRING_URI_MAX];
    int rc = uri_write(u, uri, err);
    return rc || !naming->named ? rc : naming->named(naming->arg, uri, err);
}

int part_public(const uint8_t *point, size_t n, EVP_PKEY **out, struct err *err) {
    const char *curve = n == 65 ? "P-256" : n == 97 ? "P-384" : NULL;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *empty = curve && point[0] == 4 ? EVP_EC_gen(curve) : NULL, *key = EVP_PKEY_new();
    if (!empty || !key || EVP_PKEY_copy_parameters(key, empty) != 1 || EVP_PKEY_set1_encoded_public_key(key, point, n) != 1)
        return pki_err(err, MUSTER_EINVALID, "Reading the public half of a key, which has to be on P-256 or P-384,");
    *out = TAKE(key);
    return 0;
}

void keyring_others_name(const char *uri, char out[KEYRING_URI_MAX]) {
    struct keyring_uri u;
    bool whole = uri_parse(uri, &u, NULL) == 0;
    if (whole && u.place == KEYRING_TPM2)
        snprintf(out, KEYRING_URI_MAX, "handle:0x%08x", u.handle);
    else
        snprintf(out, KEYRING_URI_MAX, "%s", whole && u.place == KEYRING_FILE ? u.path : uri);
}

void keyring_place_of(const char *uri, char out[KEYRING_URI_MAX]) {
    struct keyring_uri u;
    if (uri_parse(uri, &u, NULL) == 0 && u.place != KEYRING_FILE) {
        u.id_n = u.handle = 0;
        u.object[0] = '\0';
        u.has_spki = false;
        if (uri_write(&u, out, NULL) == 0 && keyring_check(out, KEYRING_A_PLACE, NULL) == 0)
            return;
    }
    out[0] = '\0';
}

bool keyring_same(const char *one, const char *other) {
    struct keyring_uri a, b;
    if (uri_parse(one, &a, NULL) || uri_parse(other, &b, NULL))
        return true;
    if (a.place != b.place)
        return false;
    if (a.place == KEYRING_TPM2)
        return a.handle == b.handle && (!a.has_spki || !b.has_spki || hash_eq(&a.spki, &b.spki));
    if (a.place == KEYRING_FILE)
        return !strcmp(a.path, b.path);
    return !a.id_n || !b.id_n || (a.id_n == b.id_n && memcmp(a.id, b.id, a.id_n) == 0);
}

bool keyring_exact(const char *uri) {
    struct keyring_uri u;
    return uri_parse(uri, &u, NULL) == 0 && (u.place != KEYRING_PKCS11 || u.id_n) && (u.place != KEYRING_TPM2 || u.handle);
}

static bool same_token(const struct keyring_uri *a, const struct keyring_uri *b) {
    return (a->token[0] && !strcmp(a->token, b->token) && (!a->serial[0] || !b->serial[0] || !strcmp(a->serial, b->serial))) || (a->serial[0] && !strcmp(a->serial, b->serial));
}

static bool take_source(struct pin_source *to, const struct pin_source *from) {
    bool other = (from->env[0] || from->file[0]) && (strcmp(to->env, from->env) != 0 || strcmp(to->file, from->file) != 0);
    if (other)
        *to = *from;
    return other;
}

bool keyring_moved(const char *uri, const char *place, char out[KEYRING_URI_MAX]) {
    struct keyring_uri u, p;
    bool other = false;
    if (!uri[0] || !place[0] || uri_parse(uri, &u, NULL) || uri_parse(place, &p, NULL) || u.place != p.place)
        return false;
    if (u.place == KEYRING_PKCS11 && same_token(&u, &p)) {
        other = (p.path[0] && strcmp(u.path, p.path) != 0) || (p.module[0] && !p.path[0] && (u.path[0] || strcmp(u.module, p.module) != 0));
        if (other) {
            memcpy(u.path, p.path, sizeof u.path);
            memcpy(u.module, p.module, sizeof u.module);
        }
        other = take_source(&u.pin, &p.pin) || other;
    } else if (u.place == KEYRING_TPM2 && !strcmp(u.path, p.path)) {
        other = take_source(&u.owner, &p.owner); /* a key's own PIN is that key's alone */
    }
    return other && uri_write(&u, out, NULL) == 0;
}

static bool same_or_unsaid(const char *a, const char *b) { return !a[0] || !b[0] || !strcmp(a, b); }

bool keyring_lies_in(const char *uri, const char *place) {
    struct keyring_uri u, p;
    if (uri_parse(uri, &u, NULL) || uri_parse(place, &p, NULL) || u.place != p.place)
        return false;
    if (u.place != KEYRING_PKCS11)
        return u.place == KEYRING_FILE || !strcmp(u.path, p.path);
    return same_or_unsaid(u.token, p.token) && same_or_unsaid(u.serial, p.serial) && (!u.has_slot || !p.has_slot || u.slot == p.slot);
}

/* --- keys ----------------------------------------------------------------------------------------------------------------------------------------- */

/* A file answers, or its disk has failed. */
static bool bounded(const struct keyring_uri *u) { return u->place != KEYRING_FILE; }

int keyring_make(const char *place, const char *label, int (*named)(void *arg, const char *uri, struct err *err), void *arg, EVP_PKEY **out, struct err *err) {
    struct keyring_uri u;
    int rc = parse(place, KEYRING_A_PLACE, &u, err);
    const struct naming naming = {named, arg};
    return rc ? rc : bounded(&u) ? call_make(PARTS[u.place], &u, label, &naming, out, err) : PARTS[u.place]->make(&u, label, &naming, out, err);
}

int keyring_open(const char *uri, EVP_PKEY **out, struct err *err) {
    struct keyring_uri u;
    int rc = parse(uri, KEYRING_A_KEY, &u, err);
    return rc ? rc : bounded(&u) ? call_open(PARTS[u.place], &u, out, err) : PARTS[u.place]->open(&u, out, err);
}

int keyring_open_known(const char *uri, const EVP_PKEY *public, EVP_PKEY **out, struct err *err) {
    struct keyring_uri u;
    int rc = parse(uri, KEYRING_A_KEY, &u, err);
    return rc ? rc : PARTS[u.place]->open_known(&u, public, out, err);
}

int keyring_fault(const EVP_PKEY *key, struct err *err) { return key_elsewhere_fault(key, err); }

int keyring_has(const char *uri, bool *has, struct err *err) {
    struct keyring_uri u;
    *has = false;
    int rc = parse(uri, KEYRING_A_KEY, &u, err);
    return rc ? rc : bounded(&u) ? call_has(PARTS[u.place], &u, has, err) : PARTS[u.place]->has(&u, has, err);
}

int keyring_refused(const char *uri, struct err *err) {
    struct keyring_uri u;
    return uri[0] && uri_parse(uri, &u, NULL) == 0 && PARTS[u.place]->refused ? call_refused(PARTS[u.place], &u, err) : 0;
}

bool keyring_has_pin(const char *uri) {
    struct keyring_uri u;
    return uri[0] && uri_parse(uri, &u, NULL) == 0 && (u.pin.file[0] || u.pin.env[0]);
}

void keyring_pin_variables(const char *uri, char names[2][64]) {
    struct keyring_uri u;
    names[0][0] = names[1][0] = '\0';
    if (!uri[0] || uri_parse(uri, &u, NULL))
        return;
    memcpy(names[0], u.pin.env, sizeof names[0]);
    memcpy(names[1], u.owner.env, sizeof names[1]);
}

int keyring_remove(const char *uri, struct err *err) {
    struct keyring_uri u;
    int rc = parse(uri, KEYRING_A_KEY, &u, err);
    return rc ? rc : bounded(&u) ? call_remove(PARTS[u.place], &u, err) : PARTS[u.place]->remove(&u, err);
}

/* --- files ---------------------------------------------------------------------------------------------------------------------------------------- */

static int file_make(struct keyring_uri *u, const char *label, const struct naming *naming, EVP_PKEY **out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(secret_fini) struct secret pin = SECRET_INIT;
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(KEY_FILE_MAX);
    (void)label;
    int rc = pin_read(&u->pin, PIN_OF_KEY, &pin, err);
    if (rc || (rc = key_generate(KEY_P256, 0, &key, err)) || (rc = pin.n ? key_private_pem_sealed(key, secret_span(&pin), &pem, err) : key_private_pem(key, &pem, err)))
        return rc;
    if ((rc = part_named(naming, u, err)) || (rc = file_create(AT_FDCWD, u->path, buf_span(&pem), 0600, err)))
        return rc;
    *out = TAKE(key);
    return 0;
}

/* A key that others can read is others' as well. */
static int file_open(const struct keyring_uri *u, EVP_PKEY **out, struct err *err) {
    CLEANUP(secret_fini) struct secret pin = SECRET_INIT;
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(KEY_FILE_MAX);
    struct stat st;
    if (stat(u->path, &st))
        return err_set(err, errno == ENOENT ? MUSTER_EKEYGONE : MUSTER_EIO, "The key %s cannot be looked at: %s.", u->path, strerror(errno));
    if (st.st_mode & 077)
        return err_set(err, MUSTER_EINVALID, "%s can be read by others (mode %03o). Make it its owner's alone: chmod 600.", u->path, st.st_mode & 0777u);
    int rc = pin_read(&u->pin, PIN_OF_KEY, &pin, err);
    return rc || (rc = file_read(AT_FDCWD, u->path, &pem, err)) ? rc : key_read_private(buf_span(&pem), secret_span(&pin), out, err);
}

static int file_open_known(const struct keyring_uri *u, const EVP_PKEY *public, EVP_PKEY **out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    int rc = file_open(u, &key, err);
    if (rc)
        return rc;
    if (EVP_PKEY_eq(key, public) != 1)
        return err_set(err, MUSTER_EINVALID, "%s is another key.", u->path);
    *out = TAKE(key);
    return 0;
}

static int file_has(const struct keyring_uri *u, bool *has, struct err *err) {
    *has = faccessat(AT_FDCWD, u->path, F_OK, 0) == 0;
    return *has || errno == ENOENT ? 0 : err_set(err, MUSTER_EIO, "The key %s cannot be looked at: %s.", u->path, strerror(errno));
}

static int file_drop(const struct keyring_uri *u, struct err *err) { return file_remove(AT_FDCWD, u->path, err); }

const struct keyring_part FILE_PART = {file_make, file_open, file_open_known, file_has, file_drop, NULL};
