/* The fields that name a device: presets, names of one's own, and what a client may not send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#include "gateway/identity_headers.h"

static void add(void *arg, const char *name, const char *value) {
    size_t n = strlen(arg);
    snprintf((char *)arg + n, 1024 - n, "%s: %s\n", name, value);
}

static void assert_fields(const char *setting, const char *device_id, const char *expected) {
    struct identity_headers h;
    struct admit a = {.account_name = "prod"};
    char text[1024] = "";
    assert_int_equal(identity_headers_parse(setting, &h, NULL), 0);
    assert_int_equal(uuid_parse(SPAN_LIT("01890000-1111-7222-8333-444455556666"), &a.device), 0);
    snprintf(a.device_id, sizeof a.device_id, "%s", device_id);
    identity_headers_each(&h, &a, add, text);
    assert_string_equal(text, expected);
}

static void presets(void **state) {
    assert_fields("muster", "VIN-1", "x-muster-account: prod\nx-muster-device-uuid: 01890000-1111-7222-8333-444455556666\nx-muster-device-id: VIN-1\n");
    assert_fields("ota-ce", "VIN-1", "x-ats-namespace: prod\nx-ats-device-uuid: 01890000-1111-7222-8333-444455556666\nx-ats-device-id: VIN-1\n");
}

static void own_names(void **state) {
    assert_fields("device-id=X-Device account=tenant", "a", "tenant: prod\nx-device: a\n");
    assert_fields("uuid=x-d", "a", "x-d: 01890000-1111-7222-8333-444455556666\n");
}

static void device_ids_are_encoded(void **state) {
    assert_fields("device-id=d", "a b%\"\\/,;:\xc3\xa4~._-Z9", "d: a%20b%25%22%5C%2F%2C%3B%3A%C3%A4~._-Z9\n");
}

static void settings_that_mean_nothing(void **state) {
    static const char *const bad[] = {"", " ", "mustr", "account", "account=", "account=a b", "uuid=x uuid=y", "account=x-a uuid=X_A", "serial=x", "account=x:y", "account=host",
                                      "device-id=Content_Length", "account=\xc3\xa4", "account=X-Forwarded-For", "uuid=x_request_id", "account=x muster",
                                      "account=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
    struct identity_headers h;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (identity_headers_parse(bad[i], &h, &err) != MUSTER_ECONFIG)
            fail_msg("\"%s\" is accepted", bad[i]);
}

static void what_a_client_may_not_claim(void **state) {
    static const char *const claimed[] = {"x-tenant", "X-Tenant", "X_TENANT", "x_Tenant", "x-muster-account", "X-MUSTER-DEVICE-ID", "x_muster_device_uuid", "X-Muster-Whatever",
                                          "x-ats-namespace", "X_ATS_Namespace", "x-ats-device-uuid", "x-ats-device_id"};
    static const char *const free_ones[] = {"x-tenan", "x-tenants", "tenant", "x-ats", "x-ats-namespaces", "x-muster", "x-musters-a", "user-agent", "", "x--tenant"};
    struct identity_headers h;
    assert_int_equal(identity_headers_parse("account=X-Tenant", &h, NULL), 0);
    for (size_t i = 0; i < sizeof claimed / sizeof *claimed; i++)
        if (!identity_headers_claim(&h, span_str(claimed[i])))
            fail_msg("%s would come through", claimed[i]);
    for (size_t i = 0; i < sizeof free_ones / sizeof *free_ones; i++)
        if (identity_headers_claim(&h, span_str(free_ones[i])))
            fail_msg("%s would not come through", free_ones[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets), cmocka_unit_test(own_names), cmocka_unit_test(device_ids_are_encoded), cmocka_unit_test(settings_that_mean_nothing),
        cmocka_unit_test(what_a_client_may_not_claim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
