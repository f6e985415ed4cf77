/* Certificates that a proxy forwards in header fields: lines of NAME:VALUE.  Codes of the contract only; what was read, written again in each
 * of the forms, is read as the same certificates. */
#include "base/hex.h"
#include "fuzz.h"
#include "gateway/forwarded_cert.c"

#define FIELDS_MAX 8

static size_t split(struct span in, struct http_field *fields) {
    size_t n = 0;
    while (in.n && n < FIELDS_MAX) {
        long end = span_index(in, '\n');
        struct span line = end < 0 ? in : span_sub(in, 0, (size_t)end);
        long colon = span_index(line, ':');
        in = end < 0 ? SPAN_NONE : span_sub(in, (size_t)end + 1, in.n);
        if (colon >= 0)
            fields[n++] = (struct http_field){span_sub(line, 0, (size_t)colon), span_trim(span_sub(line, (size_t)colon + 1, line.n))};
    }
    return n;
}

static void escape(struct span s, struct buf *out) {
    for (size_t i = 0; i < s.n; i++)
        buf_addf(out, "%%%02x", s.p[i]);
}

static void check_same(const char *name, struct span value, const char *more_name, struct span more, const struct forwarded_cert *as) {
    const struct http_field fields[] = {{span_str(name), value}, {span_str(more_name), more}};
    struct forwarded_field f;
    CLEANUP(forwarded_cert_fini) struct forwarded_cert again = {.n = 0};
    MUST(forwarded_cert_find(fields, more_name ? 2 : 1, &f, NULL) == 0 && span_eq(f.value, value));
    MUST(forwarded_cert_read(&f, &again, NULL) == 0 && again.n == as->n);
    for (size_t i = 0; i < as->n; i++)
        MUST(hash_eq(&again.at[i]->fingerprint, &as->at[i]->fingerprint));
}

static void check_again(const struct forwarded_cert *c) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(256 * 1024);
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1024 * 1024);
    CLEANUP(buf_fini) struct buf envoy = BUF_INIT(1024 * 1024);
    CLEANUP(buf_fini) struct buf leaf = BUF_INIT(256 * 1024);
    CLEANUP(buf_fini) struct buf leaf_text = BUF_INIT(256 * 1024);
    CLEANUP(buf_fini) struct buf rest = BUF_INIT(256 * 1024);
    CLEANUP(buf_fini) struct buf rest_text = BUF_INIT(256 * 1024);
    bool twice = false;
    for (size_t i = 0; i < c->n; i++) {
        MUST(c->at[i] && cert_pem(c->at[i], &pem) == 0 && cert_der(c->at[i], i ? &rest : &leaf) == 0);
        twice = twice || (i && hash_eq(&c->at[i]->fingerprint, &c->at[0]->fingerprint));
    }
    if (pem.n > TEXT_MAX || rest.n > CHAIN_MAX_BYTES || leaf.n > CHAIN_MAX_BYTES)
        return;
    escape(buf_span(&pem), &text);
    check_same("X-Muster-Client-Cert", buf_span(&text), NULL, SPAN_NONE, c);
    buf_addf(&envoy, "Hash=00;Subject=\"a\\\"b,;\";Chain=\"%s\"", buf_str(&text));
    check_same("X-Forwarded-Client-Cert", buf_span(&envoy), NULL, SPAN_NONE, c);
    base64_add(&leaf_text, buf_span(&leaf));
    base64_add(&rest_text, buf_span(&rest));
    if (!twice) /* that form leaves the leaf out where it comes again */
        check_same("x-muster-client-der", buf_span(&leaf_text), "x-muster-client-chain-der", buf_span(&rest_text), c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct http_field fields[FIELDS_MAX];
    struct forwarded_field from;
    struct err err = ERR_INIT;
    CLEANUP(forwarded_cert_fini) struct forwarded_cert certs = {.n = 0};
    size_t n_fields = split(span_of(data, n), fields);
    int rc = forwarded_cert_find(fields, n_fields, &from, &err);
    MUST(rc == 0 || rc == MUSTER_ECERTREQUIRED || rc == MUSTER_EINVALID);
    if (rc)
        return 0;
    MUST(span_inside(from.value, span_of(data, n)) && span_inside(from.more, span_of(data, n)));
    rc = forwarded_cert_read(&from, &certs, &err);
    MUST(rc ? (rc == MUSTER_ECERTMALFORMED || rc == MUSTER_ECHAINLONG) && certs.n == 0 && err_text(&err)[0] : certs.n >= 1 && certs.n <= CHAIN_MAX_CERTS);
    if (!rc)
        check_again(&certs);
    return 0;
}
