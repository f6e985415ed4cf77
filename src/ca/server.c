/* server: see server.h. */
#include "ca/server.h"

#include "pki/cert.h"

#define ANCHORS_MAX 8
#define URL_MAX 255

static int take_anchor(struct ca_server *s, const struct cert *c, int64_t now, struct err *err) {
    if (!c->ca)
        return err_set(err, MUSTER_EINVALID, "The gateway's root is not a CA certificate; take server-ca.pem, not the gateway's own.");
    if (c->not_after <= now)
        return err_set(err, MUSTER_EINVALID, "The gateway's root has expired.");
    return cert_pem(c, &s->root) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

int ca_server_set_root(struct ca_server *s, struct span pem, int64_t now, struct err *err) {
    struct cert *certs[ANCHORS_MAX] = {NULL};
    size_t n = 0;
    int rc = cert_chain_from_file(pem, certs, ANCHORS_MAX, &n, err);
    if (rc) {
        err_prefix(err, "The gateway's root");
        return rc;
    }
    buf_clear(&s->root);
    for (size_t i = 0; i < n; i++) {
        if (!rc)
            rc = take_anchor(s, certs[i], now, err);
        cert_free(certs[i]);
    }
    if (rc)
        buf_clear(&s->root);
    return rc;
}

int ca_server_set_url(struct ca_server *s, struct span url, struct err *err) {
    while (url.n && strchr(" \t\r\n", url.p[url.n - 1]))
        url.n--;
    url = span_trim(url);
    struct span host = span_sub(url, 8, url.n);
    bool good = span_starts(url, SPAN_LIT("https://")) && host.n > 0 && url.n <= URL_MAX;
    for (size_t i = 0; good && i < host.n; i++) {
        uint8_t c = host.p[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr(".-_:[]", c));
    }
    if (!good)
        return err_set(err, MUSTER_EINVALID, "The gateway's URL is not of the form https://HOST or https://HOST:PORT, without a slash at its end.");
    buf_clear(&s->url);
    buf_add(&s->url, url);
    buf_addc(&s->url, '\n');
    return buf_check(&s->url, err);
}
