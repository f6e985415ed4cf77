/* device_profile_text: a profile as text, and the words in it; see device_profile.h. */
#include "pki/device_profile_part.h"

struct word {
    uint32_t bit;
    const char *text;
};
static const struct word KEYS[] = {{PROFILE_KEY_P256, "p256"}, {PROFILE_KEY_P384, "p384"}, {PROFILE_KEY_P521, "p521"}, {PROFILE_KEY_ED25519, "ed25519"},
                                   {PROFILE_KEY_RSA2048, "rsa2048"}, {PROFILE_KEY_RSA3072, "rsa3072"}, {PROFILE_KEY_RSA4096, "rsa4096"}};
static const struct word USAGES[] = {{MAKE_USE_SIGN, "digital-signature"}, {MAKE_USE_ENCIPHER, "key-encipherment"}, {MAKE_USE_AGREE, "key-agreement"}, {MAKE_USE_COMMIT, "content-commitment"}};
#define N(words) (sizeof(words) / sizeof *(words))

static uint32_t bit_of(const struct word *w, size_t n, struct span text) {
    for (size_t i = 0; i < n; i++)
        if (span_eq_str(text, w[i].text))
            return w[i].bit;
    return 0;
}

static const char *word_of(const struct word *w, size_t n, uint32_t bit) {
    for (size_t i = 0; i < n; i++)
        if (w[i].bit == bit)
            return w[i].text;
    return NULL;
}

static void words_of(const struct word *w, size_t n, uint32_t bits, const char *between, struct buf *out) {
    const char *before = "";
    for (size_t i = 0; i < n; i++)
        if (bits & w[i].bit) {
            buf_adds(out, before);
            buf_adds(out, w[i].text);
            before = between;
        }
}

uint32_t device_profile_key_of(const char *word) { return bit_of(KEYS, N(KEYS), span_str(word)); }
uint32_t device_profile_usage_of(const char *word) { return bit_of(USAGES, N(USAGES), span_str(word)); }
const char *device_profile_key_word(uint32_t bit) { return word_of(KEYS, N(KEYS), bit); }
const char *device_profile_usage_word(uint32_t bit) { return word_of(USAGES, N(USAGES), bit); }
void device_profile_keys_text(uint32_t keys, const char *between, struct buf *out) { words_of(KEYS, N(KEYS), keys, between, out); }
void device_profile_usages_text(uint32_t usages, const char *between, struct buf *out) { words_of(USAGES, N(USAGES), usages, between, out); }

void device_profile_write(const struct device_profile *p, struct buf *out) {
    if (p->keys) {
        buf_adds(out, "keys=");
        device_profile_keys_text(p->keys, ",", out);
        buf_addc(out, '\n');
    }
    if (p->usages) {
        buf_adds(out, "usages=");
        device_profile_usages_text(p->usages, ",", out);
        buf_addc(out, '\n');
    }
    if (p->life)
        buf_addf(out, "life=%lld\n", (long long)p->life);
    if (p->life_max)
        buf_addf(out, "life_max=%lld\n", (long long)p->life_max);
    if (p->est_life)
        buf_addf(out, "est_life=%lld\n", (long long)p->est_life);
    if (p->subject[0])
        buf_addf(out, "subject=%s\n", p->subject);
    if (p->san[0])
        buf_addf(out, "san=%s\n", p->san);
}

/* --- reading: strictly what is written ------------------------------------------------------------------------------------------- */

/* In the order of the table, each once. */
static bool read_words(const struct word *w, size_t n, struct span text, uint32_t *bits) {
    for (*bits = 0; text.n;) {
        long comma = span_index(text, ',');
        uint32_t bit = bit_of(w, n, comma < 0 ? text : span_sub(text, 0, (size_t)comma));
        if (!bit || bit <= *bits)
            return false;
        *bits |= bit;
        if (comma < 0)
            return true;
        text = span_sub(text, (size_t)comma + 1, text.n);
    }
    return false;
}

static bool read_number(struct span text, int64_t *out) {
    uint64_t n;
    if (!span_to_u64(text, &n) || n < 1 || n > INT64_MAX || text.p[0] == '0')
        return false;
    *out = (int64_t)n;
    return true;
}

static bool read_text(struct span text, char *out, size_t max) {
    if (text.n < 1 || text.n > max || memchr(text.p, 0, text.n))
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

enum field { FIELD_KEYS, FIELD_USAGES, FIELD_LIFE, FIELD_LIFE_MAX, FIELD_EST_LIFE, FIELD_SUBJECT, FIELD_SAN, FIELDS };

static bool read_field(enum field f, struct span value, struct device_profile *p) {
    switch (f) {
    case FIELD_KEYS:
        return read_words(KEYS, N(KEYS), value, &p->keys);
    case FIELD_USAGES:
        return read_words(USAGES, N(USAGES), value, &p->usages);
    case FIELD_LIFE:
        return read_number(value, &p->life);
    case FIELD_LIFE_MAX:
        return read_number(value, &p->life_max);
    case FIELD_EST_LIFE:
        return read_number(value, &p->est_life);
    case FIELD_SUBJECT:
        return read_text(value, p->subject, PROFILE_SUBJECT_MAX);
    case FIELD_SAN:
        return read_text(value, p->san, PROFILE_SAN_MAX);
    case FIELDS:
        break;
    }
    return false;
}

/* The line in front of text: its field is `from` or one behind it. */
static bool read_line(struct span *text, int *from, struct device_profile *p) {
    static const struct span NAMES[FIELDS] = {[FIELD_KEYS] = SPAN_LIT("keys="), [FIELD_USAGES] = SPAN_LIT("usages="), [FIELD_LIFE] = SPAN_LIT("life="),
                                              [FIELD_LIFE_MAX] = SPAN_LIT("life_max="), [FIELD_EST_LIFE] = SPAN_LIT("est_life="), [FIELD_SUBJECT] = SPAN_LIT("subject="), [FIELD_SAN] = SPAN_LIT("san=")};
    long end = span_index(*text, '\n');
    struct span line = end < 0 ? SPAN_NONE : span_sub(*text, 0, (size_t)end);
    while (*from < FIELDS && !span_starts(line, NAMES[*from]))
        ++*from;
    if (end < 0 || *from == FIELDS || !read_field((enum field)*from, span_sub(line, NAMES[*from].n, line.n), p))
        return false;
    ++*from;
    *text = span_sub(*text, (size_t)end + 1, text->n);
    return true;
}

int device_profile_read(struct span text, struct device_profile *out, struct err *err) {
    int from = 0;
    *out = (struct device_profile){0};
    while (text.n)
        if (!read_line(&text, &from, out))
            return err_set(err, MUSTER_EINVALID, "An issuing profile cannot be read.");
    return device_profile_check(out, err);
}
