/* The vault's CRLs: built from entries, in turns; numbers of its own; and what it does not sign. */
#include "rig.h"

static struct {
    int calls, rc;
    uint64_t number;
    int64_t this_update, next_update;
    struct buf head, der, front, tail;
} c;

static void c_init(void) {
    buf_fini(&c.head);
    buf_fini(&c.der);
    buf_fini(&c.front);
    buf_fini(&c.tail);
    memset(&c, 0, sizeof c);
    c.head = c.der = c.front = c.tail = BUF_INIT(1 << 24);
}

static void on_begin(void *arg, int rc, const struct err *err, const struct vault_crl_begun *b) {
    c.calls++;
    c.rc = rc;
    if (b) {
        c.number = b->number;
        c.this_update = b->this_update;
        c.next_update = b->next_update;
        buf_add(&c.head, b->head);
    }
    loop_stop(rig.loop);
}
static void on_entries(void *arg, int rc, const struct err *err, struct span der) {
    c.calls++;
    c.rc = rc;
    buf_add(&c.der, der);
    loop_stop(rig.loop);
}
static void on_sign(void *arg, int rc, const struct err *err, struct span front, struct span tail) {
    c.calls++;
    c.rc = rc;
    buf_add(&c.front, front);
    buf_add(&c.tail, tail);
    loop_stop(rig.loop);
}

static int wait_for(int asked) {
    assert_int_equal(asked, 0);
    c.calls = 0;
    while (!c.calls)
        loop_run(rig.loop);
    return c.rc;
}

static int begin_crl(const char *account, const uint8_t key_id[CRL_KEY_ID_LEN], int64_t life, struct crl_counts counts) {
    struct vault_crl_begin rq = {.account = span_str(account), .life = life, .counts = counts};
    memcpy(rq.key_id, key_id, sizeof rq.key_id);
    c_init();
    return wait_for(vault_crl_begin(rig.control, &rq, on_begin, NULL, NULL));
}
static int send_entries(const struct crl_entry *e, size_t n) { return wait_for(vault_crl_entries(rig.control, e, n, on_entries, NULL, NULL)); }
static int sign_crl(void) { return wait_for(vault_crl_sign(rig.control, on_sign, NULL, NULL)); }

static void key_of_ca(size_t slot, uint8_t out[CRL_KEY_ID_LEN], struct cert **keep) {
    CLEANUP(cert_free) struct cert *ca = cert_of(&g.der[slot]);
    assert_true(crl_key_id(ca, out));
    if (keep)
        *keep = TAKE(ca);
}

static X509_CRL *whole(void) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(1 << 24);
    buf_add(&der, buf_span(&c.front));
    buf_add(&der, buf_span(&c.head));
    buf_add(&der, buf_span(&c.der));
    buf_add(&der, buf_span(&c.tail));
    const unsigned char *p = der.p;
    X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long)der.n);
    assert_non_null(crl);
    assert_ptr_equal(p, der.p + der.n);
    return crl;
}

static const struct crl_entry two[] = {{.serial = {1, 2}, .revoked = 1700000000, .reason = 1}, {.serial = {1, 3}}};
static const struct crl_counts counts_of_two = {.entries = 2, .undated = 1, .reasons = 1};

static void fleet_roots_and_issuing_cas_have_lists(void **state) {
    uint8_t key[CRL_KEY_ID_LEN];
    begin();
    for (size_t slot = 0; slot < 2; slot++) {
        struct cert *ca;
        assert_int_equal(show("fleet"), 0);
        key_of_ca(slot, key, &ca);
        assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, counts_of_two), 0);
        assert_true(near(c.this_update, clock_now() - 300) && c.next_update - c.this_update == CLOCK_DAY + 300);
        assert_int_equal(send_entries(two, 1), 0);
        assert_int_equal(send_entries(two + 1, 1), 0);
        assert_int_equal(sign_crl(), 0);
        X509_CRL *crl = whole();
        assert_int_equal(X509_CRL_verify(crl, X509_get0_pubkey(ca->x)), 1);
        assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), 2);
        X509_CRL_free(crl);
        cert_free(ca);
    }
    assert_int_equal(show("fleet"), 0);
    key_of_ca(2, key, NULL); /* the provisioning CA has none: nobody but Muster judges its certificates */
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, counts_of_two), MUSTER_ENOTFOUND);
}

static void an_issuing_ca_that_was_replaced_has_one_still(void **state) {
    uint8_t key[CRL_KEY_ID_LEN];
    begin();
    key_of_ca(1, key, NULL);
    assert_int_equal(stop(), 0);
    rig.offset = 16 * CLOCK_YEAR;
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(renew("fleet"), 0);
    assert_true(g.changed);
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, (struct crl_counts){0}), 0);
    assert_int_equal(sign_crl(), 0);
    X509_CRL_free(whole());
}

static void what_makes_no_list_is_refused(void **state) {
    static const uint8_t nobody[CRL_KEY_ID_LEN] = {1};
    uint8_t key[CRL_KEY_ID_LEN];
    begin();
    key_of_ca(1, key, NULL);
    assert_int_equal(send_entries(two, 2), MUSTER_ESTATE);
    assert_int_equal(sign_crl(), MUSTER_ESTATE);
    assert_int_equal(begin_crl("fleet", nobody, CLOCK_DAY, counts_of_two), MUSTER_ENOTFOUND);
    assert_int_equal(begin_crl("absent", key, CLOCK_DAY, counts_of_two), MUSTER_ENOTFOUND);
    assert_int_equal(begin_crl("fleet", key, VAULT_CRL_LIFE_MIN - 1, counts_of_two), MUSTER_EINVALID);
    assert_int_equal(begin_crl("fleet", key, VAULT_CRL_LIFE_MAX + 1, counts_of_two), MUSTER_EINVALID);
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, (struct crl_counts){.entries = VAULT_CRL_ENTRIES_MAX + 1}), MUSTER_EINVALID);
    assert_int_equal(sign_crl(), MUSTER_ESTATE);
    /* Fewer than were announced, more, and others: the list is given up each time. */
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, counts_of_two), 0);
    assert_int_equal(send_entries(two, 1), 0);
    assert_int_equal(sign_crl(), MUSTER_EINVALID);
    assert_int_equal(sign_crl(), MUSTER_ESTATE);
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, (struct crl_counts){.entries = 1, .reasons = 1}), 0);
    assert_int_equal(send_entries(two, 2), MUSTER_EINVALID);
    assert_int_equal(send_entries(two, 1), MUSTER_ESTATE);
    /* One that was revoked in the future, which some verifiers take for not revoked. */
    const struct crl_entry ahead = {.serial = {1, 2}, .revoked = clock_now() + 60};
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, (struct crl_counts){.entries = 1}), 0);
    assert_int_equal(send_entries(&ahead, 1), MUSTER_EINVALID);
    assert_int_equal(sign_crl(), MUSTER_ESTATE);
    /* A second beginning ends the first one. */
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, counts_of_two), 0);
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, (struct crl_counts){0}), 0);
    assert_int_equal(send_entries(two, 1), MUSTER_EINVALID);
    /* And the gateway's channel knows nothing of it: the request ends the vault. */
    static const uint8_t sign_request[] = {0, 0, 0, 1, 0, WIRE_CRL_SIGN};
    assert_int_equal(send(rig.raw, sign_request, sizeof sign_request, MSG_NOSIGNAL), sizeof sign_request);
    assert_int_equal(wait_for_end(), 3);
    assert_logged("may not");
}

static uint64_t next_number(const uint8_t key[CRL_KEY_ID_LEN]) {
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, (struct crl_counts){0}), 0);
    return c.number;
}

static void numbers_grow_whatever_happens(void **state) {
    uint8_t key[CRL_KEY_ID_LEN], root[CRL_KEY_ID_LEN];
    CLEANUP(buf_fini) struct buf older = BUF_INIT(65536);
    begin();
    key_of_ca(1, key, NULL);
    key_of_ca(0, root, NULL);
    uint64_t last = next_number(key), of_root = next_number(root);
    for (int i = 0; i < 50; i++) { /* faster than the clock */
        uint64_t n = next_number(key);
        assert_true(n > last);
        last = n;
    }
    assert_int_equal(file_read(rig.dir_fd, "crls-fleet", &older, NULL), 0);
    last = next_number(key);
    kill(rig.pid, SIGKILL);
    assert_int_equal(waitpid(rig.pid, NULL, 0), rig.pid);
    fd_close(rig.supervisor);
    fd_close(rig.raw);
    rig.offset = -10 * CLOCK_YEAR; /* and a clock that has lost its battery: what is on the disk counts */
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(next_number(key), last + 1);
    assert_true(next_number(root) > of_root);
    assert_int_equal(stop(), 0);
    rig.offset = CLOCK_HOUR;
    assert_int_equal(file_replace(rig.dir_fd, "crls-fleet", buf_span(&older), 0600, NULL), 0); /* of an older state: the clock counts */
    start();
    assert_int_equal(hello(0), 0);
    assert_true(next_number(key) > last + 1);
    last = c.number;
    assert_int_equal(stop(), 0);
    rig.offset = 2 * CLOCK_HOUR;
    assert_int_equal(file_replace(rig.dir_fd, "crls-fleet", SPAN_LIT("nonsense"), 0600, NULL), 0);
    start();
    assert_int_equal(hello(0), 0);
    assert_true(next_number(key) > last);
    assert_logged("vault_crl_numbers_damaged");
}

static void the_numbers_go_with_their_account(void **state) {
    uint8_t key[CRL_KEY_ID_LEN];
    CLEANUP(buf_fini) struct buf file = BUF_INIT(65536);
    begin();
    key_of_ca(1, key, NULL);
    next_number(key);
    assert_int_equal(file_read(rig.dir_fd, "crls-fleet", &file, NULL), 0);
    assert_int_equal(delete("fleet"), 0);
    assert_int_equal(file_read(rig.dir_fd, "crls-fleet", &file, NULL), MUSTER_ENOTFOUND);
    assert_int_equal(sign_crl(), 0); /* the one under way had its key: it is nobody's any more, and harmless */
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, (struct crl_counts){0}), MUSTER_ENOTFOUND);
}

/* --- issuing in between ------------------------------------------------------------------------------------------------------------------ */

#define MANY 100000
#define LONGEST_US 50000

static struct {
    size_t sent;
    bool done;
    int64_t asked_us, longest_us, issued;
    const struct vault_issue *rq;
    struct crl_entry *entries;
} both;

static void issue_next(void);
static void on_issued(void *arg, int rc, const struct err *err, const struct vault_issued *issued) {
    assert_int_equal(rc, 0);
    int64_t took = clock_mono_us() - both.asked_us;
    both.longest_us = took > both.longest_us ? took : both.longest_us;
    both.issued++;
    if (both.done)
        loop_stop(rig.loop);
    else
        issue_next();
}
static void issue_next(void) {
    both.asked_us = clock_mono_us();
    assert_int_equal(vault_issue(rig.gateway, both.rq, on_issued, NULL, NULL), 0);
}

static void on_both_signed(void *arg, int rc, const struct err *err, struct span front, struct span tail) {
    assert_int_equal(rc, 0);
    buf_add(&c.front, front);
    buf_add(&c.tail, tail);
    both.done = true;
}
static void piece_next(void);
static void on_piece(void *arg, int rc, const struct err *err, struct span der) {
    assert_int_equal(rc, 0);
    buf_add(&c.der, der);
    piece_next();
}
static void piece_next(void) {
    if (both.sent == MANY) {
        assert_int_equal(vault_crl_sign(rig.control, on_both_signed, NULL, NULL), 0);
        return;
    }
    assert_int_equal(vault_crl_entries(rig.control, both.entries + both.sent, VAULT_CRL_PIECE, on_piece, NULL, NULL), 0);
    both.sent += VAULT_CRL_PIECE;
}

/* The longest that anybody waited for a certificate while a list was made, in microseconds. */
static int64_t make_many(const uint8_t key[CRL_KEY_ID_LEN]) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0};
    struct crl_counts counts = {0};
    memset(&both, 0, sizeof both);
    both.rq = &rq;
    both.entries = calloc(MANY, sizeof *both.entries);
    for (uint32_t i = 0; i < MANY; i++) {
        both.entries[i] = (struct crl_entry){.serial = {1, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}, .revoked = 1700000000, .reason = i % 2};
        crl_count(&counts, &both.entries[i]);
    }
    assert_int_equal(begin_crl("fleet", key, CLOCK_DAY, counts), 0);
    int64_t began = clock_mono_us();
    issue_next();
    piece_next();
    while (!both.done || !both.issued)
        loop_run(rig.loop);
    print_message("a list of %d entries: %lld ms; %lld certificates meanwhile, the longest waited %lld us\n", MANY, (long long)(clock_mono_us() - began) / 1000, (long long)both.issued,
                  (long long)both.longest_us);
    X509_CRL *crl = whole();
    assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), MANY);
    X509_CRL_free(crl);
    free(both.entries);
    assert_true(both.issued >= 50);
    return both.longest_us;
}

/* A machine that does other things keeps anybody waiting: so the best of a few counts. */
static void nobody_waits_for_a_list_of_a_hundred_thousand(void **state) {
    uint8_t key[CRL_KEY_ID_LEN];
    int64_t longest = INT64_MAX;
    begin();
    key_of_ca(1, key, NULL);
    struct vault_account a = {.name = SPAN_LIT("fleet"), .policy = {.set = VAULT_SET_CEILING, .ceiling = 10000000}};
    assert_int_equal(change(&a), 0);
    for (int i = 0; i < 5 && longest >= LONGEST_US; i++)
        longest = make_many(key);
    assert_true(longest < LONGEST_US);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fleet_roots_and_issuing_cas_have_lists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_issuing_ca_that_was_replaced_has_one_still, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_makes_no_list_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_grow_whatever_happens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_numbers_go_with_their_account, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_waits_for_a_list_of_a_hundred_thousand, set_up, tear_down),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    c_init();
    return rc;
}
