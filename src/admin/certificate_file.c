/* certificate_file: the gateway's certificates as files under DIR/tls: chain and key in one PEM, mode 0640, written whole or not at all. */
#include <fcntl.h>
#include <openssl/x509v3.h>

#include "admin/server_cas.h"
#include "base/file.h"
#include "base/secret.h"
#include "pki/make.h"

#define PEM_MAX (64 * 1024)

static bool is_address(const char *host) { return strchr(host, ':') || strspn(host, "0123456789.") == strlen(host); }

const char *account_host(struct control *c, const char *account, char out[600]) {
    const char *host = c->hosts[0];
    if (is_address(host))
        snprintf(out, 600, "%s", host);
    else
        snprintf(out, 600, "%s.%s", account, host);
    return out;
}

void account_url(struct control *c, const char *account, struct buf *out) {
    const char *url = c->o->gateway_url, *host = c->hosts[0];
    /* Names under localhost resolve in few places; where the host is not the one of the URL there is no saying what accounts are called. */
    struct span rest = span_str(url), scheme = SPAN_LIT("https://");
    bool named = !is_address(host) && strcmp(host, "localhost") != 0 && span_starts(rest, scheme) && span_starts(span_sub(rest, scheme.n, rest.n), span_str(host));
    if (named)
        buf_addf(out, "https://%s.%s", account, url + scheme.n);
    else
        buf_adds(out, url);
}

static void add_name(struct server_names *n, const char *name) {
    for (size_t i = 0; i < n->n; i++)
        if (span_eq_nocase(n->names[i], span_str(name)))
            return;
    if (n->n < VAULT_NAMES_MAX)
        n->names[n->n++] = span_str(name);
}

bool server_names_of(struct control *c, const char *account, struct server_names *out) {
    *out = (struct server_names){.account = account};
    if (*account) {
        if (is_address(c->hosts[0]))
            return false;
        add_name(out, account_host(c, account, out->text));
        return true;
    }
    for (size_t i = 0; i < c->n_hosts; i++)
        add_name(out, c->hosts[i]);
    add_name(out, "127.0.0.1");
    add_name(out, "::1");
    return true;
}

static void path_of(struct control *c, const char *account, struct buf *out) {
    if (*account)
        buf_addf(out, "%s/tls/%s.account.pem", c->o->dir, account);
    else
        buf_addf(out, "%s/tls/default.pem", c->o->dir);
}

int certificate_default(struct control *c, struct buf *pem, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    path_of(c, "", &path);
    return file_read(AT_FDCWD, buf_str(&path), pem, err);
}

static bool has_name(const struct cert *cert, struct span name) {
    char text[600];
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(name));
    return is_address(text) ? X509_check_ip_asc(cert->x, text, 0) == 1 : X509_check_host(cert->x, text, 0, 0, NULL) == 1;
}

static const char CERT_END[] = "-----END CERTIFICATE-----\n";

/* What stands behind the first certificate. */
static struct span behind_first(struct span pem) {
    long at = span_find(pem, SPAN_LIT(CERT_END));
    return at >= 0 ? span_sub(pem, (size_t)at + sizeof CERT_END - 1, pem.n) : SPAN_NONE;
}

int certificate_read(struct span pem, struct cert **out) {
    struct span rest = behind_first(pem);
    return rest.p ? cert_from_file(span_of(pem.p, pem.n - rest.n), out, NULL) : MUSTER_EINVALID;
}

/* Neither more nor less: who knows an older server CA alone needs them, and of one that is retired nothing is shown any more. */
static bool has_chain(const struct control *c, struct span pem) {
    const struct span chain = buf_span(&c->server_cas->chain), rest = behind_first(pem);
    return rest.p && span_starts(rest, chain) && span_find(span_sub(rest, chain.n, rest.n), SPAN_LIT(CERT_END)) < 0;
}

size_t server_ca_keys(struct control *c, struct hash *out, size_t max) {
    struct cert *cas[SERVER_CAS_MAX];
    size_t n = 0, own = 0;
    if (cert_chain_from_file(buf_span(&c->server_ca), cas, SERVER_CAS_MAX, &n, NULL))
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (own < max && server_ca_is_own(cas[i]))
            out[own++] = cas[i]->key.spki;
        cert_free(cas[i]);
    }
    return own;
}

enum certificate_state certificate_look(struct control *c, const struct server_names *names) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(PEM_MAX);
    CLEANUP(cert_free) struct cert *cert = NULL;
    path_of(c, names->account, &path);
    if (file_read(AT_FDCWD, buf_str(&path), &pem, NULL) || certificate_read(buf_span(&pem), &cert) || !server_cas_signed(c, cert) ||
        cert->not_after <= clock_now() || cert->not_before > clock_now()) /* not yet: made while the clock was ahead */
        return CERTIFICATE_MISSING;
    if (!cert_signed_by(cert, server_cas_signer(c)) || !has_chain(c, buf_span(&pem)))
        return CERTIFICATE_DUE;
    for (size_t i = 0; i < names->n; i++)
        if (!has_name(cert, names->names[i]))
            return CERTIFICATE_DUE;
    int64_t life = cert->not_after - cert->not_before;
    return clock_now() >= cert->not_before + life * 2 / 3 ? CERTIFICATE_DUE : CERTIFICATE_GOOD;
}

int certificate_store(struct control *c, const struct server_names *names, struct span der, EVP_PKEY *key, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(PEM_MAX);
    CLEANUP(cert_free) struct cert *cert = NULL;
    int rc = cert_from_der(der, &cert, err);
    if (rc || (rc = cert_pem(cert, &pem)))
        return rc;
    if (!cert_signed_by(cert, server_cas_signer(c))) /* what is behind it would lead elsewhere */
        return err_retry(err, MUSTER_EVAULT, 1, "The server CA has changed meanwhile.");
    buf_add(&pem, buf_span(&c->server_cas->chain));
    if ((rc = key_private_pem(key, &pem, err)))
        return rc;
    path_of(c, names->account, &path);
    return file_replace(AT_FDCWD, buf_str(&path), buf_span(&pem), 0640, err);
}

int certificate_remove(struct control *c, const char *account, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    path_of(c, account, &path);
    return file_remove(AT_FDCWD, buf_str(&path), err);
}
