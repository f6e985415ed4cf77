/* csr_fast: see csr_fast.h.  DER (X.690, 10) of RFC 2986, 4.1, from its beginning to its end; each length in as few bytes as it takes. */
#include "pki/csr_fast.h"

#include "pki/der.h"
#include "pki/key_weak.h"
#include "pki/pki.h"

#define REQUEST_MAX 4096
#define ID_MAX 128
#define PRINTABLE_STRING 0x13
#define IA5_STRING 0x16
#define AT_LEN 3 /* bytes of an OID of id-at */
#define AT_CN 3

#define VERSION_1 DER_BYTES(DER_INTEGER, 0x01, 0x00)
#define NO_ATTRIBUTES DER_BYTES(DER_CONTEXT(0), 0x00)
#define ECDSA_WITH_SHA256 DER_BYTES(0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02)
#define ED25519 DER_BYTES(0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70)
#define ED25519_HEAD DER_BYTES(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00) /* of its SubjectPublicKeyInfo (RFC 8410) */

/* Takes the next element off *in: its content, and itself with tag and length. */
static bool next(struct span *in, uint8_t tag, struct span *content, struct span *whole) {
    if (in->n < 2 || in->p[0] != tag)
        return false;
    size_t head = 2, n = in->p[1];
    if (n == 0x81 && in->n > 2 && in->p[2] >= 0x80) {
        n = in->p[2];
        head = 3;
    } else if (n == 0x82 && in->n > 3 && in->p[2]) {
        n = (size_t)in->p[2] << 8 | in->p[3];
        head = 4;
    } else if (n >= 0x80) {
        return false;
    }
    if (in->n - head < n)
        return false;
    *content = span_sub(*in, head, n);
    *whole = span_sub(*in, 0, head + n);
    *in = span_sub(*in, head + n, in->n);
    return true;
}

static bool take(struct span *in, struct span exactly) {
    if (!span_starts(*in, exactly))
        return false;
    *in = span_sub(*in, exactly.n, in->n);
    return true;
}

/* A string whose bytes are its text. */
static bool take_text(struct span *in, struct span *text) {
    struct span whole;
    uint8_t tag = in->n ? in->p[0] : 0;
    if ((tag != DER_UTF8_STRING && tag != PRINTABLE_STRING && tag != IA5_STRING) || !next(in, tag, text, &whole) || text->n == 0)
        return false;
    for (size_t i = 0; tag != DER_UTF8_STRING && i < text->n; i++)
        if (text->p[i] >= 0x80)
            return false;
    return span_is_utf8(*text) && !span_has_control(*text);
}

/* RelativeDistinguishedNames of one attribute of id-at each, one of them the CN. */
static bool read_name(struct span name, struct span *cn) {
    *cn = SPAN_NONE;
    while (name.n) {
        struct span set, attribute, oid, text, whole;
        if (!next(&name, DER_SET, &set, &whole) || !next(&set, DER_SEQUENCE, &attribute, &whole) || set.n || !next(&attribute, 0x06, &oid, &whole) || oid.n != AT_LEN || oid.p[0] != 0x55 ||
            oid.p[1] != 0x04 || oid.p[2] >= 0x80 || !take_text(&attribute, &text) || attribute.n)
            return false;
        if (oid.p[2] != AT_CN)
            continue;
        if (cn->n || text.n > ID_MAX)
            return false;
        *cn = text;
    }
    return cn->n > 0;
}

static EVP_PKEY *read_key(struct span der, struct key_facts *facts) {
    EVP_PKEY *key = NULL;
    if (key_is_p256_der(der)) {
        *facts = (struct key_facts){.kind = KEY_P256, .bits = 256};
        if (key_from_public_der(der, &key, NULL))
            return NULL;
    } else if (span_starts(der, ED25519_HEAD) && der.n == ED25519_HEAD.n + KEY_ED25519_POINT_LEN && !key_ed25519_is_small(der.p + ED25519_HEAD.n)) {
        *facts = (struct key_facts){.kind = KEY_ED25519, .bits = 256};
        key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, der.p + ED25519_HEAD.n, KEY_ED25519_POINT_LEN);
        if (key)
            facts->bits = EVP_PKEY_get_bits(key);
    }
    if (key)
        hash_of(der, &facts->spki);
    return key;
}

bool csr_fast_read(struct span der, struct csr_fast *out) {
    struct span request, body, tbs, name, key_info, signature, whole;
    if (der.n > REQUEST_MAX || !next(&der, DER_SEQUENCE, &request, &whole) || der.n || !next(&request, DER_SEQUENCE, &body, &tbs) || !take(&body, VERSION_1) ||
        !next(&body, DER_SEQUENCE, &name, &whole) || !next(&body, DER_SEQUENCE, &key_info, &out->public_der) || !span_eq(body, NO_ATTRIBUTES) || !read_name(name, &out->common_name))
        return false;
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = read_key(out->public_der, &out->key);
    return key && take(&request, out->key.kind == KEY_P256 ? ECDSA_WITH_SHA256 : ED25519) && next(&request, DER_BIT_STRING, &signature, &whole) && !request.n && signature.n > 1 &&
           signature.p[0] == 0 && key_verify(key, tbs, span_sub(signature, 1, signature.n), NULL) == 0;
}
