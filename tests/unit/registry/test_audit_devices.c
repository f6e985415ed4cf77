/* The table of devices of a replay: what was put in is found until it is taken out, whatever fell together; it ends at its size; parts share
 * everybody out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "registry/audit_devices.h"

#define MANY 3000

static struct span id_of(int i, char out[32]) {
    snprintf(out, 32, "device-%d", i);
    return span_str(out);
}

static void what_is_there_is_found_until_it_is_removed(void **state) {
    CLEANUP(audit_devices_free) struct audit_devices *t = audit_devices_new(4096);
    char id[32];
    audit_devices_begin(t, 0, 1);
    assert_null(audit_devices_find(t, id_of(0, id)));
    for (int i = 0; i < MANY; i++) {
        struct audit_device *d = audit_devices_add(t, id_of(i, id));
        assert_non_null(d);
        d->entry = (uint32_t)i;
    }
    for (int i = 0; i < MANY; i += 2)
        audit_devices_remove(t, audit_devices_find(t, id_of(i, id)));
    int n = 0;
    for (int i = 0; i < MANY; i++) {
        struct audit_device *d = audit_devices_find(t, id_of(i, id));
        assert_int_equal(d != NULL, i % 2);
        assert_true(!d || d->entry == (uint32_t)i);
    }
    for (struct audit_device *d = NULL; (d = audit_devices_next(t, d)); n++)
        assert_int_equal(d->entry % 2, 1);
    assert_int_equal(n, MANY / 2);
    audit_devices_begin(t, 0, 1);
    assert_null(audit_devices_next(t, NULL));
}

static void it_ends_at_its_size(void **state) {
    CLEANUP(audit_devices_free) struct audit_devices *t = audit_devices_new(1024);
    char id[32];
    audit_devices_begin(t, 0, 1);
    for (int i = 0; i < 768; i++)
        assert_non_null(audit_devices_add(t, id_of(i, id)));
    assert_null(audit_devices_add(t, id_of(768, id)));
    assert_non_null(audit_devices_find(t, id_of(767, id)));
}

static void parts_share_everybody_out(void **state) {
    CLEANUP(audit_devices_free) struct audit_devices *t = audit_devices_new(1024);
    char id[32];
    int n[4] = {0};
    for (uint64_t part = 0; part < 4; part++) {
        audit_devices_begin(t, part, 4);
        for (int i = 0; i < MANY; i++)
            n[part] += audit_devices_has_part(t, id_of(i, id));
        assert_in_range(n[part], MANY / 8, MANY / 2);
    }
    assert_int_equal(n[0] + n[1] + n[2] + n[3], MANY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_there_is_found_until_it_is_removed),
        cmocka_unit_test(it_ends_at_its_size),
        cmocka_unit_test(parts_share_everybody_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
