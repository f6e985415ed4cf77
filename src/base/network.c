/* network: see network.h. */
#include "base/network.h"

#include <arpa/inet.h>

#include "base/span.h"

struct network {
    uint8_t bytes[16];
    int family, bits;
};

static bool network_parse(struct span text, struct network *out) {
    char address[64];
    long slash = span_index(text, '/');
    struct span host = slash < 0 ? text : span_sub(text, 0, (size_t)slash);
    if (host.n == 0 || host.n >= sizeof address)
        return false;
    memcpy(address, host.p, host.n);
    address[host.n] = '\0';
    out->family = inet_pton(AF_INET, address, out->bytes) == 1 ? AF_INET : inet_pton(AF_INET6, address, out->bytes) == 1 ? AF_INET6 : 0;
    if (!out->family)
        return false;
    int most = out->family == AF_INET ? 32 : 128;
    uint64_t bits = (uint64_t)most;
    if (slash >= 0 && (!span_to_u64(span_sub(text, (size_t)slash + 1, text.n), &bits) || bits > (uint64_t)most))
        return false;
    out->bits = (int)bits;
    for (int i = out->bits; i < most; i++) /* bits behind the prefix: a slip, and nobody could say which network was meant */
        if (slash >= 0 && (out->bytes[i / 8] & (0x80 >> (i % 8))))
            return false;
    /* Addresses of IPv4 never come in their IPv6 form here. */
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return out->family == AF_INET || memcmp(out->bytes, mapped, sizeof mapped) != 0;
}

static bool next_word(struct span *rest, struct span *word) {
    while (rest->n && rest->p[0] == ' ')
        *rest = span_sub(*rest, 1, rest->n);
    long blank = span_index(*rest, ' ');
    *word = blank < 0 ? *rest : span_sub(*rest, 0, (size_t)blank);
    *rest = span_sub(*rest, word->n, rest->n);
    return word->n > 0;
}

static bool network_has(const struct network *n, const struct network *address) {
    if (n->family != address->family)
        return false;
    for (int i = 0; i < n->bits; i++)
        if ((n->bytes[i / 8] ^ address->bytes[i / 8]) & (0x80 >> (i % 8)))
            return false;
    return true;
}

bool networks_have(const char *networks, const char *address) {
    struct span rest = span_str(networks), word;
    struct network from, one;
    if (!network_parse(span_str(address), &from))
        return false;
    while (next_word(&rest, &word))
        if (network_parse(word, &one) && network_has(&one, &from))
            return true;
    return false;
}

int networks_check(const char *networks, struct err *err) {
    struct span rest = span_str(networks), word;
    struct network one;
    if (rest.n > NETWORKS_MAX_BYTES)
        return err_set(err, MUSTER_EINVALID, "The list of networks has over %d bytes.", NETWORKS_MAX_BYTES);
    while (next_word(&rest, &word))
        if (!network_parse(word, &one))
            return err_set(err, MUSTER_EINVALID, "\"%.*s\" is not a network in the form 192.0.2.0/24 or 2001:db8::/32 (without bits behind the prefix; IPv4 in its own form).", SPAN_FMT(word));
    return 0;
}
