/* token/module: see module.h. */
#include "token/module.h"

#define P11_KIT_FUTURE_UNSTABLE_API
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <p11-kit/uri.h>

#include "base/clock.h"
#include "base/log.h"

#define SLOTS_MAX 64
#define AGAIN_MS 1000
#define HANDLES 64
#define LABEL_LEN 32 /* of CK_TOKEN_INFO, padded with blanks */

static const uint8_t P256_OID[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};

struct module {
    void *library;
    CK_FUNCTION_LIST *f;
    P11KitUri *uri;       /* NULL: by label */
    char label[LABEL_LEN + 1];
    struct secret pin;
    bool initialised, wrong_pin;
    CK_SESSION_HANDLE session; /* 0: none */
    int64_t tried;             /* monotonic, ms: when the token was last looked for in vain */
    struct {
        uint8_t id[TOKEN_ID_LEN];
        CK_OBJECT_HANDLE handle; /* 0: free */
    } handles[HANDLES];
    size_t next_handle;
    char why[TOKEN_TEXT_MAX + 1];
};

static bool is_uri(const char *token) { return strncmp(token, "pkcs11:", 7) == 0; }

static P11KitUri *parse_uri(const char *token) {
    P11KitUri *uri = p11_kit_uri_new();
    if (!uri || p11_kit_uri_parse(token, P11_KIT_URI_FOR_TOKEN, uri) != P11_KIT_URI_OK || p11_kit_uri_any_unrecognized(uri) || p11_kit_uri_get_pin_value(uri)) {
        p11_kit_uri_free(uri);
        return NULL;
    }
    return uri;
}

int token_settings_check(const char *module, const char *token, struct err *err) {
    if (!*module)
        return *token ? err_set(err, MUSTER_ECONFIG, "pkcs11_token is set, and pkcs11_module is not.") : 0;
    if (*module != '/')
        return err_set(err, MUSTER_ECONFIG, "pkcs11_module: `%s` is not an absolute path.", module);
    if (!*token)
        return err_set(err, MUSTER_ECONFIG, "pkcs11_module is set, and pkcs11_token is not.");
    P11KitUri *uri = is_uri(token) ? parse_uri(token) : NULL;
    bool ok = is_uri(token) ? uri != NULL : strlen(token) <= LABEL_LEN;
    p11_kit_uri_free(uri);
    return ok ? 0 : err_set(err, MUSTER_ECONFIG, "pkcs11_token: `%s` is neither a label of at most %d bytes nor a URI of a token without a PIN in it (RFC 7512).", token, LABEL_LEN);
}

int module_load(const char *path, const char *token, struct secret *pin, struct module **out, struct err *err) {
    CLEANUP(module_free) struct module *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(err, MUSTER_ENOMEM, NULL);
    m->pin = *pin;
    *pin = SECRET_INIT;
    if (is_uri(token))
        m->uri = parse_uri(token);
    else
        snprintf(m->label, sizeof m->label, "%s", token);
    m->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!m->library)
        return err_set(err, MUSTER_ECONFIG, "The PKCS#11 module cannot be loaded: %s.", dlerror());
    CK_C_GetFunctionList get;
    *(void **)&get = dlsym(m->library, "C_GetFunctionList");
    if (!get || get(&m->f) != CKR_OK || !m->f || m->f->version.major != 2)
        return err_set(err, MUSTER_ECONFIG, "%s is no PKCS#11 module of version 2.", path);
    *out = TAKE(m);
    return 0;
}

/* --- the token ------------------------------------------------------------------------------------------------------------------------ */

static const char *text_of(CK_RV rv) {
    static const struct {
        CK_RV rv;
        const char *text;
    } known[] = {{CKR_DEVICE_ERROR, "CKR_DEVICE_ERROR"}, {CKR_DEVICE_REMOVED, "CKR_DEVICE_REMOVED"}, {CKR_TOKEN_NOT_PRESENT, "CKR_TOKEN_NOT_PRESENT"},
                 {CKR_GENERAL_ERROR, "CKR_GENERAL_ERROR"}, {CKR_FUNCTION_FAILED, "CKR_FUNCTION_FAILED"}, {CKR_SESSION_HANDLE_INVALID, "CKR_SESSION_HANDLE_INVALID"},
                 {CKR_PIN_INCORRECT, "CKR_PIN_INCORRECT"}, {CKR_PIN_LOCKED, "CKR_PIN_LOCKED"}, {CKR_USER_NOT_LOGGED_IN, "CKR_USER_NOT_LOGGED_IN"},
                 {CKR_MECHANISM_INVALID, "CKR_MECHANISM_INVALID"}, {CKR_DEVICE_MEMORY, "CKR_DEVICE_MEMORY"}, {CKR_HOST_MEMORY, "CKR_HOST_MEMORY"},
                 {CKR_CRYPTOKI_NOT_INITIALIZED, "CKR_CRYPTOKI_NOT_INITIALIZED"}};
    static char number[32];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].rv == rv)
            return known[i].text;
    snprintf(number, sizeof number, "CKR 0x%lx", (unsigned long)rv);
    return number;
}

static CK_RV failed(struct module *m, const char *what, CK_RV rv) {
    snprintf(m->why, sizeof m->why, "%s: %s", what, text_of(rv));
    return rv;
}

/* What the module knew is over: sessions, handles, and where it is to be found again all of it. */
static void drop(struct module *m) {
    if (m->initialised)
        m->f->C_Finalize(NULL);
    m->initialised = false;
    m->session = 0;
    memset(m->handles, 0, sizeof m->handles);
}

static bool matches(const struct module *m, CK_TOKEN_INFO *info) {
    if (m->uri)
        return p11_kit_uri_match_token_info(m->uri, info) == 1;
    size_t n = LABEL_LEN;
    while (n && info->label[n - 1] == ' ')
        n--;
    return n == strlen(m->label) && memcmp(info->label, m->label, n) == 0;
}

static CK_RV find_slot(struct module *m, CK_SLOT_ID *out) {
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG n = SLOTS_MAX, found = 0;
    CK_RV rv = m->f->C_GetSlotList(CK_TRUE, slots, &n);
    if (rv != CKR_OK)
        return failed(m, "listing slots", rv);
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info;
        if (m->f->C_GetTokenInfo(slots[i], &info) == CKR_OK && matches(m, &info)) {
            *out = slots[i];
            found++;
        }
    }
    if (found == 1)
        return CKR_OK;
    snprintf(m->why, sizeof m->why, found ? "several tokens are the one of pkcs11_token" : "the token of pkcs11_token is in no slot");
    return CKR_TOKEN_NOT_PRESENT;
}

static CK_RV log_in(struct module *m) {
    if (!m->pin.n)
        return CKR_OK;
    CK_RV rv = m->f->C_Login(m->session, CKU_USER, m->pin.p, m->pin.n);
    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)
        return CKR_OK;
    m->wrong_pin = rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE || rv == CKR_PIN_LOCKED;
    if (m->wrong_pin)
        log_event(LOG_ERROR, "token_pin_refused", "why", text_of(rv), "meaning", "it is not tried again until musterd is reloaded", NULL);
    return failed(m, "logging in", rv);
}

static CK_RV connect_token(struct module *m) {
    CK_SLOT_ID slot;
    if (m->session)
        return CKR_OK;
    if (m->wrong_pin) {
        snprintf(m->why, sizeof m->why, "the token has refused the PIN, which is not tried again until musterd is reloaded");
        return CKR_PIN_INCORRECT;
    }
    if (m->tried && clock_mono_ms() - m->tried < AGAIN_MS)
        return CKR_TOKEN_NOT_PRESENT; /* m->why stands since then */
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV rv = m->initialised ? CKR_OK : m->f->C_Initialize(&args);
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
        snprintf(m->why, sizeof m->why, "initialising the module: %s%s", text_of(rv), rv == CKR_GENERAL_ERROR ? "; a file that it needs may not stand in pkcs11_files" : "");
    else {
        m->initialised = true;
        if ((rv = find_slot(m, &slot)) == CKR_OK && (rv = m->f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &m->session)) != CKR_OK) {
            m->session = 0;
            failed(m, "opening a session", rv);
        }
        if (rv == CKR_OK)
            rv = log_in(m);
    }
    m->tried = rv == CKR_OK ? 0 : clock_mono_ms();
    if (rv != CKR_OK)
        drop(m);
    else
        log_event(LOG_INFO, "token_open", NULL);
    return rv;
}

void module_begin(struct module *m) {
    if (connect_token(m) != CKR_OK)
        log_event(LOG_ERROR, "token_not_open", "why", m->why, NULL);
}

void module_free(struct module *m) {
    if (!m)
        return;
    drop(m);
    p11_kit_uri_free(m->uri);
    secret_fini(&m->pin);
    if (m->library)
        dlclose(m->library);
    free(m);
}

/* --- keys ----------------------------------------------------------------------------------------------------------------------------- */

static CK_RV find_key(struct module *m, CK_OBJECT_CLASS class, const uint8_t id[TOKEN_ID_LEN], CK_OBJECT_HANDLE *out) {
    CK_ATTRIBUTE what[] = {{CKA_CLASS, &class, sizeof class}, {CKA_ID, (void *)id, TOKEN_ID_LEN}};
    CK_ULONG n = 0;
    CK_OBJECT_HANDLE found[2];
    CK_RV rv = m->f->C_FindObjectsInit(m->session, what, 2);
    if (rv == CKR_OK) {
        rv = m->f->C_FindObjects(m->session, found, 2, &n);
        m->f->C_FindObjectsFinal(m->session);
    }
    if (rv != CKR_OK)
        return failed(m, "looking for a key", rv);
    *out = n == 1 ? found[0] : 0;
    return CKR_OK;
}

/* 0 in *out: there is none. */
static CK_RV private_key(struct module *m, const uint8_t id[TOKEN_ID_LEN], CK_OBJECT_HANDLE *out) {
    for (size_t i = 0; i < HANDLES; i++)
        if (m->handles[i].handle && memcmp(m->handles[i].id, id, TOKEN_ID_LEN) == 0) {
            *out = m->handles[i].handle;
            return CKR_OK;
        }
    CK_RV rv = find_key(m, CKO_PRIVATE_KEY, id, out);
    if (rv == CKR_OK && *out) {
        size_t at = m->next_handle++ % HANDLES;
        m->handles[at].handle = *out;
        memcpy(m->handles[at].id, id, TOKEN_ID_LEN);
    }
    return rv;
}

static void forget_handle(struct module *m, const uint8_t id[TOKEN_ID_LEN]) {
    for (size_t i = 0; i < HANDLES; i++)
        if (memcmp(m->handles[i].id, id, TOKEN_ID_LEN) == 0)
            m->handles[i].handle = 0;
}

/* CKA_EC_POINT is an OCTET STRING around the point; some modules leave that out. */
static bool take_point(const CK_ATTRIBUTE *a, uint8_t point[TOKEN_POINT_LEN]) {
    const uint8_t *p = a->pValue;
    size_t n = a->ulValueLen;
    if (n == TOKEN_POINT_LEN + 2 && p[0] == 0x04 && p[1] == TOKEN_POINT_LEN) {
        p += 2;
        n -= 2;
    }
    if (n != TOKEN_POINT_LEN || p[0] != 4)
        return false;
    memcpy(point, p, TOKEN_POINT_LEN);
    return true;
}

/* What the token was asked for it may not have done. */
static bool stays_inside(struct module *m, CK_OBJECT_HANDLE key) {
    CK_BBOOL extractable = CK_TRUE, sensitive = CK_FALSE;
    CK_ATTRIBUTE what[] = {{CKA_EXTRACTABLE, &extractable, sizeof extractable}, {CKA_SENSITIVE, &sensitive, sizeof sensitive}};
    return m->f->C_GetAttributeValue(m->session, key, what, 2) == CKR_OK && extractable == CK_FALSE && sensitive == CK_TRUE;
}

static CK_RV generate(struct module *m, const struct token_request *rq, struct token_answer *a) {
    CK_MECHANISM how = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE public[] = {{CKA_TOKEN, &yes, sizeof yes}, {CKA_VERIFY, &yes, sizeof yes}, {CKA_EC_PARAMS, (void *)P256_OID, sizeof P256_OID},
                             {CKA_ID, (void *)rq->key, TOKEN_ID_LEN}, {CKA_LABEL, (void *)rq->label, strlen(rq->label)}};
    CK_ATTRIBUTE private[] = {{CKA_TOKEN, &yes, sizeof yes}, {CKA_PRIVATE, &yes, sizeof yes}, {CKA_SENSITIVE, &yes, sizeof yes}, {CKA_EXTRACTABLE, &no, sizeof no},
                              {CKA_SIGN, &yes, sizeof yes}, {CKA_ID, (void *)rq->key, TOKEN_ID_LEN}, {CKA_LABEL, (void *)rq->label, strlen(rq->label)}};
    CK_OBJECT_HANDLE pub = 0, priv = 0;
    uint8_t room[256];
    CK_ATTRIBUTE point = {CKA_EC_POINT, room, sizeof room};
    CK_RV rv = m->f->C_GenerateKeyPair(m->session, &how, public, sizeof public / sizeof *public, private, sizeof private / sizeof *private, &pub, &priv);
    if (rv != CKR_OK)
        return failed(m, "making a key", rv);
    rv = m->f->C_GetAttributeValue(m->session, pub, &point, 1);
    bool inside = rv == CKR_OK && stays_inside(m, priv);
    if (rv == CKR_OK && inside && take_point(&point, a->point))
        return CKR_OK;
    m->f->C_DestroyObject(m->session, priv);
    m->f->C_DestroyObject(m->session, pub);
    if (rv != CKR_OK)
        return failed(m, "reading the public half of a key", rv);
    a->status = TOKEN_REFUSED;
    snprintf(m->why, sizeof m->why, inside ? "the public half of the new key is no point of P-256" : "the token makes keys that can leave it");
    return CKR_OK;
}

static CK_RV sign(struct module *m, const struct token_request *rq, struct token_answer *a) {
    CK_MECHANISM how = {CKM_ECDSA, NULL, 0};
    CK_OBJECT_HANDLE key = 0;
    CK_ULONG n = sizeof a->signature;
    CK_RV rv = private_key(m, rq->key, &key);
    if (rv != CKR_OK)
        return rv;
    if (!key) {
        a->status = TOKEN_NO_KEY;
        snprintf(m->why, sizeof m->why, "the token has no such key");
        return CKR_OK;
    }
    if ((rv = m->f->C_SignInit(m->session, &how, key)) == CKR_OK)
        rv = m->f->C_Sign(m->session, (CK_BYTE *)rq->digest, TOKEN_DIGEST_LEN, a->signature, &n);
    if (rv != CKR_OK) {
        forget_handle(m, rq->key);
        return failed(m, "signing", rv);
    }
    if (n != sizeof a->signature) {
        a->status = TOKEN_REFUSED;
        snprintf(m->why, sizeof m->why, "the token's signature has %lu bytes", (unsigned long)n);
    }
    return CKR_OK;
}

static CK_RV destroy(struct module *m, const struct token_request *rq, struct token_answer *a) {
    static const CK_OBJECT_CLASS classes[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    forget_handle(m, rq->key);
    for (size_t i = 0; i < 2; i++) {
        CK_OBJECT_HANDLE key = 0;
        CK_RV rv = find_key(m, classes[i], rq->key, &key);
        if (rv == CKR_OK && key)
            rv = m->f->C_DestroyObject(m->session, key);
        if (rv != CKR_OK)
            return failed(m, "destroying a key", rv);
    }
    return CKR_OK;
}

static CK_RV look(struct module *m, const struct token_request *rq, struct token_answer *a) {
    CK_OBJECT_HANDLE key = 0;
    CK_RV rv = private_key(m, rq->key, &key);
    if (rv == CKR_OK && !key) {
        a->status = TOKEN_NO_KEY;
        snprintf(m->why, sizeof m->why, "the token has no such key");
    }
    return rv;
}

static CK_RV once(struct module *m, const struct token_request *rq, struct token_answer *a) {
    static CK_RV (*const does[])(struct module *, const struct token_request *, struct token_answer *) = {
        [TOKEN_GENERATE] = generate, [TOKEN_SIGN] = sign, [TOKEN_DESTROY] = destroy, [TOKEN_LOOK] = look};
    a->status = TOKEN_OK;
    CK_RV rv = connect_token(m);
    return rv == CKR_OK ? does[rq->op](m, rq, a) : rv;
}

/* A token that went away and came back is found again at the first try; of one that stays away the second try says so. */
void module_answer(struct module *m, const struct token_request *rq, struct token_answer *a) {
    *a = (struct token_answer){.id = rq->id, .op = rq->op};
    bool was_open = m->session != 0;
    CK_RV rv = once(m, rq, a);
    if (rv != CKR_OK && was_open) {
        log_event(LOG_WARN, "token_lost", "why", m->why, NULL);
        drop(m);
        rv = once(m, rq, a);
        if (rv != CKR_OK)
            drop(m);
    }
    if (rv != CKR_OK)
        a->status = TOKEN_AWAY;
    if (a->status != TOKEN_OK)
        snprintf(a->text, sizeof a->text, "%s", m->why);
}
