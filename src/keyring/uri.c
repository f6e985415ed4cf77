/* keyring/uri: see uri.h.  RFC 7512 for pkcs11:, and its shape for the others. */
#include "keyring/uri.h"

#include <ctype.h>
#include <stdlib.h>

#include "base/hex.h"

#define HANDLE_FIRST 0x81000000u /* persistent objects (TPM 2.0 Library, Part 2, 7.4) */
#define HANDLE_LAST 0x81ffffffu

enum { PATH_PART = 1, QUERY_PART = 2 };
enum kind { TEXT, ID, SLOT, TYPE, FILE_NAME, PIN, HASH, VERSION, MODULE };

static const struct attribute {
    const char *name;
    enum keyring_place place;
    int part;
    enum kind kind;
    size_t at, size;
} ATTRIBUTES[] = {
#define FIELD(f) offsetof(struct keyring_uri, f), sizeof(((struct keyring_uri *)0)->f)
    {"token", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(token)},
    {"serial", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(serial)},
    {"manufacturer", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(manufacturer)},
    {"model", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(model)},
    {"object", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(object)},
    {"id", KEYRING_PKCS11, PATH_PART, ID, FIELD(id)},
    {"slot-id", KEYRING_PKCS11, PATH_PART, SLOT, FIELD(slot)},
    {"library-manufacturer", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(library_manufacturer)},
    {"library-description", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(library_description)},
    {"library-version", KEYRING_PKCS11, PATH_PART, VERSION, FIELD(library_version)},
    {"slot-description", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(slot_description)},
    {"slot-manufacturer", KEYRING_PKCS11, PATH_PART, TEXT, FIELD(slot_manufacturer)},
    {"type", KEYRING_PKCS11, PATH_PART, TYPE, 0, 0},
    {"module-path", KEYRING_PKCS11, QUERY_PART, FILE_NAME, FIELD(path)},
    {"module-name", KEYRING_PKCS11, QUERY_PART, MODULE, FIELD(module)},
    {"pin-source", KEYRING_PKCS11, QUERY_PART, PIN, FIELD(pin)},
    {"spki", KEYRING_TPM2, PATH_PART, HASH, FIELD(spki)},
    {"device", KEYRING_TPM2, QUERY_PART, FILE_NAME, FIELD(path)},
    {"pin-source", KEYRING_TPM2, QUERY_PART, PIN, FIELD(pin)},
    {"owner-pin-source", KEYRING_TPM2, QUERY_PART, PIN, FIELD(owner)},
    {"pin-source", KEYRING_FILE, QUERY_PART, PIN, FIELD(pin)},
};
#define ATTRIBUTES_N (sizeof ATTRIBUTES / sizeof *ATTRIBUTES)

enum keyring_place keyring_place(const char *uri) {
    /* in whatever case: RFC 3986, 3.1 */
    return !strncasecmp(uri, "pkcs11:", 7) ? KEYRING_PKCS11 : !strcasecmp(uri, "tpm2") || !strncasecmp(uri, "tpm2:", 5) ? KEYRING_TPM2 : KEYRING_FILE;
}

const char *keyring_place_name(enum keyring_place place) {
    static const char *const names[] = {[KEYRING_FILE] = "file", [KEYRING_PKCS11] = "pkcs11", [KEYRING_TPM2] = "tpm2"};
    return names[place];
}

/* --- reading ------------------------------------------------------------------------------------------------------------------------------------ */

/* Percent-encoding undone; no NUL in what is no ID, and at most max bytes.  -1: it is not well-formed. */
static long decode(struct span text, uint8_t *out, size_t max) {
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        int value = text.p[i];
        if (value == '%') {
            int high = i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1, low = i + 2 < text.n ? hex_digit(text.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return -1;
            value = high << 4 | low;
            i += 2;
        }
        if (n == max)
            return -1;
        out[n++] = (uint8_t)value;
    }
    return (long)n;
}

static bool take_text(struct span value, char *out, size_t size) {
    long n = decode(value, (uint8_t *)out, size - 1);
    if (n <= 0 || memchr(out, 0, (size_t)n))
        return false;
    out[n] = '\0';
    return span_is_utf8(span_str(out)) && !span_has_control(span_str(out));
}

static bool take_pin(struct span value, struct pin_source *out) {
    char text[URI_PATH_MAX];
    if (!take_text(value, text, sizeof text))
        return false;
    if (!strncmp(text, "env:", 4)) {
        size_t n = strlen(text + 4);
        bool good = n > 0 && n < sizeof out->env && !isdigit((unsigned char)text[4]);
        for (size_t i = 0; i < n; i++)
            good = good && (isalnum((unsigned char)text[4 + i]) || text[4 + i] == '_');
        snprintf(out->env, sizeof out->env, "%.*s", (int)sizeof out->env - 1, text + 4);
        return good;
    }
    const char *path = !strncmp(text, "file:", 5) ? text + 5 : text;
    bool host = path != text && !strncmp(path, "//", 2) && path[2] != '/'; /* file://HOST/etc/pin */
    while (path[0] == '/' && path[1] == '/') /* file:///etc/pin */
        path++;
    snprintf(out->file, sizeof out->file, "%s", path);
    return path[0] == '/' && !host;
}

/* What is wrong with the value, or NULL. */
static const char *take(struct keyring_uri *u, const struct attribute *a, struct span value) {
    char text[URI_PATH_MAX];
    uint64_t number;
    long n;
    void *field = (char *)u + a->at;
    switch (a->kind) {
    case TEXT:
        return take_text(value, field, a->size) ? NULL : "is empty, too long, or not well-formed";
    case VERSION: /* "2.4", "3" */
        return take_text(value, field, a->size) && strspn(field, "0123456789.") == strlen(field) ? NULL : "is no version";
    case MODULE:
        return take_text(value, field, a->size) && !strchr(field, '/') ? NULL : "is no name of a module";
    case FILE_NAME:
        return take_text(value, field, a->size) && ((char *)field)[0] == '/' ? NULL : "is no absolute path";
    case ID:
        n = decode(value, u->id, sizeof u->id);
        u->id_n = n > 0 ? (size_t)n : 0;
        return n > 0 ? NULL : "is empty, too long, or not well-formed";
    case SLOT:
        u->has_slot = true;
        if (!span_to_u64(value, &number) || number > UINT32_MAX)
            return "is no number";
        u->slot = (unsigned long)number;
        return NULL;
    case TYPE:
        return take_text(value, text, sizeof text) && !strcmp(text, "private") ? NULL : "is not `private`";
    case PIN:
        return take_pin(value, field) ? NULL : "is neither file:/PATH nor env:NAME";
    case HASH:
        u->has_spki = true;
        return hex_decode(value, u->spki.b, sizeof u->spki.b) == 0 ? NULL : "is not 64 digits of hex";
    }
    return "is not understood";
}

static int take_attribute(struct keyring_uri *u, struct span one, int part, unsigned *seen, struct err *err) {
    long equals = span_index(one, '=');
    struct span name = span_sub(one, 0, equals < 0 ? one.n : (size_t)equals), value = equals < 0 ? SPAN_NONE : span_sub(one, (size_t)equals + 1, one.n);
    if (span_eq_str(name, "pin-value"))
        return err_set(err, MUSTER_EINVALID, "A PIN does not belong into a URI, which others see. Name its file: pin-source=file:/PATH, or a variable: pin-source=env:NAME.");
    for (size_t i = 0; i < ATTRIBUTES_N; i++) {
        const struct attribute *a = &ATTRIBUTES[i];
        if (a->place != u->place || a->part != part || !span_eq_str(name, a->name))
            continue;
        const char *fault = *seen & 1u << i ? "is there twice" : take(u, a, value);
        *seen |= 1u << i;
        return fault ? err_set(err, MUSTER_EINVALID, "The key's URI: its attribute %s %s.", a->name, fault) : 0;
    }
    bool elsewhere = false;
    for (size_t i = 0; i < ATTRIBUTES_N; i++)
        elsewhere = elsewhere || (ATTRIBUTES[i].place == u->place && span_eq_str(name, ATTRIBUTES[i].name));
    if (u->place == KEYRING_PKCS11 && part == QUERY_PART && name.n && !elsewhere) /* passed over, as RFC 7512 (2.4) has it; one of the path that is unknown matches nothing */
        return 0;
    return err_set(err, MUSTER_EINVALID, "The key's URI: there is no attribute `%.*s` in that place of a %s URI.", (int)(name.n > 40 ? 40 : name.n), (const char *)name.p,
                   keyring_place_name(u->place));
}

static int take_attributes(struct keyring_uri *u, struct span rest, int part, unsigned *seen, struct err *err) {
    while (rest.n) {
        long end = span_index(rest, part == PATH_PART ? ';' : '&');
        struct span one = span_sub(rest, 0, end < 0 ? rest.n : (size_t)end);
        int rc = take_attribute(u, one, part, seen, err);
        if (rc)
            return rc;
        rest = end < 0 ? SPAN_NONE : span_sub(rest, (size_t)end + 1, rest.n);
    }
    return 0;
}

static int take_handle(struct keyring_uri *u, struct span *path, struct err *err) {
    long end = span_index(*path, ';');
    struct span first = span_sub(*path, 0, end < 0 ? path->n : (size_t)end);
    char text[24], *stop;
    if (!span_starts(first, SPAN_LIT("0x")))
        return 0;
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(first));
    unsigned long handle = strtoul(text, &stop, 16);
    if (*stop || first.n >= sizeof text || handle < HANDLE_FIRST || handle > HANDLE_LAST)
        return err_set(err, MUSTER_EINVALID, "The key's URI: a TPM's persistent handles are 0x81000000 to 0x81ffffff.");
    u->handle = (uint32_t)handle;
    *path = end < 0 ? SPAN_NONE : span_sub(*path, (size_t)end + 1, path->n);
    return 0;
}

static int take_file(struct keyring_uri *u, struct span path, bool encoded, struct err *err) {
    bool good = path.n > 0 && (encoded || path.n < sizeof u->path);
    if (good && encoded) {
        long n = decode(path, (uint8_t *)u->path, sizeof u->path - 1); /* any bytes that a path may have */
        good = n > 0 && !memchr(u->path, 0, (size_t)n);
        u->path[n > 0 ? n : 0] = '\0';
    } else if (good)
        snprintf(u->path, sizeof u->path, "%.*s", SPAN_FMT(path));
    return good ? 0 : err_set(err, MUSTER_EINVALID, "The key's file has an empty name, or one that is too long.");
}

int uri_parse(const char *text, struct keyring_uri *out, struct err *err) {
    unsigned seen = 0;
    *out = (struct keyring_uri){.place = keyring_place(text)};
    if (strlen(text) >= KEYRING_URI_MAX)
        return err_set(err, MUSTER_EINVALID, "The key's URI is too long.");
    bool scheme = out->place != KEYRING_FILE || !strncasecmp(text, "file:", 5);
    if (!scheme) /* a path, whatever is in it */
        return take_file(out, span_str(text), false, err);
    const char *colon = strchr(text, ':');
    struct span rest = colon ? span_str(colon + 1) : SPAN_NONE;
    long mark = span_index(rest, '?');
    struct span path = mark < 0 ? rest : span_sub(rest, 0, (size_t)mark), query = mark < 0 ? SPAN_NONE : span_sub(rest, (size_t)mark + 1, rest.n);
    int rc = out->place == KEYRING_FILE ? take_file(out, path, true, err) : out->place == KEYRING_TPM2 ? take_handle(out, &path, err) : 0;
    if (rc || (out->place != KEYRING_FILE && (rc = take_attributes(out, path, PATH_PART, &seen, err))))
        return rc;
    return take_attributes(out, query, QUERY_PART, &seen, err);
}

/* --- writing ------------------------------------------------------------------------------------------------------------------------------------ */

static void add_encoded(struct buf *b, struct span s, const char *plain) {
    for (size_t i = 0; i < s.n; i++)
        if (isalnum(s.p[i]) || (s.p[i] && strchr(plain, s.p[i])))
            buf_addc(b, s.p[i]);
        else
            buf_addf(b, "%%%02X", s.p[i]);
}

static void add_pin(struct buf *b, const struct pin_source *pin) {
    if (pin->env[0])
        buf_addf(b, "env:%s", pin->env);
    else {
        buf_adds(b, "file:");
        add_encoded(b, span_str(pin->file), "/-._~");
    }
}

static bool is_set(const struct keyring_uri *u, const struct attribute *a) {
    const struct pin_source *pin = (const void *)((const char *)u + a->at);
    switch (a->kind) {
    case ID:
        return u->id_n > 0;
    case SLOT:
        return u->has_slot;
    case HASH:
        return u->has_spki;
    case PIN:
        return pin->env[0] || pin->file[0];
    case TYPE:
        return false;
    case TEXT:
    case VERSION:
    case MODULE:
    case FILE_NAME:
        break;
    }
    return ((const char *)u)[a->at] != '\0';
}

static void add_attribute(struct buf *b, const struct keyring_uri *u, const struct attribute *a) {
    const char *field = (const char *)u + a->at;
    buf_addf(b, "%s=", a->name);
    if (a->kind == ID)
        for (size_t i = 0; i < u->id_n; i++)
            buf_addf(b, "%%%02X", u->id[i]);
    else if (a->kind == SLOT)
        buf_addf(b, "%lu", u->slot);
    else if (a->kind == HASH)
        hex_add(b, hash_span(&u->spki));
    else if (a->kind == PIN)
        add_pin(b, (const void *)field);
    else
        add_encoded(b, span_str(field), a->kind == FILE_NAME ? "/-._~" : "-._~");
}

int uri_write(const struct keyring_uri *u, char out[KEYRING_URI_MAX], struct err *err) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(KEYRING_URI_MAX - 1);
    bool first = true, asked = false;
    buf_addf(&b, "%s:", keyring_place_name(u->place));
    if (u->place == KEYRING_FILE)
        add_encoded(&b, span_str(u->path), "/-._~");
    if (u->handle) {
        buf_addf(&b, "0x%08x", u->handle);
        first = false;
    }
    for (size_t i = 0; i < ATTRIBUTES_N; i++) {
        const struct attribute *a = &ATTRIBUTES[i];
        if (a->place != u->place || !is_set(u, a))
            continue;
        if (a->part == PATH_PART)
            buf_adds(&b, first ? "" : ";");
        else
            buf_adds(&b, asked ? "&" : "?");
        first = false;
        asked = asked || a->part == QUERY_PART;
        add_attribute(&b, u, a);
    }
    snprintf(out, KEYRING_URI_MAX, "%s", buf_str(&b));
    return buf_ok(&b) ? 0 : err_set(err, MUSTER_EINVALID, "The key's URI is too long.");
}
