/* keyring/token: keys in a PKCS#11 token (OASIS PKCS#11 2.40): made there, used there, and not able to leave it.
 *
 * A module is loaded when the first key of it is asked for, and finalised with the last one; it stays in memory, since not every module survives dlclose().  A token
 * that counts wrong PINs is never taken to its last try.  Each call holds the one lock: modules that say nothing of threads are called by one. */
#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#include "keyring/cryptoki.h"
#include "keyring/part.h"
#include "keyring/pins.h"
#include "pki/pki.h"

#define USUAL_MODULE "p11-kit-proxy.so"
#define P11KIT_MODULES "/usr/lib/pkcs11/"
#define SLOTS_MAX 64
#define ID_LEN 16
#define POINT_ROOM 128

static const uint8_t P256_OID[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};

struct library {
    struct library *next;
    char path[URI_PATH_MAX];
    struct ck_functions *f;
    unsigned users;
    pid_t pid; /* that initialised it: a child has to do so again */
    bool mine; /* nobody else in this process has */
};

struct session {
    struct library *lib; /* NULL: none */
    unsigned long handle;
    pid_t pid;
};

struct token_key {
    struct keyring_uri uri;
    struct session session;
    unsigned long object; /* in the session; 0: not looked for yet */
    bool each_time;       /* it wants the PIN for each signature (CKA_ALWAYS_AUTHENTICATE), as PIV's signing keys do */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct library *libraries;

/* --- what a module says ----------------------------------------------------------------------------------------------------------------------------- */

static int said(struct err *err, const char *doing, ck_rv rv) {
    static const struct {
        ck_rv rv;
        int code;
        const char *text;
    } known[] = {
        {CKR_DEVICE_ERROR, MUSTER_EKEYAWAY, "CKR_DEVICE_ERROR"},
        {CKR_DEVICE_REMOVED, MUSTER_EKEYAWAY, "CKR_DEVICE_REMOVED"},
        {CKR_TOKEN_NOT_PRESENT, MUSTER_EKEYAWAY, "CKR_TOKEN_NOT_PRESENT"},
        {CKR_GENERAL_ERROR, MUSTER_EKEYAWAY, "CKR_GENERAL_ERROR"},
        {CKR_FUNCTION_FAILED, MUSTER_EKEYAWAY, "CKR_FUNCTION_FAILED"},
        {CKR_SESSION_HANDLE_INVALID, MUSTER_EKEYAWAY, "CKR_SESSION_HANDLE_INVALID"},
        {CKR_CRYPTOKI_NOT_INITIALIZED, MUSTER_EKEYAWAY, "CKR_CRYPTOKI_NOT_INITIALIZED"},
        {CKR_HOST_MEMORY, MUSTER_ENOMEM, "CKR_HOST_MEMORY"},
        {CKR_DEVICE_MEMORY, MUSTER_EKEYFULL, "CKR_DEVICE_MEMORY"},
        {CKR_MECHANISM_INVALID, MUSTER_EINVALID, "CKR_MECHANISM_INVALID"},
        {CKR_TEMPLATE_INCONSISTENT, MUSTER_EINVALID, "CKR_TEMPLATE_INCONSISTENT"},
        {CKR_TOKEN_WRITE_PROTECTED, MUSTER_EINVALID, "CKR_TOKEN_WRITE_PROTECTED"},
        {CKR_PIN_INCORRECT, MUSTER_EKEYPIN, "CKR_PIN_INCORRECT"},
        {CKR_PIN_INVALID, MUSTER_EKEYPIN, "CKR_PIN_INVALID"},
        {CKR_PIN_LEN_RANGE, MUSTER_EKEYPIN, "CKR_PIN_LEN_RANGE"},
        {CKR_PIN_EXPIRED, MUSTER_EKEYPIN, "CKR_PIN_EXPIRED"},
        {CKR_PIN_LOCKED, MUSTER_EKEYPIN, "CKR_PIN_LOCKED"},
        {CKR_USER_PIN_NOT_INITIALIZED, MUSTER_EKEYPIN, "CKR_USER_PIN_NOT_INITIALIZED"},
        {CKR_USER_NOT_LOGGED_IN, MUSTER_EKEYPIN, "CKR_USER_NOT_LOGGED_IN; its PIN is named by pin-source"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].rv == rv)
            return err_set(err, known[i].code, "%s failed: %s.", doing, known[i].text);
    return err_set(err, MUSTER_EKEYAWAY, "%s failed: CKR 0x%lx.", doing, rv);
}

/* --- modules ------------------------------------------------------------------------------------------------------------------------------------------ */

/* By its name alone (RFC 7512, module-name) where p11-kit keeps modules, or the linker finds them. */
static void *load_named(const char *name) {
    static const char *const BEFORE[] = {"", "lib", P11KIT_MODULES};
    char path[URI_PATH_MAX];
    void *dl = NULL;
    for (size_t i = 0; !dl && i < sizeof BEFORE / sizeof *BEFORE; i++) {
        snprintf(path, sizeof path, "%s%s.so", BEFORE[i], name);
        dl = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    }
    return dl;
}

static struct library *load(const struct keyring_uri *u, struct err *err) {
    const char *path = u->path[0] ? u->path : u->module[0] ? u->module : USUAL_MODULE;
    bool named = !u->path[0] && u->module[0];
    for (struct library *l = libraries; l; l = l->next)
        if (!strcmp(l->path, path))
            return l;
    ck_rv (*get)(struct ck_functions **) = NULL;
    struct ck_functions *f = NULL;
    void *dl = named ? load_named(path) : dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!dl) {
        err_set(err, MUSTER_EKEYAWAY, "The PKCS#11 module cannot be loaded: %s.", dlerror());
        return NULL;
    }
    *(void **)&get = dlsym(dl, "C_GetFunctionList");
    if (!get || get(&f) != CKR_OK || !f || f->version.major != 2) {
        err_set(err, MUSTER_EINVALID, "%s is no PKCS#11 module of version 2.", path);
        return NULL;
    }
    struct library *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    *l = (struct library){.next = libraries, .f = f};
    snprintf(l->path, sizeof l->path, "%s", path);
    libraries = l;
    return l;
}

static int use(struct library *l, struct err *err) {
    struct ck_initialize_args args = {.flags = CKF_OS_LOCKING_OK};
    if (l->users && l->pid == getpid()) {
        l->users++;
        return 0;
    }
    ck_rv rv = l->f->initialize(&args);
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return said(err, "Starting the PKCS#11 module", rv);
    l->mine = rv == CKR_OK;
    l->pid = getpid();
    l->users = 1;
    return 0;
}

static void leave(struct library *l) {
    if (l->pid == getpid() && --l->users == 0 && l->mine)
        l->f->finalize(NULL);
}

/* --- tokens -------------------------------------------------------------------------------------------------------------------------------------------- */

static bool is(const char *wanted, const unsigned char *field, size_t n) {
    while (n && (field[n - 1] == ' ' || field[n - 1] == '\0'))
        n--;
    return !wanted[0] || (strlen(wanted) == n && memcmp(wanted, field, n) == 0);
}

static bool is_version(const char *wanted, const struct ck_version *v) {
    char both[16], major[8];
    snprintf(both, sizeof both, "%u.%u", v->major, v->minor);
    snprintf(major, sizeof major, "%u", v->minor ? 1000u : v->major); /* "3" is 3.0 */
    return !wanted[0] || !strcmp(wanted, both) || !strcmp(wanted, major);
}

/* Of a proxy these say nothing: it has modules of all kinds behind it. */
static bool is_library(const struct library *l, const struct keyring_uri *u) {
    struct ck_info i;
    bool asked = u->library_manufacturer[0] || u->library_description[0] || u->library_version[0];
    return !asked || (!u->path[0] && !u->module[0]) || (l->f->get_info(&i) == CKR_OK && is(u->library_manufacturer, i.manufacturer, sizeof i.manufacturer) &&
                                                       is(u->library_description, i.description, sizeof i.description) && is_version(u->library_version, &i.version));
}

static bool is_slot(const struct library *l, const struct keyring_uri *u, unsigned long slot) {
    struct ck_slot_info s;
    bool asked = u->slot_description[0] || u->slot_manufacturer[0];
    return (!u->has_slot || slot == u->slot) && (!asked || (l->f->get_slot_info(slot, &s) == CKR_OK && is(u->slot_description, s.description, sizeof s.description) &&
                                                            is(u->slot_manufacturer, s.manufacturer, sizeof s.manufacturer)));
}

static int find_token(const struct library *l, const struct keyring_uri *u, unsigned long *slot, struct ck_token_info *info, struct err *err) {
    unsigned long slots[SLOTS_MAX], n = SLOTS_MAX, found = 0;
    if (!is_library(l, u))
        return err_set(err, MUSTER_EKEYAWAY, "The PKCS#11 module %s is another one than the key's URI names (library-manufacturer, library-description, library-version).", l->path);
    ck_rv rv = l->f->get_slot_list(1, slots, &n);
    if (rv != CKR_OK)
        return said(err, "Looking for the token", rv);
    for (unsigned long i = 0; i < n; i++) {
        struct ck_token_info t;
        if (!is_slot(l, u, slots[i]) || l->f->get_token_info(slots[i], &t) != CKR_OK)
            continue;
        if (!is(u->token, t.label, sizeof t.label) || !is(u->serial, t.serial, sizeof t.serial) || !is(u->model, t.model, sizeof t.model) ||
            !is(u->manufacturer, t.manufacturer, sizeof t.manufacturer))
            continue;
        *slot = slots[i];
        *info = t;
        found++;
    }
    if (found == 1)
        return 0;
    if (found)
        return err_set(err, MUSTER_EINVALID, "Several tokens are the one that the key's URI names; add its serial.");
    return err_set(err, MUSTER_EKEYAWAY, "The token%s%s that the key's URI names is in no slot of %s.", u->token[0] ? " " : "", u->token, l->path);
}

static struct pin_asked asked_of(const struct ck_token_info *t) {
    struct pin_asked asked = {.pin = PIN_OF_KEY};
    snprintf(asked.who, sizeof asked.who, "token %.*s %.*s", (int)sizeof t->serial, (const char *)t->serial, (int)sizeof t->label, (const char *)t->label);
    return asked;
}

/* What the token itself has said of the PIN; anything else is no word on it. */
static bool is_refusal(ck_rv rv) { return rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE || rv == CKR_PIN_EXPIRED; }

static int log_in(const struct session *s, const struct keyring_uri *u, unsigned long user, const struct ck_token_info *t, struct err *err) {
    CLEANUP(secret_fini) struct secret pin = SECRET_INIT;
    const struct pin_asked asked = asked_of(t);
    int rc = pin_read(&u->pin, PIN_OF_KEY, &pin, err);
    if (rc || !pin.n)
        return rc;
    if (t->flags & CKF_USER_PIN_LOCKED)
        return err_set(err, MUSTER_EKEYPIN, "The token is locked: too many wrong PINs. Its security officer sets a new one.");
    if (t->flags & CKF_USER_PIN_FINAL_TRY)
        return err_set(err, MUSTER_EKEYPIN, "The token locks itself at the next wrong PIN, so this one is not tried. Log in once by hand (pkcs11-tool --login --list-objects), which clears that.");
    if ((rc = pin_check(&asked, secret_span(&pin), err)))
        return rc;
    ck_rv rv = s->lib->f->login(s->handle, user, pin.p, pin.n);
    if (rv == CKR_OK)
        pin_taken(&asked, secret_span(&pin));
    if (is_refusal(rv))
        pin_refused(&asked, secret_span(&pin));
    return rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN ? 0 : said(err, "Logging in to the token", rv);
}

static void disconnect(struct session *s) {
    if (s->lib && s->pid == getpid()) {
        s->lib->f->close_session(s->handle);
        leave(s->lib);
    }
    *s = (struct session){.lib = NULL};
}
DEFINE_CLEANUP_FINI(disconnect, struct session)

/* may_write: a token that is write-protected, or whose user may only sign, gives no such session. */
static int connect_token(const struct keyring_uri *u, bool may_write, struct session *out, struct err *err) {
    CLEANUP(disconnect) struct session s = {.lib = NULL};
    struct library *l = load(u, err);
    struct ck_token_info info;
    unsigned long slot = 0;
    int rc = l ? use(l, err) : err ? err->code : MUSTER_EKEYAWAY;
    if (rc || !l)
        return rc;
    ck_rv rv = CKR_OK;
    if ((rc = find_token(l, u, &slot, &info, err)) || (rv = l->f->open_session(slot, CKF_SERIAL_SESSION | (may_write ? CKF_RW_SESSION : 0), NULL, NULL, &s.handle)) != CKR_OK) {
        leave(l);
        return rc ? rc : said(err, "Opening a session with the token", rv);
    }
    s.lib = l;
    s.pid = getpid();
    if ((rc = log_in(&s, u, CKU_USER, &info, err)))
        return rc;
    *out = s;
    s.lib = NULL;
    return 0;
}

/* --- objects ------------------------------------------------------------------------------------------------------------------------------------------- */

/* *object 0: there is none. */
static int find(const struct session *s, const struct keyring_uri *u, unsigned long class, unsigned long *object, struct err *err) {
    struct ck_attribute what[3] = {{CKA_CLASS, &class, sizeof class}};
    unsigned long n = 1, found[2], found_n = 0;
    if (u->id_n)
        what[n++] = (struct ck_attribute){CKA_ID, (void *)(uintptr_t)u->id, u->id_n};
    else
        what[n++] = (struct ck_attribute){CKA_LABEL, (void *)(uintptr_t)u->object, strlen(u->object)};
    ck_rv rv = s->lib->f->find_objects_init(s->handle, what, n);
    if (rv == CKR_OK) {
        rv = s->lib->f->find_objects(s->handle, found, 2, &found_n);
        s->lib->f->find_objects_final(s->handle);
    }
    if (rv != CKR_OK)
        return said(err, "Looking for the key in the token", rv);
    if (found_n > 1)
        return err_set(err, MUSTER_EINVALID, "The token has several keys of the name in the URI; name the key by its id.");
    *object = found_n ? found[0] : 0;
    return 0;
}

static int find_private(const struct session *s, const struct keyring_uri *u, unsigned long *object, struct err *err) {
    int rc = find(s, u, CKO_PRIVATE_KEY, object, err);
    if (rc || *object)
        return rc;
    return err_set(err, MUSTER_EKEYGONE, u->pin.file[0] || u->pin.env[0] ? "The token has no private key of that name."
                                                                         : "The token shows no private key of that name; where it has to be logged in to, the URI names the PIN by pin-source.");
}

/* CKA_EC_POINT is an OCTET STRING around the point; some modules leave that out. */
static int read_point(const struct session *s, unsigned long object, EVP_PKEY **out, struct err *err) {
    uint8_t room[POINT_ROOM];
    struct ck_attribute a = {CKA_EC_POINT, room, sizeof room};
    ck_rv rv = s->lib->f->get_attribute_value(s->handle, object, &a, 1);
    if (rv != CKR_OK || a.n > sizeof room)
        return err_set(err, MUSTER_EINVALID, "The token's key is not one on an elliptic curve, or its public half cannot be read.");
    const uint8_t *p = room;
    bool wrapped = a.n > 2 && p[0] == 0x04 && p[1] == a.n - 2 && p[2] == 0x04;
    return part_public(wrapped ? p + 2 : p, wrapped ? a.n - 2 : a.n, out, err);
}

static int read_public(const struct session *s, const struct keyring_uri *u, EVP_PKEY **out, struct err *err) {
    unsigned long private = 0, public = 0;
    int rc = find_private(s, u, &private, err);
    if (rc || (rc = find(s, u, CKO_PUBLIC_KEY, &public, err)))
        return rc;
    return read_point(s, public ? public : private, out, err);
}

static int destroy(const struct session *s, const struct keyring_uri *u, struct err *err) {
    static const unsigned long CLASSES[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    for (size_t i = 0; i < sizeof CLASSES / sizeof *CLASSES; i++) {
        unsigned long object = 0;
        int rc = find(s, u, CLASSES[i], &object, err);
        if (rc)
            return rc;
        ck_rv rv = object ? s->lib->f->destroy_object(s->handle, object) : CKR_OK;
        if (rv != CKR_OK)
            return said(err, "Removing a key from the token", rv);
    }
    return 0;
}

/* --- signing ---------------------------------------------------------------------------------------------------------------------------------------------- */

static bool wants_pin_each_time(const struct session *s, unsigned long object) {
    unsigned char each = 0;
    struct ck_attribute what = {CKA_ALWAYS_AUTHENTICATE, &each, 1};
    return s->lib->f->get_attribute_value(s->handle, object, &what, 1) == CKR_OK && what.n == 1 && each;
}

/* For the signature that was begun, once: a PIN that is refused here is tried nowhere again. */
static int log_in_again(const struct session *s, const struct keyring_uri *u, struct err *err) {
    struct ck_token_info info;
    unsigned long slot;
    int rc = find_token(s->lib, u, &slot, &info, err);
    if (rc || u->pin.file[0] || u->pin.env[0])
        return rc ? rc : log_in(s, u, CKU_CONTEXT_SPECIFIC, &info, err);
    return said(err, "Signing in the token", CKR_USER_NOT_LOGGED_IN);
}

/* Of another kind than asked for, which modules say in ways of their own: a curve of another width, or none. */
static bool is_other_kind(const struct session *s, unsigned long object, size_t width) {
    uint8_t room[64];
    struct ck_attribute a = {CKA_EC_PARAMS, room, sizeof room};
    ck_rv rv = s->lib->f->get_attribute_value(s->handle, object, &a, 1);
    return rv == CKR_OK ? (a.n == sizeof P256_OID && !memcmp(room, P256_OID, sizeof P256_OID)) != (width == 32) : rv == CKR_ATTRIBUTE_TYPE_INVALID;
}

static int sign_once(struct token_key *k, struct span digest, uint8_t *rs, size_t width, struct err *err) {
    struct ck_mechanism how = {CKM_ECDSA, NULL, 0};
    unsigned long n = 2 * width;
    int rc;
    if (k->session.lib && k->session.pid != getpid())
        k->session.lib = NULL; /* the parent's */
    if (!k->session.lib) {
        k->object = 0;
        if ((rc = connect_token(&k->uri, false, &k->session, err)))
            return rc;
    }
    if (!k->object) {
        if ((rc = find_private(&k->session, &k->uri, &k->object, err)))
            return rc;
        k->each_time = wants_pin_each_time(&k->session, k->object);
    }
    const struct ck_functions *f = k->session.lib->f;
    ck_rv rv = f->sign_init(k->session.handle, &how, k->object);
    if (rv == CKR_OK && k->each_time && (rc = log_in_again(&k->session, &k->uri, err)))
        return rc;
    if (rv == CKR_OK)
        rv = f->sign(k->session.handle, (unsigned char *)(uintptr_t)digest.p, digest.n, rs, &n);
    if ((rv != CKR_OK || n != 2 * width) && is_other_kind(&k->session, k->object, width))
        return err_set(err, MUSTER_EKEYGONE, "The token has another key under that name, of another kind: key and certificate are no pair.");
    if (rv != CKR_OK)
        return said(err, "Signing in the token", rv);
    return n == 2 * width ? 0 : err_set(err, MUSTER_EKEYAWAY, "The token's signature has %lu bytes.", n);
}

/* A token that went away and came back is found again at the second try. */
static int token_sign(void *arg, struct span digest, uint8_t *rs, size_t width, struct err *err) {
    struct token_key *k = arg;
    pthread_mutex_lock(&lock);
    bool was_open = k->session.lib && k->session.pid == getpid();
    int rc = sign_once(k, digest, rs, width, err);
    if (rc) {
        disconnect(&k->session);
        rc = was_open ? sign_once(k, digest, rs, width, err) : rc;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static void token_free(void *arg) {
    struct token_key *k = arg;
    pthread_mutex_lock(&lock);
    disconnect(&k->session);
    pthread_mutex_unlock(&lock);
    free(k);
}

static const struct key_elsewhere_ops OPS = {.sign = token_sign, .free = token_free};

/* Takes the session over. */
static int give(const struct keyring_uri *u, struct session *s, const EVP_PKEY *public, EVP_PKEY **out, struct err *err) {
    struct token_key *k = calloc(1, sizeof *k);
    if (!k)
        return err_set(err, MUSTER_ENOMEM, NULL);
    k->uri = *u;
    k->session = *s;
    *s = (struct session){.lib = NULL};
    return part_key(public, &OPS, k, out, err);
}

/* --- the part --------------------------------------------------------------------------------------------------------------------------------------------- */

static int token_open(const struct keyring_uri *u, EVP_PKEY **out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *public = NULL;
    struct session s = {.lib = NULL};
    pthread_mutex_lock(&lock);
    int rc = connect_token(u, false, &s, err);
    rc = rc ? rc : read_public(&s, u, &public, err);
    if (rc)
        disconnect(&s);
    pthread_mutex_unlock(&lock);
    return rc ? rc : give(u, &s, public, out, err);
}

static int token_open_known(const struct keyring_uri *u, const EVP_PKEY *public, EVP_PKEY **out, struct err *err) {
    return give(u, &(struct session){.lib = NULL}, public, out, err);
}

/* What the token was asked for it may not have done. */
static bool stays_inside(const struct session *s, unsigned long key) {
    unsigned char extractable = 1, sensitive = 0;
    struct ck_attribute what[] = {{CKA_EXTRACTABLE, &extractable, 1}, {CKA_SENSITIVE, &sensitive, 1}};
    return s->lib->f->get_attribute_value(s->handle, key, what, 2) == CKR_OK && !extractable && sensitive;
}

static int generate(const struct session *s, const struct keyring_uri *u, EVP_PKEY **public, struct err *err) {
    unsigned char yes = 1, no = 0;
    void *id = (void *)(uintptr_t)u->id, *label = (void *)(uintptr_t)u->object;
    struct ck_mechanism how = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    struct ck_attribute open[] = {{CKA_TOKEN, &yes, 1}, {CKA_VERIFY, &yes, 1}, {CKA_EC_PARAMS, (void *)(uintptr_t)P256_OID, sizeof P256_OID}, {CKA_ID, id, u->id_n},
                                  {CKA_LABEL, label, strlen(u->object)}};
    struct ck_attribute shut[] = {{CKA_TOKEN, &yes, 1}, {CKA_PRIVATE, &yes, 1}, {CKA_SENSITIVE, &yes, 1}, {CKA_EXTRACTABLE, &no, 1}, {CKA_SIGN, &yes, 1}, {CKA_ID, id, u->id_n},
                                  {CKA_LABEL, label, strlen(u->object)}};
    unsigned long public_key = 0, private_key = 0;
    ck_rv rv = s->lib->f->generate_key_pair(s->handle, &how, open, sizeof open / sizeof *open, shut, sizeof shut / sizeof *shut, &public_key, &private_key);
    if (rv != CKR_OK)
        return said(err, "Making a key in the token", rv);
    int rc = stays_inside(s, private_key) ? read_point(s, public_key, public, err) : err_set(err, MUSTER_EINVALID, "The token makes keys that can leave it; none is kept there.");
    if (rc)
        (void)destroy(s, u, NULL);
    return rc;
}

static int token_make(struct keyring_uri *u, const char *label, const struct naming *naming, EVP_PKEY **out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *public = NULL;
    struct session s = {.lib = NULL};
    if (!u->object[0])
        snprintf(u->object, sizeof u->object, "%s", label);
    u->id_n = ID_LEN;
    secret_random_bytes(u->id, u->id_n);
    pthread_mutex_lock(&lock);
    int rc = connect_token(u, true, &s, err);
    rc = rc ? rc : part_named(naming, u, err);
    rc = rc ? rc : generate(&s, u, &public, err);
    if (rc)
        disconnect(&s);
    pthread_mutex_unlock(&lock);
    return rc ? rc : give(u, &s, public, out, err);
}

static int token_has(const struct keyring_uri *u, bool *has, struct err *err) {
    struct session s = {.lib = NULL};
    unsigned long object = 0;
    pthread_mutex_lock(&lock);
    int rc = connect_token(u, false, &s, err);
    rc = rc ? rc : find(&s, u, CKO_PRIVATE_KEY, &object, err);
    disconnect(&s);
    pthread_mutex_unlock(&lock);
    *has = object != 0;
    return rc;
}

static int token_remove(const struct keyring_uri *u, struct err *err) {
    struct session s = {.lib = NULL};
    pthread_mutex_lock(&lock);
    int rc = connect_token(u, true, &s, err);
    rc = rc ? rc : destroy(&s, u, err);
    disconnect(&s);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int refused_of(const struct library *l, const struct keyring_uri *u, struct err *err) {
    CLEANUP(secret_fini) struct secret pin = SECRET_INIT;
    struct ck_token_info info;
    unsigned long slot = 0;
    if (pin_read(&u->pin, PIN_OF_KEY, &pin, NULL) || !pin.n || find_token(l, u, &slot, &info, NULL))
        return 0;
    const struct pin_asked asked = asked_of(&info);
    return pin_check(&asked, secret_span(&pin), err);
}

static int token_refused(const struct keyring_uri *u, struct err *err) {
    pthread_mutex_lock(&lock);
    struct library *l = load(u, NULL);
    int rc = 0;
    if (l && use(l, NULL) == 0) {
        rc = refused_of(l, u, err);
        leave(l);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

const struct keyring_part TOKEN_PART = {token_make, token_open, token_open_known, token_has, token_remove, token_refused};
