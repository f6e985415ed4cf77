/* What strangers send as the nonce of GET /time.  What is read has its bounds, is the same in either case, and is what the digits say; nothing
 * else is read. */
#include "base/hex.h"
#include "fuzz.h"
#include "gateway/nonce.c"

static bool all_digits(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (hex_digit(s.p[i]) < 0)
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span text = span_of(data, n);
    uint8_t nonce[NONCE_MAX], again[NONCE_MAX];
    char digits[2 * NONCE_MAX + 1];
    size_t bytes, bytes_again;
    struct err err = ERR_INIT;
    int rc = nonce_read(text, nonce, &bytes, &err);
    bool good = n % 2 == 0 && n >= 2 * NONCE_MIN && n <= 2 * NONCE_MAX && all_digits(text);
    MUST(good ? rc == 0 && !err.code && bytes == n / 2 : rc == MUSTER_EINVALID && err.code == rc && err.text[0]);
    if (!good)
        return 0;
    hex_encode(span_of(nonce, bytes), digits);
    MUST(span_eq_nocase(span_str(digits), text));
    MUST(nonce_read(span_str(digits), again, &bytes_again, &err) == 0 && bytes_again == bytes && memcmp(nonce, again, bytes) == 0);
    return 0;
}
