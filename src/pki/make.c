/* make: see make.h. */
#include "pki/make.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <arpa/inet.h>

#include "base/clock.h"
#include "pki/device_uri.h"
#include "pki/pki.h"

#define CN_MAX 64 /* characters: RFC 5280, ub-common-name */

DEFINE_CLEANUP(BASIC_CONSTRAINTS_free, BASIC_CONSTRAINTS *)
DEFINE_CLEANUP(ASN1_BIT_STRING_free, ASN1_BIT_STRING *)
DEFINE_CLEANUP(EXTENDED_KEY_USAGE_free, EXTENDED_KEY_USAGE *)
DEFINE_CLEANUP(AUTHORITY_KEYID_free, AUTHORITY_KEYID *)
DEFINE_CLEANUP(ASN1_OCTET_STRING_free, ASN1_OCTET_STRING *)
DEFINE_CLEANUP(GENERAL_NAME_free, GENERAL_NAME *)
DEFINE_CLEANUP(BN_free, BIGNUM *)
DEFINE_CLEANUP(ASN1_NULL_free, ASN1_NULL *)
DEFINE_CLEANUP(NAME_CONSTRAINTS_free, NAME_CONSTRAINTS *)
DEFINE_CLEANUP(GENERAL_SUBTREE_free, GENERAL_SUBTREE *)
DEFINE_CLEANUP(X509_NAME_free, X509_NAME *)
DEFINE_CLEANUP(AUTHORITY_INFO_ACCESS_free, AUTHORITY_INFO_ACCESS *)
DEFINE_CLEANUP(ACCESS_DESCRIPTION_free, ACCESS_DESCRIPTION *)

#define KU_LEAF KU_DIGITAL_SIGNATURE
#define KU_CA (KU_KEY_CERT_SIGN | KU_CRL_SIGN)

/* What a profile fixes.  No caller can say any of it. */
static const struct profile {
    bool ca, extensions, eku_critical, no_check; /* no_check: whether it was revoked is not asked */
    bool constrained; /* to names below its own O and OU */
    int path_length; /* -1: none */
    int eku;         /* NID; 0: no extension */
    int usage;
} profiles[] = {
    [PROFILE_FLEET_ROOT] = {.ca = true, .extensions = true, .path_length = -1, .eku = NID_client_auth, .usage = KU_CA},
    [PROFILE_ISSUING_CA] = {.ca = true, .extensions = true, .path_length = 0, .eku = NID_client_auth, .usage = KU_CA},
    [PROFILE_PROVISIONING_CA] = {.ca = true, .extensions = true, .path_length = 0, .eku = NID_client_auth, .usage = KU_CA},
    [PROFILE_LINE_CA] = {.ca = true, .extensions = true, .constrained = true, .path_length = 0, .eku = NID_client_auth, .usage = KU_CA},
    [PROFILE_SERVER_CA] = {.ca = true, .extensions = true, .path_length = -1, .eku = NID_server_auth, .usage = KU_CA},
    [PROFILE_DEVICE] = {.extensions = true, .path_length = -1, .eku = NID_client_auth, .usage = KU_LEAF},
    [PROFILE_PROVISIONING_KEY] = {.extensions = true, .path_length = -1, .eku = NID_client_auth, .usage = KU_LEAF},
    [PROFILE_SERVER] = {.extensions = true, .path_length = -1, .eku = NID_server_auth, .usage = KU_LEAF},
    [PROFILE_TIME] = {.extensions = true, .path_length = -1, .eku = NID_time_stamp, .eku_critical = true, .usage = KU_LEAF},
    [PROFILE_OCSP] = {.extensions = true, .path_length = -1, .eku = NID_OCSP_sign, .no_check = true, .usage = KU_LEAF},
    [PROFILE_CHALLENGE] = {.path_length = -1},
};

void make_serial(uint8_t out[MAKE_SERIAL_LEN]) {
    uint64_t ms = (uint64_t)clock_now_ms();
    for (int i = 0; i < 6; i++)
        out[i] = (uint8_t)(ms >> (8 * (5 - i)));
    out[0] &= 0x7f; /* positive until the year 6429 and after */
    secret_random_bytes(out + 6, MAKE_SERIAL_LEN - 6);
    if (out[0] == 0)
        out[0] = 1; /* a clock before 2004: the encoding must not get shorter */
}

/* --- names and dates ------------------------------------------------------------------------------------------------------------ */

size_t make_characters(struct span s) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += (s.p[i] & 0xc0) != 0x80;
    return n;
}

static bool id_in_san(const struct make_request *rq) { return rq->profile == PROFILE_DEVICE && make_characters(rq->device_id) > CN_MAX; }

static int set_subject(X509 *x, const struct make_request *rq, struct err *err) {
    struct subject subject = rq->subject;
    if (rq->device_id.n && !id_in_san(rq))
        subject.common_name = rq->device_id;
    return pki_name_fill(X509_get_subject_name(x), &subject, err);
}

/* By text, not by time_t: that has 32 bits on some targets. */
static int set_date(ASN1_TIME *to, int64_t t) {
    int year, month, day, hour, minute, second;
    char text[32];
    clock_to_civil(t, &year, &month, &day, &hour, &minute, &second);
    snprintf(text, sizeof text, "%04d%02d%02d%02d%02d%02dZ", year, month, day, hour, minute, second);
    return ASN1_TIME_set_string_X509(to, text) == 1 ? 0 : MUSTER_ECRYPTO;
}

/* --- extensions ----------------------------------------------------------------------------------------------------------------- */

static int add_ext(X509 *x, int nid, void *value, bool critical) { return value && X509_add1_ext_i2d(x, nid, value, critical, X509V3_ADD_DEFAULT) == 1 ? 0 : MUSTER_ECRYPTO; }

static int add_basic(X509 *x, const struct profile *p) {
    CLEANUP(BASIC_CONSTRAINTS_free) BASIC_CONSTRAINTS *bc = BASIC_CONSTRAINTS_new();
    if (!bc)
        return MUSTER_ENOMEM;
    bc->ca = p->ca ? 0xff : 0;
    if (p->path_length >= 0 && (!(bc->pathlen = ASN1_INTEGER_new()) || !ASN1_INTEGER_set(bc->pathlen, p->path_length)))
        return MUSTER_ENOMEM;
    return add_ext(x, NID_basic_constraints, bc, true);
}

/* RFC 8410, 5 (Ed25519 agrees on nothing), RFC 5480, 3 (elliptic keys encipher nothing), RFC 3279, 2.3.1 (RSA keys agree on nothing). */
static int usage_asked(uint32_t asked, enum key_kind kind) {
    const bool curve = kind == KEY_P256 || kind == KEY_P384 || kind == KEY_P521;
    return KU_DIGITAL_SIGNATURE | (asked & MAKE_USE_COMMIT ? KU_NON_REPUDIATION : 0) | ((asked & MAKE_USE_ENCIPHER) && kind == KEY_RSA ? KU_KEY_ENCIPHERMENT : 0) |
           ((asked & MAKE_USE_AGREE) && curve ? KU_KEY_AGREEMENT : 0);
}

/* KU_… constants are the bits of the first byte, and of the second above it. */
static int add_usage(X509 *x, const struct make_request *rq, const struct profile *p, enum key_kind kind) {
    CLEANUP(ASN1_BIT_STRING_free) ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
    int usage = p->usage;
    if (rq->profile == PROFILE_DEVICE && rq->usages)
        usage = usage_asked(rq->usages, kind);
    else if (!p->ca && kind == KEY_RSA)
        usage |= KU_KEY_ENCIPHERMENT;
    for (int i = 0; bits && i < 8; i++)
        if ((usage & (0x80 >> i)) && !ASN1_BIT_STRING_set_bit(bits, i, 1))
            return MUSTER_ENOMEM;
    return add_ext(x, NID_key_usage, bits, true);
}

static int add_eku(X509 *x, const struct profile *p) {
    CLEANUP(EXTENDED_KEY_USAGE_free) EXTENDED_KEY_USAGE *eku = EXTENDED_KEY_USAGE_new();
    if (!eku || sk_ASN1_OBJECT_push(eku, OBJ_nid2obj(p->eku)) <= 0)
        return MUSTER_ENOMEM;
    return add_ext(x, NID_ext_key_usage, eku, p->eku_critical);
}

/* RFC 5280, 4.2.1.10: whoever it issues for has a subject that begins with these. */
static int add_constraints(X509 *x, const struct make_request *rq) {
    CLEANUP(NAME_CONSTRAINTS_free) NAME_CONSTRAINTS *nc = NAME_CONSTRAINTS_new();
    CLEANUP(GENERAL_SUBTREE_free) GENERAL_SUBTREE *tree = GENERAL_SUBTREE_new();
    CLEANUP(X509_NAME_free) X509_NAME *name = X509_NAME_new();
    const struct subject below = {.organisation = rq->subject.organisation, .organisational_unit = rq->subject.organisational_unit};
    if (!below.organisation.n || !below.organisational_unit.n)
        return MUSTER_EINVALID;
    if (!nc || !tree || !name || pki_name_fill(name, &below, NULL) || !(nc->permittedSubtrees = sk_GENERAL_SUBTREE_new_null()))
        return MUSTER_ENOMEM;
    GENERAL_NAME_free(tree->base);
    if (!(tree->base = GENERAL_NAME_new()))
        return MUSTER_ENOMEM;
    GENERAL_NAME_set0_value(tree->base, GEN_DIRNAME, TAKE(name));
    if (sk_GENERAL_SUBTREE_push(nc->permittedSubtrees, tree) <= 0)
        return MUSTER_ENOMEM;
    tree = NULL;
    return add_ext(x, NID_name_constraints, nc, true);
}

static int add_no_check(X509 *x) {
    CLEANUP(ASN1_NULL_free) ASN1_NULL *null = ASN1_NULL_new();
    return add_ext(x, NID_id_pkix_OCSP_noCheck, null, false);
}

/* RFC 7093, method 1: the leftmost 160 bits of SHA-256 of the key's bits. */
static int key_id(X509 *x, ASN1_OCTET_STRING **out) {
    const ASN1_BIT_STRING *bits = X509_get0_pubkey_bitstr(x);
    struct hash h;
    hash_of(span_of(ASN1_STRING_get0_data(bits), (size_t)ASN1_STRING_length(bits)), &h);
    CLEANUP(ASN1_OCTET_STRING_free) ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    if (!id || ASN1_OCTET_STRING_set(id, h.b, 20) != 1)
        return MUSTER_ENOMEM;
    *out = TAKE(id);
    return 0;
}

static int add_key_ids(X509 *x, const struct cert *issuer) {
    CLEANUP(ASN1_OCTET_STRING_free) ASN1_OCTET_STRING *own = NULL;
    CLEANUP(AUTHORITY_KEYID_free) AUTHORITY_KEYID *aki = AUTHORITY_KEYID_new();
    if (!aki || key_id(x, &own) || add_ext(x, NID_subject_key_identifier, own, false))
        return MUSTER_ECRYPTO;
    const ASN1_OCTET_STRING *above = issuer ? X509_get0_subject_key_id(issuer->x) : own;
    if (!above) /* an issuer without the extension */
        return 0;
    aki->keyid = ASN1_OCTET_STRING_dup(above);
    return aki->keyid ? add_ext(x, NID_authority_key_identifier, aki, false) : MUSTER_ENOMEM;
}

static int add_ocsp(X509 *x, struct span url) {
    CLEANUP(AUTHORITY_INFO_ACCESS_free) AUTHORITY_INFO_ACCESS *all = AUTHORITY_INFO_ACCESS_new();
    CLEANUP(ACCESS_DESCRIPTION_free) ACCESS_DESCRIPTION *one = ACCESS_DESCRIPTION_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    if (!all || !one || !text || url.n > MAKE_URL_MAX || ASN1_STRING_set(text, url.p, (int)url.n) != 1) {
        ASN1_IA5STRING_free(text);
        return MUSTER_ENOMEM;
    }
    ASN1_OBJECT_free(one->method);
    one->method = OBJ_nid2obj(NID_ad_OCSP);
    GENERAL_NAME_set0_value(one->location, GEN_URI, text);
    if (sk_ACCESS_DESCRIPTION_push(all, one) <= 0)
        return MUSTER_ENOMEM;
    one = NULL;
    return add_ext(x, NID_info_access, all, false);
}

static int push_name(GENERAL_NAMES *names, int type, struct span value) {
    CLEANUP(GENERAL_NAME_free) GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *text = type == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
    if (!name || !text || ASN1_STRING_set(text, value.p, (int)value.n) != 1) {
        ASN1_STRING_free(text);
        return MUSTER_ENOMEM;
    }
    GENERAL_NAME_set0_value(name, type, text);
    if (sk_GENERAL_NAME_push(names, name) <= 0)
        return MUSTER_ENOMEM;
    name = NULL;
    return 0;
}

static int push_host(GENERAL_NAMES *names, const char *host) {
    uint8_t address[16];
    if (inet_pton(AF_INET, host, address) == 1)
        return push_name(names, GEN_IPADD, span_of(address, 4));
    if (inet_pton(AF_INET6, host, address) == 1)
        return push_name(names, GEN_IPADD, span_of(address, 16));
    return push_name(names, GEN_DNS, span_str(host));
}

static int push_device(GENERAL_NAMES *names, struct span id) {
    CLEANUP(buf_fini) struct buf uri = BUF_INIT(1024);
    device_uri_add(&uri, id);
    return buf_ok(&uri) ? push_name(names, GEN_URI, buf_span(&uri)) : MUSTER_ENOMEM;
}

static int add_san(X509 *x, const struct make_request *rq) {
    CLEANUP(GENERAL_NAMES_free) GENERAL_NAMES *names = GENERAL_NAMES_new();
    if (!names)
        return MUSTER_ENOMEM;
    for (size_t i = 0; rq->profile == PROFILE_SERVER && rq->dns && rq->dns[i]; i++)
        if (push_host(names, rq->dns[i]))
            return MUSTER_ENOMEM;
    if (id_in_san(rq) && push_device(names, rq->device_id))
        return MUSTER_ENOMEM;
    for (size_t i = 0; rq->profile == PROFILE_DEVICE && i < rq->n_san && i < MAKE_SANS; i++)
        if (push_name(names, rq->san[i].uri ? GEN_URI : GEN_DNS, rq->san[i].value))
            return MUSTER_ENOMEM;
    return sk_GENERAL_NAME_num(names) ? add_ext(x, NID_subject_alt_name, names, false) : 0;
}

static int add_extensions(X509 *x, const struct make_request *rq, const struct cert *issuer, enum key_kind kind) {
    const struct profile *p = &profiles[rq->profile];
    if (!p->extensions)
        return 0;
    if (add_basic(x, p) || add_usage(x, rq, p, kind) || (p->eku && add_eku(x, p)) || (p->no_check && add_no_check(x)) || (p->constrained && add_constraints(x, rq)) || add_key_ids(x, issuer) || (rq->profile == PROFILE_DEVICE && rq->ocsp.n && add_ocsp(x, rq->ocsp)) || add_san(x, rq))
        return MUSTER_ECRYPTO;
    return 0;
}

/* --- the certificate -------------------------------------------------------------------------------------------------------------- */

static int set_serial(X509 *x, const uint8_t serial[MAKE_SERIAL_LEN]) {
    CLEANUP(BN_free) BIGNUM *n = BN_bin2bn(serial, MAKE_SERIAL_LEN, NULL);
    return n && !BN_is_zero(n) && serial[0] < 0x80 && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) ? 0 : MUSTER_ECRYPTO;
}

static const EVP_MD *digest_of(const EVP_PKEY *key) {
    struct key_facts k;
    if (key_facts(key, &k, NULL))
        return NULL;
    return k.kind == KEY_ED25519 ? NULL : k.kind == KEY_P384 ? EVP_sha384() : pki_sha256();
}

int make_cert(const struct make_request *rq, const struct cert *issuer, EVP_PKEY *issuer_key, struct buf *der, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(X509_free) X509 *x = X509_new();
    struct key_facts facts;
    int rc = key_from_public_der(rq->public_key, &key, err);
    if (rc || (rc = key_facts(key, &facts, err)))
        return rc;
    if (!x || X509_set_version(x, X509_VERSION_3) != 1 || set_serial(x, rq->serial) || X509_set_pubkey(x, key) != 1)
        return pki_err(err, MUSTER_ECRYPTO, "Building a certificate");
    if (rq->not_after < rq->not_before || set_date(X509_getm_notBefore(x), rq->not_before) || set_date(X509_getm_notAfter(x), rq->not_after))
        return pki_err(err, MUSTER_EINVALID, "Setting a certificate's validity");
    if ((rc = set_subject(x, rq, err)))
        return rc;
    if (X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer->x) : X509_get_subject_name(x)) != 1 || add_extensions(x, rq, issuer, facts.kind) ||
        X509_sign(x, issuer_key, digest_of(issuer_key)) <= 0)
        return pki_err(err, MUSTER_ECRYPTO, "Building a certificate");
    unsigned char *out = NULL;
    int n = i2d_X509(x, &out);
    if (n <= 0)
        return pki_err(err, MUSTER_ECRYPTO, "Encoding a certificate");
    buf_add(der, span_of(out, (size_t)n));
    OPENSSL_free(out);
    return buf_check(der, err);
}
