/* The vault's own record: what an earlier version wrote opens, and is written anew. */
#include "base/clock.h"
#include "vault/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>

static const struct key_master_options master = {.kind = KEY_MASTER_FILE};

/* As format 1 had it: nothing behind the reference of the audit key. */
static void write_as_format_1(struct records *r) {
    CLEANUP(secret_fini) struct secret key = SECRET_INIT, body = SECRET_INIT;
    CLEANUP(buf_fini) struct buf old = BUF_INIT(RECORD_BODY_MAX);
    assert_int_equal(records_load(r, "core", &key, &body, NULL), 0);
    struct span now = secret_span(&body);
    assert_int_equal(now.p[0], 2);
    buf_addc(&old, 1);
    buf_add(&old, span_sub(now, 1, now.n - 1 - 2)); /* without the number of former ones, which is 0 */
    assert_int_equal(records_store(r, "core", secret_span(&key), buf_span(&old), NULL), 0);
}

static void an_earlier_record_opens(void **state) {
    char dir[] = "/tmp/muster-core-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    CLEANUP(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(records_free) struct records *r = NULL;
    CLEANUP(core_free) struct core *made = NULL;
    CLEANUP(core_free) struct core *opened = NULL;
    CLEANUP(core_free) struct core *again = NULL;
    assert_int_equal(secret_init(), 0);
    assert_int_equal(records_create(fd, &master, &r, NULL), 0);
    assert_int_equal(core_make(r, NULL, &made, NULL), 0);
    write_as_format_1(r);
    assert_int_equal(core_load(r, &opened, NULL), 0);
    assert_true(hash_eq(&opened->server_ca->cert->fingerprint, &made->server_ca->cert->fingerprint) && opened->n_former == 0 && opened->lives.server == CLOCK_YEAR);
    assert_int_equal(core_rotate(opened, KEY_BACKEND_SEALED, clock_now(), NULL), 0);
    assert_int_equal(core_store(r, opened, NULL), 0);
    assert_int_equal(core_load(r, &again, NULL), 0);
    assert_true(again->n_former == 1 && hash_eq(&again->former[0].root->cert->fingerprint, &made->server_ca->cert->fingerprint));
    assert_true(hash_eq(&again->server_ca->cert->fingerprint, &opened->server_ca->cert->fingerprint));
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_earlier_record_opens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
