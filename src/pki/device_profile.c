/* device_profile: see device_profile.h. */
#include "pki/device_profile_part.h"

#include "base/clock.h"

#define LIFE_MIN CLOCK_HOUR
#define LIFE_MAX (100 * CLOCK_YEAR)
#define ACCOUNT_MAX 32 /* characters */
#define DNS_MAX 253
#define LABEL_MAX 63
#define PLACES_MAX 3 /* placeholders in one name besides the subject */

#define ALL_KEYS (PROFILE_KEYS_EC | PROFILE_KEYS_RSA)
#define ALL_USES (MAKE_USE_SIGN | MAKE_USE_ENCIPHER | MAKE_USE_AGREE | MAKE_USE_COMMIT)

bool device_profile_eq(const struct device_profile *a, const struct device_profile *b) {
    return a->keys == b->keys && a->usages == b->usages && a->life == b->life && a->life_max == b->life_max && a->est_life == b->est_life &&
           strcmp(a->subject, b->subject) == 0 && strcmp(a->san, b->san) == 0;
}

bool device_profile_is_default(const struct device_profile *p) {
    static const struct device_profile none;
    return device_profile_eq(p, &none);
}

/* --- templates ----------------------------------------------------------------------------------------------------------------------- */

enum placeholder { PLACE_NONE, PLACE_DEVICE_ID, PLACE_ACCOUNT, PLACE_UUID };

/* The next piece of a template: a placeholder, or *text up to the next one.  False: there is none, or it has a brace that is neither. */
static bool next_piece(struct span *rest, enum placeholder *place, struct span *text) {
    static const struct {
        struct span text;
        enum placeholder place;
    } PLACES[] = {{SPAN_LIT("{device_id}"), PLACE_DEVICE_ID}, {SPAN_LIT("{account}"), PLACE_ACCOUNT}, {SPAN_LIT("{uuid}"), PLACE_UUID}};
    if (!rest->n)
        return false;
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++)
        if (span_starts(*rest, PLACES[i].text)) {
            *place = PLACES[i].place;
            *rest = span_sub(*rest, PLACES[i].text.n, rest->n);
            return true;
        }
    if (rest->p[0] == '{' || rest->p[0] == '}')
        return false;
    size_t n = 1;
    while (n < rest->n && rest->p[n] != '{' && rest->p[n] != '}')
        n++;
    *place = PLACE_NONE;
    *text = span_sub(*rest, 0, n);
    *rest = span_sub(*rest, n, rest->n);
    return true;
}

/* Characters that a template comes to at most, where an ID that is too long stands as the UUID; 0: it is none. */
static size_t longest(struct span template) {
    enum placeholder place;
    struct span text, rest = template;
    size_t n = 0;
    while (next_piece(&rest, &place, &text))
        n += place == PLACE_NONE ? make_characters(text) : place == PLACE_ACCOUNT ? ACCOUNT_MAX : UUID_TEXT_LEN;
    return rest.n ? 0 : n;
}

static bool has_place(struct span template, enum placeholder wanted) {
    enum placeholder place;
    struct span text;
    while (next_piece(&template, &place, &text))
        if (place == wanted)
            return true;
    return false;
}

static size_t places_in(struct span template) {
    enum placeholder place;
    struct span text;
    size_t n = 0;
    while (next_piece(&template, &place, &text))
        n += place != PLACE_NONE;
    return n;
}

/* --- the subject ---------------------------------------------------------------------------------------------------------------------- */

enum part { PART_C, PART_ST, PART_L, PART_O, PART_OU, PART_SERIAL, PART_CN, PARTS };
/* RFC 5280, appendix A.1. */
static const struct {
    struct span name;
    size_t max; /* characters */
} PART[PARTS] = {[PART_C] = {SPAN_LIT("C"), 2}, [PART_ST] = {SPAN_LIT("ST"), 128}, [PART_L] = {SPAN_LIT("L"), 128}, [PART_O] = {SPAN_LIT("O"), 64},
                 [PART_OU] = {SPAN_LIT("OU"), 64}, [PART_SERIAL] = {SPAN_LIT("serialNumber"), 64}, [PART_CN] = {SPAN_LIT("CN"), 64}};

/* What stands in front of the first `by` of *rest, which is taken away with it. */
static struct span cut(struct span *rest, uint8_t by) {
    long at = span_index(*rest, by);
    struct span first = at < 0 ? *rest : span_sub(*rest, 0, (size_t)at);
    *rest = at < 0 ? SPAN_NONE : span_sub(*rest, (size_t)at + 1, rest->n);
    return first;
}

static int split_subject(struct span text, struct span values[PARTS], struct err *err) {
    memset(values, 0, PARTS * sizeof *values);
    if (span_ends(text, SPAN_LIT(",")))
        return err_set(err, MUSTER_EINVALID, "subject ends in a comma.");
    do {
        struct span value = cut(&text, ','), name = cut(&value, '=');
        int i = 0;
        while (i < PARTS && !span_eq(name, PART[i].name))
            i++;
        if (i == PARTS || !value.n)
            return err_set(err, MUSTER_EINVALID, "subject is a list like \"%s\", of C, ST, L, O, OU, serialNumber and CN.", PROFILE_SUBJECT_DEFAULT);
        if (values[i].n)
            return err_set(err, MUSTER_EINVALID, "subject has %.*s twice.", SPAN_FMT(name));
        values[i] = value;
    } while (text.n);
    return 0;
}

static int check_part(enum part i, struct span value, struct err *err) {
    if (span_index(value, '=') >= 0 || span_index(value, '"') >= 0 || span_index(value, '\\') >= 0 || span_index(value, '+') >= 0)
        return err_set(err, MUSTER_EINVALID, "%.*s of subject has a character that a name's value may not have here: = + \\ or a quote.", SPAN_FMT(PART[i].name));
    const size_t n = longest(value);
    if (!n)
        return err_set(err, MUSTER_EINVALID, "Placeholders are {device_id}, {account} and {uuid}; %.*s of subject has another brace.", SPAN_FMT(PART[i].name));
    if (n > PART[i].max)
        return err_set(err, MUSTER_EINVALID, "%.*s of subject could come to %zu characters; it has %zu at most.", SPAN_FMT(PART[i].name), n, PART[i].max);
    if (i == PART_C && (value.n != 2 || value.p[0] < 'A' || value.p[0] > 'Z' || value.p[1] < 'A' || value.p[1] > 'Z'))
        return err_set(err, MUSTER_EINVALID, "C of subject is two capital letters.");
    return 0;
}

/* The CN is what other programs know a device by, and what Muster's own know it by; no template changes that. */
static int check_subject(const char *subject, struct err *err) {
    struct span values[PARTS], text = span_str(subject);
    if (!text.n)
        return 0;
    if (!span_is_utf8(text) || span_has_control(text))
        return err_set(err, MUSTER_EINVALID, "subject is UTF-8 without control characters.");
    int rc = split_subject(text, values, err);
    for (int i = 0; !rc && i < PARTS; i++)
        if (values[i].n)
            rc = check_part((enum part)i, values[i], err);
    if (rc)
        return rc;
    return span_eq_str(values[PART_CN], "{device_id}") ? 0 : err_set(err, MUSTER_EINVALID, "subject has CN={device_id}: by its CN a device is known.");
}

/* --- other names ---------------------------------------------------------------------------------------------------------------------- */

static bool is_label_char(uint8_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-'; }

static bool is_label(struct span s) {
    if (s.n < 1 || s.n > LABEL_MAX || s.p[0] == '-' || s.p[s.n - 1] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_label_char(s.p[i]))
            return false;
    return true;
}

static bool is_dns(struct span s) {
    if (s.n > DNS_MAX || span_index(s, '.') < 0 || s.p[s.n - 1] == '.')
        return false;
    while (s.n)
        if (!is_label(cut(&s, '.')))
            return false;
    return true;
}

/* An ID is one label, or a part of one: it never says under which domain it stands. */
static bool is_dns_template(struct span t) {
    static const struct span STANDS_FOR_ALL = SPAN_LIT("x");
    CLEANUP(buf_fini) struct buf sample = BUF_INIT(DNS_MAX);
    enum placeholder place;
    struct span text = SPAN_NONE, rest = t;
    long dot = -1;
    while (next_piece(&rest, &place, &text)) {
        buf_add(&sample, place == PLACE_NONE ? text : STANDS_FOR_ALL);
        if (place != PLACE_NONE)
            dot = (long)sample.n;
    }
    if (rest.n || !buf_ok(&sample) || !is_dns(buf_span(&sample)))
        return false;
    /* Behind the last placeholder stands a domain. */
    struct span behind = dot < 0 ? SPAN_NONE : span_sub(buf_span(&sample), (size_t)dot, sample.n);
    return dot < 0 || span_index(behind, '.') >= 0;
}

/* RFC 8141, urn:NID:…: which names these are is said in letters, and not "muster", which are those that Muster itself gives long device IDs. */
static bool is_others_urn(struct span t) {
    struct span nid = span_sub(t, 4, t.n);
    const long end = span_index(nid, ':');
    if (!span_eq_nocase(span_sub(t, 0, 4), SPAN_LIT("urn:")))
        return true;
    nid = span_sub(nid, 0, end < 0 ? 0 : (size_t)end);
    return nid.n && span_index(nid, '{') < 0 && !span_eq_nocase(nid, SPAN_LIT("muster"));
}

/* RFC 3986: a scheme and a colon; characters that need no encoding. */
static bool is_uri_template(struct span t) {
    enum placeholder place;
    struct span text, rest = t;
    long colon = span_index(t, ':');
    if (colon < 1 || !is_others_urn(t))
        return false;
    for (long i = 0; i < colon; i++)
        if (!is_label_char(t.p[i]) || (i == 0 && (t.p[0] < 'a' || t.p[0] > 'z')))
            return false;
    while (next_piece(&rest, &place, &text))
        for (size_t i = 0; place == PLACE_NONE && i < text.n; i++)
            if (!is_label_char(text.p[i]) && !strchr("._~:/?#[]@!$&'()*+,;=", text.p[i]))
                return false;
    return rest.n == 0;
}

static int check_san(const char *san, struct err *err) {
    struct span rest = span_str(san);
    size_t n = 0;
    while (rest.n) {
        struct span one = cut(&rest, ' '), value = one;
        bool dns = span_starts(one, SPAN_LIT("dns:")), uri = span_starts(one, SPAN_LIT("uri:"));
        value = span_sub(one, 4, one.n);
        if (++n > MAKE_SANS)
            return err_set(err, MUSTER_EINVALID, "san has %d names at most.", MAKE_SANS);
        if (dns && !is_dns_template(value))
            return err_set(err, MUSTER_EINVALID, "A DNS name in san is like \"dns:{device_id}.devices.example.com\": behind a placeholder stands a domain.");
        if (uri && !is_uri_template(value))
            return err_set(err, MUSTER_EINVALID, "A URI in san is like \"uri:urn:example:{account}:{device_id}\", and begins with urn: and a word other than muster where it is a URN.");
        if (!dns && !uri)
            return err_set(err, MUSTER_EINVALID, "A name in san begins with \"dns:\" or \"uri:\".");
        if (!has_place(value, PLACE_DEVICE_ID) && !has_place(value, PLACE_UUID))
            return err_set(err, MUSTER_EINVALID, "A name in san has {device_id} or {uuid}: one that all devices have names none.");
        if (places_in(value) > PLACES_MAX)
            return err_set(err, MUSTER_EINVALID, "A name in san has %d placeholders at most.", PLACES_MAX);
    }
    return span_ends(span_str(san), SPAN_LIT(" ")) ? err_set(err, MUSTER_EINVALID, "san is a list of names, one blank between two.") : 0;
}

/* --- the rules -------------------------------------------------------------------------------------------------------------------------- */

static bool is_life(int64_t life) { return life == 0 || life == PROFILE_NO_END || (life >= LIFE_MIN && life <= LIFE_MAX); }

int device_profile_check(const struct device_profile *p, struct err *err) {
    if (p->keys & ~(uint32_t)ALL_KEYS || p->usages & ~(uint32_t)ALL_USES)
        return err_set(err, MUSTER_EINVALID, "There is no such kind of key, or of key usage.");
    if (p->usages && !(p->usages & MAKE_USE_SIGN))
        return err_set(err, MUSTER_EINVALID, "key_usages has digital-signature: without it a device proves nothing.");
    if (!is_life(p->life) || !is_life(p->life_max) || !is_life(p->est_life))
        return err_set(err, MUSTER_EINVALID, "life, longest_life and est_life are between 1h and 100y, or \"none\" for no well-defined end.");
    if (p->life && p->life_max && p->life > p->life_max)
        return err_set(err, MUSTER_EINVALID, "life is over longest_life.");
    int rc = check_subject(p->subject, err);
    return rc ? rc : check_san(p->san, err);
}

static int64_t shorter(int64_t a, int64_t b) { return b && b < a ? b : a; }

void device_profile_effective(const struct device_profile *account, int64_t life, int64_t life_max, bool rsa, const struct device_profile *key, struct device_profile *out) {
    *out = *account;
    out->keys = account->keys ? account->keys : PROFILE_KEYS_EC | (rsa ? PROFILE_KEYS_RSA : 0);
    out->life = life;
    out->life_max = life_max < life ? life : life_max;
    out->est_life = account->est_life ? account->est_life : PROFILE_EST_LIFE;
    if (!key)
        return;
    if (out->keys & key->keys) /* where the account has changed and nothing is left the account counts: its devices renew with a key that it takes */
        out->keys &= key->keys;
    if (key->usages)
        out->usages = (out->usages ? out->usages : PROFILE_USES_DEFAULT) & (key->usages | MAKE_USE_SIGN);
    out->life_max = shorter(out->life_max, key->life_max);
    out->life = shorter(shorter(out->life, key->life), out->life_max);
}

int device_profile_narrows(const struct device_profile *account, const struct device_profile *key, struct err *err) {
    CLEANUP(buf_fini) struct buf over = BUF_INIT(256);
    if (key->subject[0] || key->san[0])
        return err_set(err, MUSTER_EINVALID, "The names in certificates are the account's to say, not a provisioning key's.");
    if (key->est_life)
        return err_set(err, MUSTER_EINVALID, "est_life is the account's to say; a provisioning key's life counts by EST too, where it is shorter.");
    device_profile_keys_text(key->keys & ~account->keys, ", ", &over);
    if (over.n)
        return err_set(err, MUSTER_EINVALID, "The account does not take keys of the kind %s; a provisioning key narrows what its account allows.", buf_str(&over));
    device_profile_usages_text(key->usages & ~(account->usages ? account->usages : (uint32_t)PROFILE_USES_DEFAULT), ", ", &over);
    if (over.n)
        return err_set(err, MUSTER_EINVALID, "The account's certificates do not have the usage %s; a provisioning key narrows what its account allows.", buf_str(&over));
    if (key->life > account->life_max || key->life_max > account->life_max)
        return err_set(err, MUSTER_EINVALID, "The account's longest life is shorter; a provisioning key narrows what its account allows.");
    return 0;
}

static uint32_t kind_of(const struct key_facts *k) {
    switch (k->kind) {
    case KEY_P256:
        return PROFILE_KEY_P256;
    case KEY_P384:
        return PROFILE_KEY_P384;
    case KEY_P521:
        return PROFILE_KEY_P521;
    case KEY_ED25519:
        return PROFILE_KEY_ED25519;
    case KEY_RSA: /* of lengths in between the shorter one's word counts */
        return k->bits > KEY_RSA_OWN_MAX ? 0 : k->bits >= 4096 ? PROFILE_KEY_RSA4096 : k->bits >= 3072 ? PROFILE_KEY_RSA3072 : k->bits >= 2048 ? PROFILE_KEY_RSA2048 : 0;
    case KEY_NONE:
    case KEY_OTHER:
        break;
    }
    return 0;
}

int device_profile_key(const struct device_profile *p, const struct key_facts *k, const char *who, struct err *err) {
    CLEANUP(buf_fini) struct buf taken = BUF_INIT(256);
    if ((kind_of(k) & p->keys) && key_acceptable(k, NULL) == 0)
        return 0;
    device_profile_keys_text(p->keys, ", ", &taken);
    return err_set(err, MUSTER_ECERTWEAKKEY, "%s takes keys of the kinds %s; this one is %s of %d bits.", who, buf_str(&taken), key_kind_name(k->kind), k->bits);
}

int64_t device_profile_life(const struct device_profile *p, int64_t wanted, bool est) {
    if (wanted > 0)
        return wanted < p->life_max ? wanted : p->life_max;
    return est ? shorter(p->life, p->est_life) : p->life;
}

/* --- the names of one device --------------------------------------------------------------------------------------------------------------- */

struct of {
    struct span account, device_id, uuid;
};

static void add_percent(struct buf *out, struct span s) {
    for (size_t i = 0; i < s.n; i++) {
        if (is_label_char(s.p[i]) || strchr("._~", s.p[i]))
            buf_addc(out, s.p[i]);
        else
            buf_addf(out, "%%%02X", s.p[i]);
    }
}

enum form { FORM_PLAIN, FORM_DNS, FORM_URI };

/* Names of hosts are the same in capitals, and IDs of devices are not: one in capitals would be given another's name. */
static bool stands_in_label(enum placeholder place, uint8_t c) { return is_label_char(c) && !(place == PLACE_DEVICE_ID && c >= 'A' && c <= 'Z'); }

/* False: the device ID cannot stand in such a name. */
static bool render(struct span template, const struct of *of, enum form form, struct buf *out) {
    enum placeholder place;
    struct span text = SPAN_NONE;
    while (next_piece(&template, &place, &text)) {
        struct span value = place == PLACE_NONE ? text : place == PLACE_ACCOUNT ? of->account : place == PLACE_UUID ? of->uuid : of->device_id;
        for (size_t i = 0; form == FORM_DNS && place != PLACE_NONE && i < value.n; i++)
            if (!stands_in_label(place, value.p[i]))
                return false;
        if (form == FORM_URI && place != PLACE_NONE)
            add_percent(out, value);
        else
            buf_add(out, value);
    }
    return true;
}

/* Where a part with the device ID would be too long it has the UUID in its place. */
static void render_part(struct span template, size_t max, const struct of *of, struct buf *out) {
    const size_t at = out->n;
    (void)render(template, of, FORM_PLAIN, out);
    if (make_characters(span_sub(buf_span(out), at, out->n)) <= max)
        return;
    const struct of short_of = {of->account, of->uuid, of->uuid};
    out->n = at;
    (void)render(template, &short_of, FORM_PLAIN, out);
}

static void fill_subject(const struct device_profile *p, const struct of *of, struct buf *text, struct make_request *rq) {
    struct span values[PARTS], *const to[PARTS] = {[PART_C] = &rq->subject.country, [PART_ST] = &rq->subject.state, [PART_L] = &rq->subject.locality, [PART_O] = &rq->subject.organisation,
                                                   [PART_OU] = &rq->subject.organisational_unit, [PART_SERIAL] = &rq->subject.serial_number};
    if (split_subject(span_str(p->subject), values, NULL))
        return;
    for (int i = 0; i < PART_CN; i++) {
        const size_t at = text->n;
        if (!values[i].n)
            continue;
        render_part(values[i], PART[i].max, of, text);
        *to[i] = span_sub(buf_span(text), at, text->n);
    }
}

static void fill_san(const struct device_profile *p, const struct of *of, struct buf *text, struct make_request *rq) {
    struct span rest = span_str(p->san);
    while (rest.n && rq->n_san < MAKE_SANS) {
        struct span one = cut(&rest, ' '), template = span_sub(one, 4, one.n);
        const bool uri = one.p[0] == 'u';
        const size_t at = text->n;
        bool fits = render(template, of, uri ? FORM_URI : FORM_DNS, text);
        struct span value = span_sub(buf_span(text), at, text->n);
        if (fits && (uri || is_dns(value)))
            rq->san[rq->n_san++] = (struct make_san){uri, value};
        else
            text->n = at;
    }
}

void device_profile_names_fini(struct device_profile_names *n) { buf_fini(&n->text); }

int device_profile_fill(const struct device_profile *p, struct span account, struct span device_id, const struct uuid *uuid, struct device_profile_names *names, struct make_request *rq,
                        struct err *err) {
    uuid_text(uuid, names->uuid);
    const struct of of = {account, device_id, span_str(names->uuid)};
    rq->device_id = device_id;
    rq->usages = p->usages;
    rq->subject.common_name = make_characters(device_id) > PART[PART_CN].max ? of.uuid : device_id;
    rq->subject.organisation = account;
    rq->subject.organisational_unit = SPAN_LIT("Devices");
    if (!p->subject[0] && !p->san[0])
        return 0;
    if (!buf_extend(&names->text, names->text.max)) /* once: spans into it stay good */
        return err_set(err, MUSTER_ENOMEM, NULL);
    buf_clear(&names->text);
    if (p->subject[0]) {
        rq->subject.organisation = rq->subject.organisational_unit = SPAN_NONE;
        fill_subject(p, &of, &names->text, rq);
    }
    fill_san(p, &of, &names->text, rq);
    return buf_check(&names->text, err);
}
