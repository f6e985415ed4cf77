/* What is said of one certificate, by its row: "good" of what was issued, is a device's that is in, and was not revoked; of nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "registry/ocsp.h"

static struct ocsp_single decide(struct ocsp_facts f) {
    struct ocsp_single s = {.status = OCSP_GOOD, .revoked = -1, .reason = 9};
    ocsp_decide(&f, &s);
    return s;
}

static void is(struct ocsp_facts f, enum ocsp_status status, int64_t revoked, int reason) {
    const struct ocsp_single s = decide(f);
    assert_int_equal(s.status, status);
    assert_int_equal(s.revoked, revoked);
    assert_int_equal(s.reason, reason);
}

#define ISSUED .issued = true, .created = 100, .device = true
#define HOLD CRL_REASON_HOLD

static void good_is_who_is_in_and_nobody_else(void **state) {
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_ACTIVE}, OCSP_GOOD, 0, 0);
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_PENDING}, OCSP_REVOKED, 0, HOLD);
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_QUARANTINED}, OCSP_REVOKED, 0, HOLD);
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_REVOKED}, OCSP_REVOKED, 0, 0);
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_DELETED}, OCSP_REVOKED, 0, 0);
    is((struct ocsp_facts){ISSUED, .device_state = 0}, OCSP_UNKNOWN, 0, 0); /* damaged rows */
    is((struct ocsp_facts){ISSUED, .device_state = 99}, OCSP_UNKNOWN, 0, 0);
    is((struct ocsp_facts){.issued = true, .created = 100, .device_state = DEVICE_ACTIVE}, OCSP_UNKNOWN, 0, 0); /* its device is gone, and it was not revoked */
}

static void what_the_ca_did_not_issue_is_unknown_whatever_the_row_says(void **state) {
    is((struct ocsp_facts){.device = true, .device_state = DEVICE_ACTIVE}, OCSP_UNKNOWN, 0, 0);
    is((struct ocsp_facts){.device = true, .device_state = DEVICE_REVOKED, .revoked = 500, .reason = 1}, OCSP_UNKNOWN, 0, 0);
    is((struct ocsp_facts){.issued = false}, OCSP_UNKNOWN, 0, 0);
}

static void revoked_has_its_date_and_reason(void **state) {
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_ACTIVE, .revoked = 500, .reason = 4}, OCSP_REVOKED, 500, 4);
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_QUARANTINED, .revoked = 500, .reason = 1}, OCSP_REVOKED, 500, 1); /* for good, and not on hold */
    is((struct ocsp_facts){.issued = true, .created = 100, .revoked = 500}, OCSP_REVOKED, 500, 0);
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_ACTIVE, .revoked = 1}, OCSP_REVOKED, 100, 0); /* nobody wrote down when: not before it was made */
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_REVOKED, .device_revoked = 700}, OCSP_REVOKED, 700, 0); /* with its device */
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_REVOKED, .device_revoked = 1}, OCSP_REVOKED, 100, 0);
}

static void damage_keeps_nobody_in(void **state) {
    static const int64_t odd[] = {-1, 7, 8, 11, INT64_MAX};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        is((struct ocsp_facts){ISSUED, .device_state = DEVICE_ACTIVE, .revoked = 500, .reason = odd[i]}, OCSP_REVOKED, 500, 0);
    is((struct ocsp_facts){ISSUED, .device_state = DEVICE_ACTIVE, .revoked = -5, .reason = 1}, OCSP_REVOKED, 0, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_is_who_is_in_and_nobody_else),
        cmocka_unit_test(what_the_ca_did_not_issue_is_unknown_whatever_the_row_says),
        cmocka_unit_test(revoked_has_its_date_and_reason),
        cmocka_unit_test(damage_keeps_nobody_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
