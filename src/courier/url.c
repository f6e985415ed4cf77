/* courier/url: see url.h. */
#include "courier/url.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "courier/address.h"

static int bad(struct err *err, const char *why) { return err_set(err, MUSTER_EINVALID, "The URL of a webhook %s.", why); }

static bool is_name(struct span host) {
    if (!host.n || host.n > 253 || host.p[0] == '.' || host.p[0] == '-')
        return false;
    for (size_t i = 0; i < host.n; i++) {
        uint8_t c = host.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.') || (c == '.' && i + 1 < host.n && host.p[i + 1] == '.'))
            return false;
    }
    return true;
}

static int address_family(struct span host) {
    char text[64];
    uint8_t bytes[16];
    if (!host.n || host.n >= sizeof text)
        return 0;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    return inet_pton(AF_INET, text, bytes) == 1 ? AF_INET : inet_pton(AF_INET6, text, bytes) == 1 ? AF_INET6 : 0;
}

/* "0x7f.1" and "2130706433" are addresses to some resolvers: a name has a label at its end that is no number. */
static bool ends_in_number(struct span host) {
    size_t at = host.n;
    if (at && host.p[at - 1] == '.')
        at--;
    size_t end = at;
    while (at && host.p[at - 1] != '.')
        at--;
    return at < end && host.p[at] >= '0' && host.p[at] <= '9';
}

static int take_port(struct span text, struct courier_url *out, struct err *err) {
    uint64_t port;
    if (!text.n)
        return 0;
    if (text.p[0] != ':' || !span_to_u64(span_sub(text, 1, text.n), &port) || port < 1 || port > 65535)
        return bad(err, "has no valid port");
    out->port = (uint16_t)port;
    return 0;
}

static int take_authority(struct span authority, struct courier_url *out, struct err *err) {
    bool brackets = authority.n && authority.p[0] == '[';
    long end = span_index(authority, brackets ? ']' : ':');
    if (span_index(authority, '@') >= 0)
        return bad(err, "holds no credentials; a receiver verifies the signature instead");
    if (brackets && end < 0)
        return bad(err, "has an address without its \"]\"");
    out->host = brackets ? span_sub(authority, 1, (size_t)end - 1) : span_sub(authority, 0, end < 0 ? authority.n : (size_t)end);
    int family = address_family(out->host);
    out->literal = family != 0;
    if (brackets ? family != AF_INET6 : family != AF_INET && (!is_name(out->host) || ends_in_number(out->host)))
        return bad(err, "names no host");
    return take_port(end < 0 ? SPAN_NONE : span_sub(authority, (size_t)end + (brackets ? 1 : 0), authority.n), out, err);
}

int courier_url_parse(struct span url, struct courier_url *out, struct err *err) {
    *out = (struct courier_url){.tls = span_starts(url, SPAN_LIT("https://"))};
    if (url.n > COURIER_URL_MAX)
        return err_set(err, MUSTER_EINVALID, "The URL of a webhook has at most %d bytes.", COURIER_URL_MAX);
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] <= ' ' || url.p[i] > '~' || strchr("\"<>\\^`{|}#", url.p[i]))
            return bad(err, "is printable ASCII without blanks, quotes, backslashes and fragment; encode other characters with %");
    if (!out->tls && !span_starts(url, SPAN_LIT("http://")))
        return bad(err, "begins with https://");
    out->port = out->tls ? 443 : 80;
    struct span rest = span_sub(url, out->tls ? 8 : 7, url.n);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    if (n < rest.n && rest.p[n] == '?')
        return bad(err, "has a path before its query");
    return take_authority(span_sub(rest, 0, n), out, err);
}

/* "localhost." and "a.localhost" are this machine too, to most resolvers. */
static bool ends_in_localhost(struct span host) {
    if (host.n && host.p[host.n - 1] == '.')
        host.n--;
    return host.n >= 9 && span_eq_nocase(span_sub(host, host.n - 9, host.n), SPAN_LIT("localhost")) && (host.n == 9 || host.p[host.n - 10] == '.');
}

int courier_url_check(struct span url, const char *networks, struct err *err) {
    struct courier_url u;
    char text[64] = "";
    int rc = courier_url_parse(url, &u, err);
    if (rc)
        return rc;
    if (u.literal) { /* fits: it was read as an address */
        memcpy(text, u.host.p, u.host.n);
        text[u.host.n] = '\0';
    }
    bool here = u.literal ? address_is_loopback(text) : ends_in_localhost(u.host);
    if (!u.tls && (!here || (!u.literal && !span_eq_nocase(u.host, SPAN_LIT("localhost")))))
        return bad(err, "begins with https://; plain http is for loopback alone");
    if (here && (u.literal ? !address_allowed(networks, text) : !address_allowed(networks, "127.0.0.1") && !address_allowed(networks, "::1")))
        return bad(err, "names this machine itself, which the setting webhook_networks does not allow");
    return !u.literal || address_allowed(networks, text) ? 0 : bad(err, "names an address that webhooks may not reach; see the setting webhook_networks");
}
