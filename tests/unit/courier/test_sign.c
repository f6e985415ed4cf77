/* The signature of a webhook's request, by vectors that another implementation computed (Python's hmac, OpenSSL's dgst). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "courier/sign.h"

static void signs(int64_t at, struct span body, const char *secret, const char *second, const char *expected) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(512);
    assert_int_equal(courier_sign(at, body, secret, second, &out), 0);
    assert_string_equal(buf_str(&out), expected);
}

#define FIRST "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define SECOND "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"
#define BODY SPAN_LIT("{\"id\":\"0190c2f4-7e1c-7a52-9a10-3f1d6f1f2c11\",\"type\":\"webhook.test\"}")

static void one_secret(void **state) {
    static const char expected[] = "t=1784102400,v1=b21c9a68260f86a743889407d92c825d3ca7f8da29f4618e18033ada82c92028";
    signs(1784102400, BODY, FIRST, NULL, expected);
    signs(1784102400, BODY, FIRST, "", expected);
}

/* The newer one first. */
static void two_secrets(void **state) {
    signs(1784102400, BODY, FIRST, SECOND,
          "t=1784102400,v1=b21c9a68260f86a743889407d92c825d3ca7f8da29f4618e18033ada82c92028,v1=b49a1adc2c75c7aea8c7097bcb2977aaeeee0ccc054f2f9006c504bc8b6511e5");
}

static void any_bytes(void **state) {
    signs(0, SPAN_NONE, FIRST, NULL, "t=0,v1=dc383435bd2b5ad6169f5e1faa7d8db5f9b04e794d83f49100264fb1102e44b3");
    signs(-1, SPAN_LIT("\0\xff."), FIRST, NULL, "t=-1,v1=6af4b9d7abe25f9e414d942e72ec51a85443564e8b6aa8c1e1ca55aa8a123a9c");
}

static void a_signature_that_does_not_fit_is_an_error(void **state) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(40);
    assert_int_not_equal(courier_sign(1, SPAN_LIT("{}"), "whsec_x", NULL, &out), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_secret), cmocka_unit_test(two_secrets), cmocka_unit_test(any_bytes), cmocka_unit_test(a_signature_that_does_not_fit_is_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
