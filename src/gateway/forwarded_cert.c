/* forwarded_cert: see forwarded_cert.h. */
#include "gateway/forwarded_cert.h"

#include "base/hex.h"

#define BEGIN "-----BEGIN CERTIFICATE-----"
#define TEXT_MAX (2 * CHAIN_MAX_BYTES) /* PEM of all that a device may send */

static int malformed(struct err *err, const char *why) { return err_set(err, MUSTER_ECERTMALFORMED, "The forwarded certificate %s.", why); }

static int percent_decode(struct span s, struct buf *out, struct err *err) {
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (c == '%') {
            int high = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1, low = i + 2 < s.n ? hex_digit(s.p[i + 2]) : -1;
            if (high < 0 || low < 0 || (c = (uint8_t)(high * 16 + low)) == 0)
                return malformed(err, "is not percent-encoded");
            i += 2;
        }
        buf_addc(out, c);
    }
    return buf_ok(out) ? 0 : err_set(err, MUSTER_ECHAINLONG, NULL);
}

static size_t count_blocks(struct span pem) {
    size_t n = 0;
    for (long at; (at = span_find(pem, SPAN_LIT(BEGIN))) >= 0; pem = span_sub(pem, (size_t)at + sizeof BEGIN - 1, pem.n))
        n++;
    return n;
}

static int read_pem(struct span escaped, struct forwarded_cert *out, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(TEXT_MAX);
    struct err why = ERR_INIT;
    int rc = percent_decode(escaped, &pem, err);
    if (rc)
        return rc;
    if (!span_starts(buf_span(&pem), SPAN_LIT(BEGIN)))
        return malformed(err, "is not PEM");
    if (count_blocks(buf_span(&pem)) > CHAIN_MAX_CERTS)
        return err_set(err, MUSTER_ECHAINLONG, NULL);
    return cert_chain_from_file(buf_span(&pem), out->at, CHAIN_MAX_CERTS, &out->n, &why) ? err_set(err, MUSTER_ECERTMALFORMED, "The forwarded certificate cannot be read: %s", err_text(&why)) : 0;
}

static int read_escaped(const struct forwarded_field *f, struct forwarded_cert *out, struct err *err) { return read_pem(f->value, out, err); }

/* --- Envoy -------------------------------------------------------------------------------------------------------------------------- */

/* A value, quoted (then with \" for a quote) or up to the next separator.  The spans of Cert and Chain hold no escape once they are read as
 * percent-encoded text. */
static bool next_value(struct span *rest, struct span *value) {
    size_t i = 0;
    if (!rest->n || rest->p[0] != '"') {
        while (i < rest->n && rest->p[i] != ';' && rest->p[i] != ',' && rest->p[i] != '"')
            i++;
        *value = span_sub(*rest, 0, i);
        *rest = span_sub(*rest, i, rest->n);
        return true;
    }
    for (i = 1; i < rest->n && rest->p[i] != '"'; i++)
        if (rest->p[i] == '\\')
            i++;
    if (i >= rest->n)
        return false;
    *value = span_sub(*rest, 1, i - 1);
    *rest = span_sub(*rest, i + 1, rest->n);
    return true;
}

static int split_element(struct span rest, struct span *cert, struct span *chain, struct err *err) {
    for (bool more = true; more;) {
        struct span value;
        long equals = span_index(rest, '=');
        if (equals < 1)
            return malformed(err, "is not a list of key=value");
        struct span key = span_trim(span_sub(rest, 0, (size_t)equals));
        rest = span_sub(rest, (size_t)equals + 1, rest.n);
        if (!head_is_token(key) || !next_value(&rest, &value))
            return malformed(err, "is not a list of key=value");
        struct span *to = span_eq_nocase(key, SPAN_LIT("Cert")) ? cert : span_eq_nocase(key, SPAN_LIT("Chain")) ? chain : NULL;
        if (to && to->p)
            return malformed(err, "stands there twice");
        if (to)
            *to = value;
        more = rest.n > 0;
        if (more && rest.p[0] != ';')
            return malformed(err, rest.p[0] == ',' ? "is one of several: only the last proxy's may come through" : "is not a list of key=value");
        rest = span_sub(rest, 1, rest.n);
    }
    return 0;
}

static int read_envoy(const struct forwarded_field *f, struct forwarded_cert *out, struct err *err) {
    CLEANUP(forwarded_cert_fini) struct forwarded_cert alone = {.n = 0};
    struct span cert = SPAN_NONE, chain = SPAN_NONE;
    int rc = split_element(f->value, &cert, &chain, err);
    if (rc)
        return rc;
    if (!cert.p && !chain.p)
        return malformed(err, "is not there: Envoy has to send it with set_current_client_cert_details, cert or chain");
    if (!chain.p)
        return read_pem(cert, out, err);
    if ((rc = read_pem(chain, out, err)) || !cert.p)
        return rc;
    if ((rc = read_pem(cert, &alone, err)))
        return rc;
    return alone.n == 1 && hash_eq(&alone.at[0]->fingerprint, &out->at[0]->fingerprint) ? 0 : malformed(err, "is another one than the first of its chain");
}

/* --- haproxy ------------------------------------------------------------------------------------------------------------------------- */

/* The length of the DER element at the beginning: 0: it is none, or not whole. */
static size_t der_length(struct span s) {
    if (s.n < 2 || s.p[0] != 0x30)
        return 0;
    size_t octets = s.p[1] & 0x80 ? s.p[1] & 0x7f : 0, n = octets ? 0 : s.p[1];
    if (octets > 3 || s.n < 2 + octets || (s.p[1] & 0x80 && !octets))
        return 0;
    for (size_t i = 0; i < octets; i++)
        n = n << 8 | s.p[2 + i];
    n += 2 + octets;
    return n <= s.n ? n : 0;
}

static int add_der(struct span text, struct forwarded_cert *out, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CHAIN_MAX_BYTES);
    if (base64_decode(text, &der))
        return buf_ok(&der) ? malformed(err, "is not base64") : err_set(err, MUSTER_ECHAINLONG, NULL);
    for (struct span rest = buf_span(&der); rest.n;) {
        size_t n = der_length(rest);
        struct cert *c = NULL;
        if (!n)
            return malformed(err, "is not DER");
        if (out->n == CHAIN_MAX_CERTS)
            return err_set(err, MUSTER_ECHAINLONG, NULL);
        int rc = cert_from_der(span_sub(rest, 0, n), &c, err);
        if (rc)
            return rc;
        if (out->n && hash_eq(&c->fingerprint, &out->at[0]->fingerprint))
            cert_free(c); /* the leaf, once more */
        else
            out->at[out->n++] = c;
        rest = span_sub(rest, n, rest.n);
    }
    return 0;
}

static int read_der(const struct forwarded_field *f, struct forwarded_cert *out, struct err *err) {
    int rc = add_der(f->value, out, err);
    if (!rc && out->n != 1)
        rc = malformed(err, "is not one");
    return rc || !f->more.n ? rc : add_der(f->more, out, err);
}

/* --- which ------------------------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *field, *more; /* more: a second one that may come with it */
    int (*read)(const struct forwarded_field *f, struct forwarded_cert *out, struct err *err);
} FORMS[] = {
    {"x-muster-client-cert", NULL, read_escaped},
    {"x-forwarded-client-cert", NULL, read_envoy},
    {"x-muster-client-der", "x-muster-client-chain-der", read_der},
};
#define FORMS_N (int)(sizeof FORMS / sizeof *FORMS)

/* The one field of that name that is not empty; false: it is there twice. */
static bool find_one(const struct http_field *fields, size_t n, const char *name, struct span *out) {
    size_t times = 0;
    *out = SPAN_NONE;
    for (size_t i = 0; name && i < n; i++)
        if (span_eq_nocase(fields[i].name, span_str(name))) {
            times++;
            *out = fields[i].value;
        }
    return times < 2;
}

int forwarded_cert_find(const struct http_field *fields, size_t n, struct forwarded_field *out, struct err *err) {
    *out = (struct forwarded_field){.form = FORMS_N};
    for (int form = 0; form < FORMS_N; form++) {
        struct span value, more;
        if (!find_one(fields, n, FORMS[form].field, &value) || !find_one(fields, n, FORMS[form].more, &more))
            return err_set(err, MUSTER_EINVALID, "The proxy sent %s twice.", FORMS[form].field);
        if (!value.n && !more.n)
            continue;
        if (out->form != FORMS_N)
            return err_set(err, MUSTER_EINVALID, "The proxy sent a certificate as %s and as %s; let it send one and take the other away.", FORMS[out->form].field, FORMS[form].field);
        *out = (struct forwarded_field){form, value, more};
    }
    return out->form == FORMS_N ? err_set(err, MUSTER_ECERTREQUIRED, NULL) : 0;
}

int forwarded_cert_read(const struct forwarded_field *from, struct forwarded_cert *out, struct err *err) {
    *out = (struct forwarded_cert){.n = 0};
    int rc = FORMS[from->form].read(from, out, err);
    if (rc)
        forwarded_cert_fini(out);
    return rc;
}

void forwarded_cert_fini(struct forwarded_cert *c) {
    for (size_t i = 0; i < c->n; i++)
        cert_free(c->at[i]);
    c->n = 0;
}
