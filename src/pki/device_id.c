/* device_id: the device ID in a certificate, by the root's rule; see cert.h.  Bytes are compared as they are decoded: nothing here
 * folds, trims or repairs, because two spellings of one ID must never become one device. */
#include "base/hex.h"
#include "pki/cert.h"
#include "pki/device_uri.h"
#include "pki/pki.h"

#define ID_MAX 128

static const char *const rule_names[] = {[ID_RULE_CN] = "cn",
                                         [ID_RULE_SAN_URI] = "san-uri",
                                         [ID_RULE_SAN_DNS] = "san-dns",
                                         [ID_RULE_SERIAL_NUMBER] = "serial-number",
                                         [ID_RULE_FINGERPRINT] = "key-fingerprint"};
#define N_RULES (sizeof rule_names / sizeof *rule_names)

const char *id_rule_name(enum id_rule rule) { return rule_names[rule]; }

int id_rule_parse(struct span text, enum id_rule *out) {
    for (size_t i = 0; i < N_RULES; i++)
        if (span_eq_str(text, rule_names[i])) {
            *out = (enum id_rule)i;
            return 0;
        }
    return MUSTER_EINVALID;
}

static void add_utf8(struct buf *out, uint32_t c) {
    if (c < 0x80) {
        buf_addc(out, (uint8_t)c);
    } else if (c < 0x800) {
        buf_addc(out, (uint8_t)(0xc0 | c >> 6));
        buf_addc(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_addc(out, (uint8_t)(0xe0 | c >> 12));
        buf_addc(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        buf_addc(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        buf_addc(out, (uint8_t)(0xf0 | c >> 18));
        buf_addc(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        buf_addc(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        buf_addc(out, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

/* BMPString and UniversalString: big endian, `width` bytes a character. */
static bool add_wide(struct buf *out, struct span s, size_t width) {
    if (s.n % width)
        return false;
    for (size_t i = 0; i < s.n; i += width) {
        uint32_t c = 0;
        for (size_t k = 0; k < width; k++)
            c = c << 8 | s.p[i + k];
        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return false;
        add_utf8(out, c);
    }
    return true;
}

static bool is_ascii(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 0x80)
            return false;
    return true;
}

static bool decode(const ASN1_STRING *value, struct buf *out) {
    struct span s = span_of(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    switch (ASN1_STRING_type(value)) {
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_IA5STRING:
    case V_ASN1_NUMERICSTRING:
    case V_ASN1_VISIBLESTRING:
        buf_add(out, s);
        return is_ascii(s);
    case V_ASN1_UTF8STRING:
        buf_add(out, s);
        return true; /* judged below */
    case V_ASN1_BMPSTRING:
        return add_wide(out, s, 2);
    case V_ASN1_UNIVERSALSTRING:
        return add_wide(out, s, 4);
    }
    return false; /* TeletexString among them, which is told below: nobody agrees on what its bytes mean */
}

static int take_value(const ASN1_STRING *value, const char *of, const char *where, struct buf *out, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(4 * 1024);
    if (ASN1_STRING_type(value) == V_ASN1_TELETEXSTRING)
        return err_set(err, MUSTER_EIDUNDECODABLE, "The %s's %s is a TeletexString, whose bytes mean one thing here and another there; a UTF8String or PrintableString is taken.", of, where);
    if (!decode(value, &text) || !buf_ok(&text) || !span_is_utf8(buf_span(&text)))
        return err_set(err, MUSTER_EIDUNDECODABLE, "The %s's %s cannot be decoded.", of, where);
    if (text.n == 0)
        return err_set(err, MUSTER_EIDNONE, "The %s's %s is empty.", of, where);
    if (text.n > ID_MAX)
        return err_set(err, MUSTER_EIDUNDECODABLE, "The %s's %s has %zu bytes; a device ID has at most %d.", of, where, text.n, ID_MAX);
    if (span_has_control(buf_span(&text)))
        return err_set(err, MUSTER_EIDUNDECODABLE, "The %s's %s has a control character.", of, where);
    buf_add(out, buf_span(&text));
    return buf_check(out, err);
}

int pki_name_value(const X509_NAME *name, int nid, const char *of, const char *where, struct buf *out, struct err *err) {
    int first = X509_NAME_get_index_by_NID(name, nid, -1);
    if (first < 0)
        return err_set(err, MUSTER_EIDNONE, "The %s has no %s.", of, where);
    if (X509_NAME_get_index_by_NID(name, nid, first) >= 0)
        return err_set(err, MUSTER_EIDSEVERAL, "The %s has more than one %s.", of, where);
    return take_value(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, first)), of, where, out, err);
}

static int from_subject(const struct cert *c, int nid, const char *where, struct buf *out, struct err *err) {
    return pki_name_value(X509_get_subject_name(c->x), nid, "certificate", where, out, err);
}

static int from_san(const struct cert *c, int type, const char *where, struct buf *out, struct err *err) {
    int status = 0;
    CLEANUP(GENERAL_NAMES_free) GENERAL_NAMES *names = X509_get_ext_d2i(c->x, NID_subject_alt_name, &status, NULL);
    if (!names && status == -2)
        return err_set(err, MUSTER_EIDSEVERAL, "The certificate has the extension subjectAltName twice.");
    if (!names && status >= 0)
        return err_set(err, MUSTER_EIDUNDECODABLE, "The certificate's subjectAltName cannot be decoded.");
    const ASN1_STRING *found = NULL;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        int have;
        const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &have);
        if (have != type)
            continue;
        if (found)
            return err_set(err, MUSTER_EIDSEVERAL, "The certificate has more than one %s.", where);
        found = value;
    }
    return found ? take_value(found, "certificate", where, out, err) : err_set(err, MUSTER_EIDNONE, "The certificate has no %s.", where);
}

int cert_common_name(const struct cert *c, struct buf *out, struct err *err) { return from_subject(c, NID_commonName, "subject CN", out, err); }

int cert_own_device_id(const struct cert *c, struct buf *out, struct err *err) {
    CLEANUP(GENERAL_NAMES_free) GENERAL_NAMES *names = X509_get_ext_d2i(c->x, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        int kind;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &kind);
        struct span uri = kind == GEN_URI ? span_of(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value)) : SPAN_NONE;
        if (device_uri_is(uri))
            return device_uri_read(uri, out) ? err_set(err, MUSTER_EIDUNDECODABLE, NULL) : 0;
    }
    return cert_common_name(c, out, err);
}

int cert_device_id(const struct cert *c, enum id_rule rule, struct buf *out, struct err *err) {
    switch (rule) {
    case ID_RULE_CN:
        return cert_common_name(c, out, err);
    case ID_RULE_SAN_URI:
        return from_san(c, GEN_URI, "URI in subjectAltName", out, err);
    case ID_RULE_SAN_DNS:
        return from_san(c, GEN_DNS, "DNS name in subjectAltName", out, err);
    case ID_RULE_SERIAL_NUMBER:
        return from_subject(c, NID_serialNumber, "subject serialNumber", out, err);
    case ID_RULE_FINGERPRINT:
        hex_add(out, hash_span(&c->key.spki));
        return buf_check(out, err);
    }
    return err_set(err, MUSTER_EINTERNAL, NULL);
}
