/* courier/address: see address.h. */
#include "courier/address.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "base/network.h"

#define NEVER                                                                                                                  \
    "0.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4 "                                                                        \
    "100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::/32 fd20:ce::/32 " /* metadata outside of link-local */                \
    "::/128 fe80::/10 fec0::/10 ff00::/8 "                                                                                     \
    "2001::/32 64:ff9b:1::/48 ::ffff:0:0:0/96"                              /* carry an IPv4 address that cannot be seen, or is nobody's */
#define LOOPBACK "127.0.0.0/8 ::1"

/* The IPv4 address that an IPv6 one carries to somebody who translates. */
static const uint8_t *embedded(const uint8_t b[16]) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, nat64[12] = {0x00, 0x64, 0xff, 0x9b}, compatible[12] = {0};
    if (!memcmp(b, mapped, 12) || !memcmp(b, nat64, 12))
        return b + 12;
    if (!memcmp(b, compatible, 12) && (b[12] || b[13] || b[14]))
        return b + 12;
    return b[0] == 0x20 && b[1] == 0x02 ? b + 2 : NULL;
}

static void text_of(int family, const uint8_t *bytes, char out[ADDRESS_TEXT_MAX]) {
    const uint8_t *inner = family == AF_INET6 ? embedded(bytes) : NULL;
    if (!inet_ntop(inner ? AF_INET : family, inner ? inner : bytes, out, ADDRESS_TEXT_MAX))
        out[0] = '\0';
}

void address_text(const struct sockaddr *at, char out[ADDRESS_TEXT_MAX]) {
    out[0] = '\0';
    if (at->sa_family == AF_INET)
        text_of(AF_INET, (const uint8_t *)&((const struct sockaddr_in *)(const void *)at)->sin_addr, out);
    else if (at->sa_family == AF_INET6)
        text_of(AF_INET6, ((const struct sockaddr_in6 *)(const void *)at)->sin6_addr.s6_addr, out);
}

bool address_is_loopback(const char *address) { return networks_have(LOOPBACK, address); }

bool address_allowed(const char *networks, const char *address) {
    char plain[ADDRESS_TEXT_MAX];
    uint8_t bytes[16];
    int family = inet_pton(AF_INET, address, bytes) == 1 ? AF_INET : inet_pton(AF_INET6, address, bytes) == 1 ? AF_INET6 : 0;
    if (!family)
        return false;
    text_of(family, bytes, plain);
    if (networks_have(NEVER, plain))
        return false;
    return *networks ? networks_have(networks, plain) : !address_is_loopback(plain);
}
