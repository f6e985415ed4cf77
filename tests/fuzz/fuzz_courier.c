/* The messages between control and the courier; the URLs of webhooks, and the addresses that they may reach.  The first byte says which:
 * 'o' an order, 'r' a report, 'u' a URL, anything else an address. */
#include <arpa/inet.h>
#include <string.h>

#include "courier/address.h"
#include "courier/url.h"
#include "courier/wire.h"
#include "fuzz.h"

#define WIDE "0.0.0.0/0 ::/0"

static bool is_value(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x20 || s.p[i] > 0x7e)
            return false;
    return true;
}

static void check_order(struct span in) {
    struct courier_order o;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(COURIER_MESSAGE_MAX);
    if (courier_order_read(in, &o))
        return;
    MUST(o.id && span_inside(o.url, in) && span_inside(o.ca, in) && span_inside(o.body, in) && o.ca.n <= COURIER_CA_MAX && o.body.n <= COURIER_BODY_MAX);
    MUST(is_value(o.url) && is_value(o.type) && is_value(o.event) && is_value(o.signature)); /* what becomes a header field is one */
    MUST(courier_order_write(&o, &out) == 0 && span_eq(buf_span(&out), in));
}

static void check_report(struct span in) {
    struct courier_report r;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(1024);
    if (courier_report_read(in, &r))
        return;
    MUST(r.id && (!r.status || (r.status >= 100 && r.status <= 599)) && r.text.n <= COURIER_TEXT_MAX && is_value(r.text) && span_inside(r.text, in));
    MUST(courier_report_write(&r, &out) == 0 && span_eq(buf_span(&out), in));
}

/* By a reader of its own: the bytes of an address, IPv4 as it would be mapped into IPv6, and whatever IPv4 address is in it. */
static bool v4_is_shut(const uint8_t a[4], bool loopback_too) {
    return a[0] == 0 || (a[0] == 169 && a[1] == 254) || a[0] >= 224 || (loopback_too && a[0] == 127);
}

static bool v6_is_shut(const uint8_t a[16], bool loopback_too) {
    static const uint8_t zero[16] = {0};
    bool head = !memcmp(a, zero, 10);
    if (head && a[10] == 0xff && a[11] == 0xff)
        return v4_is_shut(a + 12, loopback_too);
    if (head && !memcmp(a, zero, 12) && (a[12] || a[13] || a[14]))
        return v4_is_shut(a + 12, loopback_too);
    if (a[0] == 0x20 && a[1] == 0x02)
        return v4_is_shut(a + 2, loopback_too);
    if (a[0] == 0 && a[1] == 0x64 && a[2] == 0xff && a[3] == 0x9b && !memcmp(a + 4, zero, 8))
        return v4_is_shut(a + 12, loopback_too);
    bool one = !memcmp(a, zero, 15) && a[15] == 1;
    return !memcmp(a, zero, 16) || a[0] == 0xff || (a[0] == 0xfe && a[1] >= 0x80) || (loopback_too && one);
}

static bool is_shut(const char *address, bool loopback_too) {
    uint8_t a[16];
    if (inet_pton(AF_INET, address, a) == 1)
        return v4_is_shut(a, loopback_too);
    return inet_pton(AF_INET6, address, a) != 1 || v6_is_shut(a, loopback_too);
}

static void check_address(const char *text) {
    MUST(!address_allowed(WIDE, text) || !is_shut(text, false));
    MUST(!address_allowed("", text) || !is_shut(text, true));
    MUST(!address_allowed("", text) || address_allowed(WIDE, text)); /* naming everything shuts nothing */
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char out[ADDRESS_TEXT_MAX];
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        address_text((const struct sockaddr *)(const void *)&v4, out);
    else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
        address_text((const struct sockaddr *)(const void *)&v6, out);
    else
        return;
    /* What a connection is asked by is what the text was asked by. */
    MUST(address_allowed("", text) == address_allowed("", out) && address_allowed(WIDE, text) == address_allowed(WIDE, out) && is_shut(text, true) == is_shut(out, true));
}

/* A name that any resolver would take for a number: its last label begins with a digit (inet_aton reads octal, hex and short forms). */
static bool may_be_number(const char *host) {
    size_t n = strlen(host);
    if (n && host[n - 1] == '.')
        n--;
    size_t at = n;
    while (at && host[at - 1] != '.')
        at--;
    return at == n || (host[at] >= '0' && host[at] <= '9');
}

static void check_url(struct span in) {
    struct courier_url u;
    struct err err = ERR_INIT;
    char host[256];
    bool taken = !courier_url_check(in, "", &err), taken_wide = !courier_url_check(in, WIDE, &err);
    int rc = courier_url_parse(in, &u, &err);
    MUST(rc == 0 || rc == MUSTER_EINVALID);
    MUST((!taken && !taken_wide) || !rc);
    MUST(!taken || taken_wide);
    if (rc)
        return;
    MUST(u.port && in.n <= COURIER_URL_MAX && span_inside(u.host, in) && u.host.n && u.host.n < sizeof host && is_value(in));
    MUST(u.tls == span_starts(in, SPAN_LIT("https://")) && (u.tls || span_starts(in, SPAN_LIT("http://"))));
    memcpy(host, u.host.p, u.host.n);
    host[u.host.n] = '\0';
    MUST(!strpbrk(host, "@%/?#\\[]_ "));
    /* Before the path nothing but scheme, host and port. */
    const char *path = NULL;
    for (size_t i = 8; i < in.n && !path; i++)
        path = in.p[i] == '/' ? (const char *)in.p + i : NULL;
    size_t before = path ? (size_t)((const uint8_t *)path - in.p) : in.n;
    for (size_t i = 0; i < before; i++)
        MUST(in.p[i] != '@' && in.p[i] != '%' && in.p[i] != '?');
    uint8_t bytes[16];
    bool v6 = strchr(host, ':') != NULL;
    if (u.literal) {
        MUST(inet_pton(v6 ? AF_INET6 : AF_INET, host, bytes) == 1 && v6 == (u.host.p[-1] == '['));
        MUST(!taken || !is_shut(host, true));
        MUST(!taken_wide || !is_shut(host, false));
        MUST(u.tls || !taken_wide || !strncmp(host, "127.", 4) || !strcmp(host, "::1") || v6);
    } else {
        MUST(!v6 && !may_be_number(host));
        MUST(!taken || strcasecmp(host, "localhost"));
        MUST(u.tls || !taken_wide || !strcasecmp(host, "localhost"));
    }
    MUST(u.tls || !taken); /* plain http only where loopback is named */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char text[128];
    if (!n || n > COURIER_MESSAGE_MAX)
        return 0;
    struct span in = span_of(data + 1, n - 1);
    if (data[0] == 'o') {
        check_order(in);
    } else if (data[0] == 'r') {
        check_report(in);
    } else if (data[0] == 'u') {
        check_url(in);
    } else if (in.n < sizeof text) {
        memcpy(text, in.p, in.n);
        text[in.n] = '\0';
        check_address(text);
    }
    return 0;
}
