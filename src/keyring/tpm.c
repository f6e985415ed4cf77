/* keyring/tpm: keys in a TPM 2.0 behind persistent handles, by its own commands over the kernel's device: a TPM needs no library for that, and this way nothing stays
 * open between two signatures.
 *
 * A key is a primary one of the storage hierarchy, made of the TPM's seed and of 64 random bytes that are forgotten at once, and becomes persistent once its name is
 * written down. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "keyring/part.h"
#include "keyring/pins.h"
#include "keyring/tpm_wire.h"
#include "pki/pki.h"

#define USUAL_DEVICE "/dev/tpmrm0" /* the kernel's resource manager: others may be at work as well */
#define FIRST_HANDLE 0x81400000u   /* of the owner's range, away from those that TCG has given away */
#define LAST_HANDLE 0x817fffffu
#define ANSWER_MS 120000
#define BUSY_TRIES 50
#define BUSY_NS 100000000L
#define TAKEN_TRIES 8
#define PIN_LEN_MAX 32
#define TRANSIENT 0x80 /* the first byte of such a handle (Part 2, 7.2) */

/* Response codes (Part 2, 6.6), those of a parameter or session without its number. */
enum {
    RC_BAD_AUTH = 0x0a2,
    RC_AUTH_FAIL = 0x08e,
    RC_HANDLE = 0x08b,
    RC_SIZE = 0x095,
    RC_INITIALIZE = 0x100,
    RC_NV_SPACE = 0x14b,
    RC_NV_DEFINED = 0x14c,
    RC_OBJECT_MEMORY = 0x902,
    RC_YIELDED = 0x908,
    RC_TESTING = 0x90a,
    RC_NV_RATE = 0x920,
    RC_LOCKOUT = 0x921,
    RC_RETRY = 0x922,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *device_of(const struct keyring_uri *u) { return u->path[0] ? u->path : USUAL_DEVICE; }

/* --- the device ------------------------------------------------------------------------------------------------------------------------------------- */

static int open_device(const struct keyring_uri *u, struct err *err) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct stat st;
    const char *path = device_of(u);
    int fd = -1;
    if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && strlen(path) < sizeof to.sun_path) {
        memcpy(to.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to)) {
            int failed = errno;
            close(fd);
            fd = -1;
            errno = failed;
        }
    } else {
        fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    }
    return fd >= 0 ? fd : err_set(err, MUSTER_EKEYAWAY, "The TPM at %s cannot be opened: %s.", path, strerror(errno));
}

static bool write_all(int fd, struct span s) {
    while (s.n) {
        ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL); /* a simulator that has gone is no reason to end the program */
        if (n < 0 && errno == ENOTSOCK)
            n = write(fd, s.p, s.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s = span_sub(s, (size_t)n, s.n);
    }
    return true;
}

/* A device gives an answer in one piece, a socket in as many as it likes. */
static bool read_answer(int fd, uint8_t *room, size_t *n) {
    for (*n = 0; *n < TPM_HEAD_LEN || *n < tpm_answer_len(span_of(room, *n));) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, ANSWER_MS);
        ssize_t got = ready > 0 ? read(fd, room + *n, TPM_MESSAGE_MAX - *n) : -1;
        if ((ready < 0 || got < 0) && errno == EINTR && ready != 0)
            continue;
        if (got <= 0 || (*n + (size_t)got >= TPM_HEAD_LEN && !tpm_answer_len(span_of(room, *n + (size_t)got))))
            return false;
        *n += (size_t)got;
    }
    return true;
}

/* One command; *rc is the TPM's word on it, and rest what it answered, in room.  The command is wiped: it may have a PIN in it. */
static int exchange(int fd, struct buf *command, uint8_t room[TPM_MESSAGE_MAX], uint32_t *rc, struct span *rest, struct err *err) {
    *rc = 0;
    *rest = SPAN_NONE;
    for (int tries = 0; tries < BUSY_TRIES; tries++) {
        size_t n = 0;
        bool done = buf_ok(command) && write_all(fd, buf_span(command)) && read_answer(fd, room, &n) && tpm_answer(span_of(room, n), rc, rest) == 0;
        if (!done) {
            buf_wipe(command);
            return err_set(err, MUSTER_EKEYAWAY, "The TPM gave no answer, or none that can be read.");
        }
        if (*rc != RC_RETRY && *rc != RC_YIELDED && *rc != RC_TESTING && *rc != RC_NV_RATE)
            break;
        nanosleep(&(struct timespec){.tv_nsec = BUSY_NS}, NULL);
    }
    buf_wipe(command);
    *rc = *rc & 0x80 ? *rc & 0xbf : *rc;
    return 0;
}

/* What the TPM has said of a PIN, and nothing else: locked is no word on it. */
static void judge(const struct pin_asked *asked, struct span pin, uint32_t rc) {
    if (rc == 0)
        pin_taken(asked, pin);
    if (rc == RC_BAD_AUTH || rc == RC_AUTH_FAIL)
        pin_refused(asked, pin);
}

static struct pin_asked key_asked(const struct keyring_uri *u) {
    struct pin_asked asked = {.pin = PIN_OF_KEY};
    int n = snprintf(asked.who, sizeof asked.who, "TPM %s 0x%08x ", device_of(u), u->handle);
    for (size_t i = 0; u->has_spki && i < 8; i++) /* a handle is given away again */
        n += snprintf(asked.who + n, sizeof asked.who - (size_t)n, "%02x", u->spki.b[i]);
    return asked;
}

static struct pin_asked owner_asked(const struct keyring_uri *u) {
    struct pin_asked asked = {.pin = PIN_OF_OWNER};
    snprintf(asked.who, sizeof asked.who, "TPM %s owner", device_of(u));
    return asked;
}

/* The TPM drops zeroes at the end, and a key by SHA-256 has no longer value. */
static int key_pin(const struct keyring_uri *u, struct secret *out, struct err *err) {
    int rc = pin_read(&u->pin, PIN_OF_KEY, out, err);
    if (rc || (out->n <= PIN_LEN_MAX && !(out->n && memchr(out->p, 0, out->n))))
        return rc;
    return err_set(err, MUSTER_EKEYPIN, PIN_OF_KEY " has more than %d bytes, or a zero byte; a TPM takes no such one.", PIN_LEN_MAX);
}

static int owner_pin(const struct keyring_uri *u, struct secret *out, struct err *err) {
    const struct pin_asked asked = owner_asked(u);
    int rc = pin_read(&u->owner, PIN_OF_OWNER, out, err);
    return rc ? rc : pin_check(&asked, secret_span(out), err);
}

static int refused(struct err *err, const char *doing, uint32_t rc) {
    static const struct {
        uint32_t rc;
        int code;
        const char *text;
    } known[] = {
        {RC_BAD_AUTH, MUSTER_EKEYPIN, "the authorisation value is wrong"},
        {RC_AUTH_FAIL, MUSTER_EKEYPIN, "the authorisation value is wrong"},
        {RC_LOCKOUT, MUSTER_EKEYAWAY, "it is locked for a while, after too many wrong authorisation values or power cuts; that passes by itself"},
        {RC_SIZE, MUSTER_EKEYPIN, "an authorisation value is longer than the TPM takes"},
        {RC_HANDLE, MUSTER_EKEYGONE, "there is no key behind that handle"},
        {RC_INITIALIZE, MUSTER_EKEYAWAY, "it was not started (TPM2_Startup)"},
        {RC_NV_SPACE, MUSTER_EKEYFULL, "it has no room for another persistent key"},
        {RC_OBJECT_MEMORY, MUSTER_EKEYFULL, "it has no room for another key to work with; behind /dev/tpmrm0 that does not happen"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].rc == rc)
            return err_set(err, known[i].code, "%s failed: %s.", doing, known[i].text);
    return err_set(err, MUSTER_EKEYAWAY, "%s failed: the TPM answers 0x%03x.", doing, rc);
}

static int garbled(struct err *err) { return err_set(err, MUSTER_EINVALID, "The TPM's key is not a signing key on P-256 or P-384, or its answer cannot be read."); }

/* --- keys -------------------------------------------------------------------------------------------------------------------------------------------- */

static int spki_of(const EVP_PKEY *public, struct hash *out, struct err *err) {
    struct key_facts facts;
    int rc = key_facts(public, &facts, err);
    if (!rc)
        *out = facts.spki;
    return rc;
}

/* The key behind the handle; MUSTER_EKEYGONE where there is none, or another one than the URI says. */
static int describe(int fd, const struct keyring_uri *u, EVP_PKEY **out, struct err *err) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(TPM_MESSAGE_MAX);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    uint8_t room[TPM_MESSAGE_MAX];
    struct tpm_public public;
    struct span rest;
    struct hash spki;
    uint32_t code;
    tpm_read_public(&b, u->handle);
    int rc = exchange(fd, &b, room, &code, &rest, err);
    if (rc || code)
        return rc ? rc : refused(err, "Looking for the key in the TPM", code);
    if (tpm_read_described(rest, &public)) /* one of another kind is another key */
        return u->has_spki ? err_set(err, MUSTER_EKEYGONE, "Behind the handle 0x%08x of the TPM is something else now.", u->handle) : garbled(err);
    if ((rc = part_public(public.point, public.n, &key, err)) || (rc = spki_of(key, &spki, err)))
        return rc;
    if (u->has_spki && !hash_eq(&spki, &u->spki))
        return err_set(err, MUSTER_EKEYGONE, "Behind the handle 0x%08x of the TPM is another key now.", u->handle);
    *out = TAKE(key);
    return 0;
}

static int sign_once(int fd, const struct keyring_uri *u, struct span digest, uint8_t *rs, size_t width, struct err *err) {
    CLEANUP(buf_wipe) struct buf b = BUF_INIT(TPM_MESSAGE_MAX);
    CLEANUP(secret_fini) struct secret pin = SECRET_INIT;
    uint8_t room[TPM_MESSAGE_MAX];
    struct span rest;
    uint32_t code;
    const struct pin_asked asked = key_asked(u);
    int rc = pin_read(&u->pin, PIN_OF_KEY, &pin, err);
    if (rc || (rc = pin_check(&asked, secret_span(&pin), err)))
        return rc;
    buf_reserve(&b, 1024); /* so that no copy of the PIN stays behind */
    tpm_sign(&b, u->handle, secret_span(&pin), digest);
    if ((rc = exchange(fd, &b, room, &code, &rest, err)))
        return rc;
    judge(&asked, secret_span(&pin), code);
    if (code)
        return refused(err, "Signing in the TPM", code);
    return tpm_read_signature(rest, rs, width) ? garbled(err) : 0;
}

static int tpm_key_sign(void *arg, struct span digest, uint8_t *rs, size_t width, struct err *err) {
    pthread_mutex_lock(&lock);
    CLEANUP(fd_close) int fd = open_device(arg, err);
    int rc = fd < 0 ? fd : sign_once(fd, arg, digest, rs, width, err);
    pthread_mutex_unlock(&lock);
    return rc;
}

static void tpm_key_free(void *arg) { free(arg); }

static const struct key_elsewhere_ops OPS = {.sign = tpm_key_sign, .free = tpm_key_free};

static int give(const struct keyring_uri *u, const EVP_PKEY *public, EVP_PKEY **out, struct err *err) {
    struct keyring_uri *mine = malloc(sizeof *mine);
    if (!mine)
        return err_set(err, MUSTER_ENOMEM, NULL);
    *mine = *u;
    return part_key(public, &OPS, mine, out, err);
}

static int look(const struct keyring_uri *u, EVP_PKEY **public, struct err *err) {
    pthread_mutex_lock(&lock);
    CLEANUP(fd_close) int fd = open_device(u, err);
    int rc = fd < 0 ? fd : describe(fd, u, public, err);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int tpm_open(const struct keyring_uri *u, EVP_PKEY **out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *public = NULL;
    int rc = look(u, &public, err);
    return rc ? rc : give(u, public, out, err);
}

static int tpm_open_known(const struct keyring_uri *u, const EVP_PKEY *public, EVP_PKEY **out, struct err *err) {
    struct hash spki;
    int rc = spki_of(public, &spki, err);
    if (rc)
        return rc;
    if (u->has_spki && !hash_eq(&spki, &u->spki))
        return err_set(err, MUSTER_EINVALID, "The key's URI is of another key (spki).");
    return give(u, public, out, err);
}

static int tpm_has(const struct keyring_uri *u, bool *has, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *public = NULL;
    struct err why = ERR_INIT;
    int rc = look(u, &public, &why);
    *has = rc == 0;
    if (rc && rc != MUSTER_EKEYGONE && err)
        *err = why;
    return rc == MUSTER_EKEYGONE ? 0 : rc;
}

/* --- making ------------------------------------------------------------------------------------------------------------------------------------------- */

static int free_handle(int fd, uint32_t from, uint32_t *out, struct err *err) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(TPM_MESSAGE_MAX);
    uint8_t room[TPM_MESSAGE_MAX];
    struct tpm_handles taken;
    struct span rest;
    uint32_t code;
    tpm_get_handles(&b, from);
    int rc = exchange(fd, &b, room, &code, &rest, err);
    if (rc || code)
        return rc ? rc : refused(err, "Looking for a free handle in the TPM", code);
    if (tpm_read_handles(rest, &taken))
        return garbled(err);
    *out = from;
    for (size_t i = 0; i < taken.n && taken.handle[i] == *out; i++) /* they come in order */
        ++*out;
    return *out <= LAST_HANDLE ? 0 : err_set(err, MUSTER_EKEYFULL, "No persistent handle of the TPM's owner is free from 0x%08x on.", from);
}

static int create(int fd, struct span owner, const struct keyring_uri *u, uint32_t *object, EVP_PKEY **public, struct err *err) {
    CLEANUP(buf_wipe) struct buf b = BUF_INIT(TPM_MESSAGE_MAX);
    CLEANUP(secret_fini) struct secret pin = SECRET_INIT;
    uint8_t room[TPM_MESSAGE_MAX], unique[2 * TPM_UNIQUE_LEN];
    struct tpm_public described;
    struct span rest;
    uint32_t code;
    const struct pin_asked asked = owner_asked(u);
    int rc = key_pin(u, &pin, err);
    if (rc)
        return rc;
    secret_random_bytes(unique, sizeof unique);
    buf_reserve(&b, 2048);
    tpm_create_primary(&b, owner, secret_span(&pin), unique);
    if ((rc = exchange(fd, &b, room, &code, &rest, err)))
        return rc;
    judge(&asked, owner, code);
    if (code)
        return refused(err, code == RC_BAD_AUTH || code == RC_AUTH_FAIL ? "Making a key in the TPM (by owner-pin-source, the storage hierarchy's PIN)" : "Making a key in the TPM", code);
    return tpm_read_created(rest, object, &described) ? garbled(err) : part_public(described.point, described.n, public, err);
}

static int evict(int fd, struct span owner, uint32_t object, uint32_t persistent, uint32_t *code, struct err *err) {
    CLEANUP(buf_wipe) struct buf b = BUF_INIT(TPM_MESSAGE_MAX);
    uint8_t room[TPM_MESSAGE_MAX];
    struct span rest;
    buf_reserve(&b, 1024);
    tpm_evict_control(&b, owner, object, persistent);
    return exchange(fd, &b, room, code, &rest, err);
}

/* Between looking for a free handle and taking it somebody else may have done so. */
static int persist(int fd, struct span owner, struct keyring_uri *u, uint32_t object, const struct naming *naming, struct err *err) {
    uint32_t from = u->handle ? u->handle : FIRST_HANDLE, code = 0;
    for (int tries = 0; tries < TAKEN_TRIES; tries++) {
        int rc = free_handle(fd, from, &u->handle, err);
        if (rc || (rc = part_named(naming, u, err)) || (rc = evict(fd, owner, object, u->handle, &code, err)))
            return rc;
        if (code != RC_NV_DEFINED)
            break;
    }
    return code ? refused(err, "Making a key of the TPM persistent", code) : 0;
}

static void flush(int fd, uint32_t object) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(TPM_MESSAGE_MAX);
    uint8_t room[TPM_MESSAGE_MAX];
    struct span rest;
    uint32_t code;
    tpm_flush_context(&b, object);
    (void)(exchange(fd, &b, room, &code, &rest, NULL) != 0); /* the resource manager does it as well */
}

static int make_at(int fd, struct keyring_uri *u, const struct naming *naming, EVP_PKEY **public, struct err *err) {
    CLEANUP(secret_fini) struct secret owner = SECRET_INIT;
    uint32_t object = 0;
    int rc = owner_pin(u, &owner, err);
    rc = rc ? rc : create(fd, secret_span(&owner), u, &object, public, err);
    rc = rc ? rc : spki_of(*public, &u->spki, err);
    u->has_spki = true;
    rc = rc ? rc : persist(fd, secret_span(&owner), u, object, naming, err);
    if (object >> 24 == TRANSIENT) /* whatever became of it: nobody else does so where the device is no resource manager's */
        flush(fd, object);
    return rc;
}

static int tpm_make(struct keyring_uri *u, const char *label, const struct naming *naming, EVP_PKEY **out, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *public = NULL;
    (void)label;
    pthread_mutex_lock(&lock);
    CLEANUP(fd_close) int fd = open_device(u, err);
    int rc = fd < 0 ? fd : make_at(fd, u, naming, &public, err);
    pthread_mutex_unlock(&lock);
    return rc ? rc : give(u, public, out, err);
}

static int remove_at(int fd, const struct keyring_uri *u, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *public = NULL;
    CLEANUP(secret_fini) struct secret owner = SECRET_INIT;
    struct err why = ERR_INIT;
    uint32_t code = 0;
    int rc = describe(fd, u, &public, &why);
    if (rc) {
        if (rc != MUSTER_EKEYGONE && err)
            *err = why;
        return rc == MUSTER_EKEYGONE ? 0 : rc;
    }
    if ((rc = owner_pin(u, &owner, err)) || (rc = evict(fd, secret_span(&owner), u->handle, u->handle, &code, err)))
        return rc;
    const struct pin_asked asked = owner_asked(u);
    judge(&asked, secret_span(&owner), code);
    return code ? refused(err, "Removing a key from the TPM (by owner-pin-source, the storage hierarchy's PIN)", code) : 0;
}

static int tpm_remove(const struct keyring_uri *u, struct err *err) {
    pthread_mutex_lock(&lock);
    CLEANUP(fd_close) int fd = open_device(u, err);
    int rc = fd < 0 ? fd : remove_at(fd, u, err);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int tpm_refused(const struct keyring_uri *u, struct err *err) {
    CLEANUP(secret_fini) struct secret pin = SECRET_INIT;
    const struct pin_asked asked = key_asked(u);
    return pin_read(&u->pin, PIN_OF_KEY, &pin, NULL) ? 0 : pin_check(&asked, secret_span(&pin), err);
}

const struct keyring_part TPM_PART = {tpm_make, tpm_open, tpm_open_known, tpm_has, tpm_remove, tpm_refused};
