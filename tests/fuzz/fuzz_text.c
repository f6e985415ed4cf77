/* The small readers of base: numbers, times, identifiers, networks, hex, base64, UTF-8.  What is read and written again is what was read. */
#include "base/clock.h"
#include "base/hex.h"
#include "base/network.h"
#include "base/uuid.h"
#include "fuzz.h"

static void check_time(struct span in) {
    int64_t t, same;
    char text[CLOCK_RFC3339_LEN + 1];
    if (clock_parse_rfc3339(in, &t) == 0) {
        MUST(in.n >= CLOCK_RFC3339_LEN);
        /* An offset may lead out of the years that have four digits. */
        if (t >= clock_from_civil(0, 1, 1, 0, 0, 0) && t <= CLOCK_NO_EXPIRY) {
            clock_rfc3339(t, text);
            MUST(clock_parse_rfc3339(span_str(text), &same) == 0 && same == t);
        }
    }
    if (clock_parse_span(in, &t) == 0)
        MUST(t >= 0 && in.n >= 1 && in.p[0] >= '0' && in.p[0] <= '9');
}

static void check_uuid(struct span in) {
    struct uuid u, same;
    char text[UUID_TEXT_LEN + 1];
    if (uuid_parse(in, &u))
        return;
    uuid_text(&u, text);
    MUST(in.n == UUID_TEXT_LEN && span_eq_nocase(in, span_str(text)) && uuid_parse(span_str(text), &same) == 0 && uuid_eq(&u, &same));
}

static void check_bytes(struct span in) {
    CLEANUP(buf_fini) struct buf bytes = BUF_INIT(in.n + 4);
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2 * in.n + 8);
    if (base64_decode(in, &bytes) == 0) {
        base64_add(&text, buf_span(&bytes));
        MUST(span_eq(buf_span(&text), in)); /* one spelling only */
    }
    buf_clear(&text);
    hex_add(&text, in);
    CLEANUP(free) char *same = malloc(in.n + 1);
    MUST(same && hex_decode(buf_span(&text), (uint8_t *)same, in.n) == 0 && span_eq(span_of(same, in.n), in));
    if (in.n % 2 == 0 && hex_decode(in, (uint8_t *)same, in.n / 2) == 0) {
        buf_clear(&text);
        hex_add(&text, span_of(same, in.n / 2));
        MUST(span_eq_nocase(buf_span(&text), in));
    }
}

/* A list that is good has each of its words that is an address, and one that has no words has none. */
static void check_networks(struct span in) {
    CLEANUP(free) char *list = strndup((const char *)in.p, in.n);
    CLEANUP(free) char *words = strndup((const char *)in.p, in.n);
    struct err err = ERR_INIT;
    char *rest;
    MUST(list && words);
    int rc = networks_check(list, &err);
    MUST(rc == 0 || (rc == MUSTER_EINVALID && err.code == rc && err.text[0]));
    for (const char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        MUST(rc != 0 || strchr(word, '/') || (networks_have(list, word) && networks_have(word, word)));
    MUST(!networks_have("", list));
    if (rc == 0)
        MUST(networks_have("0.0.0.0/0 ::/0", list) == (list[0] && list[0] != ' ' && !strpbrk(list, " /")) || strchr(list, '/'));
}

/* The first byte says how many of the bytes behind it are looked for in the others. */
static void check_find(struct span in) {
    const struct span bytes = in.n ? span_sub(in, 1, in.p[0] & 7) : in, rest = span_sub(in, 1 + bytes.n, in.n);
    const long at = span_find(rest, bytes);
    MUST(at == -1 || (at >= 0 && span_starts(span_sub(rest, (size_t)at, rest.n), bytes)));
    for (size_t i = 0; bytes.n && i < (at < 0 ? rest.n : (size_t)at); i++)
        MUST(!span_starts(span_sub(rest, i, rest.n), bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    uint64_t number;
    char text[24];
    check_time(in);
    check_uuid(in);
    check_bytes(in);
    check_find(in);
    if (n)
        check_networks(in);
    if (span_to_u64(in, &number)) {
        struct span digits = in;
        while (digits.n > 1 && digits.p[0] == '0')
            digits = span_sub(digits, 1, digits.n);
        snprintf(text, sizeof text, "%llu", (unsigned long long)number);
        MUST(span_eq_str(digits, text));
    }
    if (span_is_utf8(in) && !span_has_control(in))
        MUST(span_index(in, 0) < 0 && span_index(in, '\n') < 0);
    return 0;
}
