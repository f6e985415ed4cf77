/* Every message of the vault's wire: there and back, and refused wherever it is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "vault/wire.h"

static const enum wire_type types[] = {
#define R(NAME, name, number, channels, needs) WIRE_##NAME,
#include "vault/requests.def"
#undef R
};
#define TYPES (sizeof types / sizeof types[0])

static const struct vault_policy policy = {.set = 0x3f, .device_life = 1, .device_life_max = INT64_MAX, .rsa_allowed = true, .ceiling = 0xfffffffe};

/* A request of each type with something in every field. */
static void sample_request(enum wire_type type, struct wire_request *rq) {
    memset(rq, 0, sizeof *rq);
    rq->id = 0xfedcba98;
    rq->type = type;
    switch (type) {
    case WIRE_HELLO:
        rq->log_version = UINT64_MAX;
        return;
    case WIRE_ISSUE:
        rq->issue = (struct vault_issue){SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1, 2, 3}}, SPAN_LIT("\x30\x00"), -5};
        return;
    case WIRE_ACCOUNT_CREATE:
    case WIRE_ACCOUNT_POLICY:
        rq->account = (struct vault_account){SPAN_LIT("fleet"), VAULT_PRODUCTION, VAULT_BOTH, VAULT_BACKEND_PKCS11, policy};
        return;
    case WIRE_ACCOUNT_SHOW:
    case WIRE_ACCOUNT_DELETE:
    case WIRE_ISSUING_RENEW:
        rq->name = SPAN_LIT("fleet");
        return;
    case WIRE_KEY_ISSUE:
        rq->key = (struct vault_key_issue){SPAN_LIT("fleet"), {{9, 8, 7}}, SPAN_LIT("\x30\x00"), 77};
        return;
    case WIRE_LINE_ISSUE:
        rq->line = (struct vault_line_issue){SPAN_LIT("fleet"), SPAN_LIT("line-1"), SPAN_LIT("\x30\x00"), 99};
        return;
    case WIRE_SERVER_ISSUE:
        rq->server.names[0] = SPAN_LIT("gw.example");
        rq->server.names[1] = SPAN_LIT("192.0.2.1");
        rq->server.n = 2;
        rq->server.public_key = SPAN_LIT("\x30\x00");
        return;
    case WIRE_HEADS_SIGN:
        rq->heads.at[0] = (struct vault_head){SPAN_LIT("fleet"), 12, {{3}}};
        rq->heads.at[1] = (struct vault_head){SPAN_NONE, UINT64_MAX, {{4}}};
        rq->heads.n = 2;
        return;
    case WIRE_ROOT_ROTATE:
        rq->rotate = (struct vault_root_rotate){SPAN_LIT("fleet"), {{5, 6}}, VAULT_BACKEND_PKCS11};
        return;
    case WIRE_EXPORT_ANSWER:
        memset(rq->export.nonce, 0x5a, sizeof rq->export.nonce);
        rq->export.allowed = true;
        return;
    case WIRE_TIME_SIGN:
        rq->nonce = SPAN_LIT("0123456789abcdef");
        return;
    case WIRE_CRL_BEGIN:
        rq->crl = (struct vault_crl_begin){SPAN_LIT("fleet"), {1, 2, 3}, 86400, {4, 3, 2, 1}};
        return;
    case WIRE_CRL_ENTRIES:
        rq->entries.at[0] = (struct crl_entry){{1, 2}, 1700000000, 1};
        rq->entries.at[1] = (struct crl_entry){{3, 4}, 0, 6};
        rq->entries.n = 2;
        return;
    case WIRE_OCSP_SIGN:
        rq->ocsp = (struct vault_ocsp){SPAN_LIT("fleet"), {1, 2, 3}, 3600, SPAN_LIT("nonce"), {{OCSP_SHA1, true, {1, 2}, 2, OCSP_REVOKED, 1700000000, 6}, {OCSP_SHA256, false, {3}, 1, OCSP_GOOD, 0, 0}}, 2};
        return;
    case WIRE_SERVER_ROTATE:
        rq->server_rotate = (struct vault_server_rotate){{{7, 8}}, VAULT_BACKEND_PKCS11};
        return;
    case WIRE_SERVER_RETIRE:
        rq->spki = (struct hash){{9, 10}};
        return;
    case WIRE_TIME:
    case WIRE_SERVER_CA:
    case WIRE_AUDIT_KEY:
    case WIRE_CRL_SIGN:
        return;
    }
}

static void sample_answer(enum wire_type type, struct wire_answer *a) {
    *a = (struct wire_answer){.id = 7, .type = type};
    switch (type) {
    case WIRE_HELLO:
    case WIRE_ACCOUNT_DELETE:
        a->version.version = 1ULL << 40;
        a->version.changed = true;
        return;
    case WIRE_TIME:
        a->time = -1;
        return;
    case WIRE_TIME_SIGN:
        a->time_signed = (struct vault_time_signed){INT64_MAX, SPAN_LIT("signature"), SPAN_LIT("\x30\x01\x00")};
        return;
    case WIRE_ISSUE:
    case WIRE_KEY_ISSUE:
    case WIRE_LINE_ISSUE:
    case WIRE_SERVER_ISSUE:
        a->issued = (struct vault_issued){SPAN_LIT("\x30\x01\x00"), {{1}}, {2}, 3, INT64_MAX};
        return;
    case WIRE_ACCOUNT_CREATE:
    case WIRE_ACCOUNT_POLICY:
    case WIRE_ACCOUNT_SHOW:
    case WIRE_ISSUING_RENEW:
    case WIRE_ROOT_ROTATE:
        a->view = (struct vault_account_view){9, true, VAULT_TEST, VAULT_DEVICE, VAULT_BACKEND_SEALED, policy, SPAN_LIT("r"), SPAN_LIT("i"), SPAN_LIT("p"), SPAN_LIT("f"), SPAN_LIT("c"), SPAN_LIT("q")};
        return;
    case WIRE_SERVER_CA:
    case WIRE_SERVER_ROTATE:
    case WIRE_SERVER_RETIRE:
        a->server = (struct vault_server_view){11, true, VAULT_BACKEND_PKCS11, SPAN_LIT("s"), SPAN_LIT("f"), SPAN_LIT("c")};
        return;
    case WIRE_AUDIT_KEY:
    case WIRE_CRL_ENTRIES:
        a->der = SPAN_LIT("der");
        return;
    case WIRE_CRL_BEGIN:
        a->begun = (struct vault_crl_begun){UINT64_MAX, 1, 2, SPAN_LIT("head")};
        return;
    case WIRE_CRL_SIGN:
        a->crl.front = SPAN_LIT("front");
        a->crl.tail = SPAN_LIT("tail");
        return;
    case WIRE_OCSP_SIGN:
        a->ocsp = (struct vault_ocsp_signed){1700000000, INT64_MAX, SPAN_LIT("\x30\x01\x00")};
        return;
    case WIRE_HEADS_SIGN:
        a->heads.time = 1700000000;
        a->heads.signature = SPAN_LIT("signature");
        return;
    case WIRE_EXPORT_ANSWER:
        return;
    }
}

static struct wire_request rq, back;

static int read_request(struct span m) { return wire_request_read(m, &back); }
static int read_answer(struct span m) {
    struct wire_answer a;
    return wire_answer_read(m, &a);
}
static int read_wanted(struct span m) {
    struct vault_export w;
    return wire_wanted_read(m, &w);
}
static int read_export(struct span m) {
    struct span account, passphrase;
    return wire_export_read(m, &account, &passphrase);
}
static int read_export_answer(struct span m) {
    struct wire_export_answer a;
    return wire_export_answer_read(m, &a);
}

/* Whole it is read; shorter, or with a byte more, it is not.  Each piece in memory of its own, so that a read behind it is seen. */
static void refused_where_cut(struct span whole, int (*read)(struct span)) {
    assert_int_equal(read(whole), 0);
    for (size_t n = 0; n <= whole.n + 1; n++) {
        uint8_t *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, whole.p, n < whole.n ? n : whole.n);
        if (n == whole.n + 1)
            copy[whole.n] = 0;
        assert_int_equal(read(span_of(copy, n)), n == whole.n ? 0 : MUSTER_EINVALID);
        free(copy);
    }
}

static void requests_go_there_and_back(void **state) {
    for (size_t i = 0; i < TYPES; i++) {
        CLEANUP(buf_fini) struct buf first = BUF_INIT(WIRE_MESSAGE_MAX), second = BUF_INIT(WIRE_MESSAGE_MAX);
        uint32_t id;
        uint16_t number;
        sample_request(types[i], &rq);
        assert_int_equal(wire_request_write(&rq, &first), 0);
        assert_true(wire_peek(buf_span(&first), &id, &number));
        assert_true(id == rq.id && number == types[i]);
        assert_non_null(wire_name(number));
        assert_int_equal(wire_request_read(buf_span(&first), &back), 0);
        assert_true(back.id == rq.id && back.type == rq.type);
        assert_int_equal(wire_request_write(&back, &second), 0);
        assert_true(span_eq(buf_span(&first), buf_span(&second)));
        refused_where_cut(buf_span(&first), read_request);
    }
}

static void fields_arrive(void **state) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(WIRE_MESSAGE_MAX);
    sample_request(WIRE_ISSUE, &rq);
    assert_int_equal(wire_request_write(&rq, &b), 0);
    assert_int_equal(wire_request_read(buf_span(&b), &back), 0);
    assert_true(span_eq_str(back.issue.account, "fleet") && span_eq_str(back.issue.device_id, "VIN-1"));
    assert_true(uuid_eq(&back.issue.uuid, &rq.issue.uuid) && back.issue.life == -5 && back.issue.public_key.n == 2);
    buf_clear(&b);
    sample_request(WIRE_ACCOUNT_POLICY, &rq);
    assert_int_equal(wire_request_write(&rq, &b), 0);
    assert_int_equal(wire_request_read(buf_span(&b), &back), 0);
    assert_true(back.account.kind == VAULT_PRODUCTION && back.account.method == VAULT_BOTH && back.account.policy.device_life_max == INT64_MAX);
    assert_true(back.account.policy.rsa_allowed && back.account.policy.ceiling == 0xfffffffe && back.account.policy.set == 0x3f);
}

static void answers_go_there_and_back(void **state) {
    for (size_t i = 0; i < 2 * TYPES; i++) {
        CLEANUP(buf_fini) struct buf first = BUF_INIT(WIRE_MESSAGE_MAX), second = BUF_INIT(WIRE_MESSAGE_MAX);
        struct wire_answer a, b;
        sample_answer(types[i / 2], &a);
        if (i % 2) {
            a.rc = MUSTER_ECEILING;
            a.retry_after = 3599;
            a.text = SPAN_LIT("Too many.");
        }
        assert_int_equal(wire_answer_write(&a, &first), 0);
        assert_int_equal(wire_answer_read(buf_span(&first), &b), 0);
        assert_true(b.id == a.id && b.type == a.type && b.rc == a.rc && b.retry_after == a.retry_after && span_eq(a.text, b.text));
        assert_int_equal(wire_answer_write(&b, &second), 0);
        assert_true(span_eq(buf_span(&first), buf_span(&second)));
        refused_where_cut(buf_span(&first), read_answer);
        assert_int_equal(wire_request_read(buf_span(&first), &back), MUSTER_EINVALID); /* an answer is no request */
    }
}

static void exports_go_there_and_back(void **state) {
    CLEANUP(buf_fini) struct buf wanted = BUF_INIT(256), request = BUF_INIT(256), answer = BUF_INIT(256);
    struct vault_export w = {.nonce = {1, 2}, .account = SPAN_LIT("fleet"), .uid = 1000, .pid = 77}, v;
    struct span account, passphrase;
    struct wire_export_answer a = {.rc = MUSTER_EROLE, .text = SPAN_LIT("No.")}, b;
    assert_int_equal(wire_wanted_write(&w, &wanted), 0);
    assert_int_equal(wire_wanted_read(buf_span(&wanted), &v), 0);
    assert_true(memcmp(v.nonce, w.nonce, sizeof v.nonce) == 0 && span_eq(v.account, w.account) && v.uid == 1000 && v.pid == 77);
    refused_where_cut(buf_span(&wanted), read_wanted);
    assert_int_equal(read_answer(buf_span(&wanted)), MUSTER_EINVALID);
    assert_int_equal(wire_export_write(SPAN_LIT("fleet"), SPAN_LIT("passphrase"), &request), 0);
    assert_int_equal(wire_export_read(buf_span(&request), &account, &passphrase), 0);
    assert_true(span_eq_str(account, "fleet") && span_eq_str(passphrase, "passphrase"));
    refused_where_cut(buf_span(&request), read_export);
    assert_int_equal(wire_export_answer_write(&a, &answer), 0);
    assert_int_equal(wire_export_answer_read(buf_span(&answer), &b), 0);
    assert_true(b.rc == MUSTER_EROLE && span_eq(a.text, b.text));
    refused_where_cut(buf_span(&answer), read_export_answer);
}

static void what_is_out_of_shape_is_refused(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
    } messages[] = {
#define M(text) {text, sizeof text - 1}
        M("\0\0\0\0\0\2"),                  /* id 0 */
        M("\0\0\0\1\0\0"),                  /* no such request */
        M("\0\0\0\1\0\17"),
        M("\0\0\0\1\100\1"),                /* the event */
        M("\0\0\0\1\200\2"),                /* an answer */
        M("\0\0\0\1\0\12\0\0\0\0"),         /* no names */
        M("\0\0\0\1\0\12\0\41"),            /* 33 names */
        M("\0\0\0\1\0\15\0\0"),             /* no heads */
        M("\0\0\0\1\0\15\1\221"),           /* 401 heads */
        M("\0\0\0\1\0\16" "0123456789abcdef" "\2"), /* a boolean of 2 */
#undef M
    };
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
        assert_int_equal(wire_request_read(span_of(messages[i].bytes, messages[i].n), &back), MUSTER_EINVALID);
    assert_int_equal(wire_request_read(span_of("\0\0\0\1\0\16" "0123456789abcdef" "\1", 23), &back), 0);
    assert_null(wire_name(0));
    assert_null(wire_name(999));
    CLEANUP(buf_fini) struct buf b = BUF_INIT(WIRE_MESSAGE_MAX);
    sample_request(WIRE_HEADS_SIGN, &rq);
    rq.heads.at[0].chain = SPAN_LIT("a-chain-name-of-33-characters-aaa");
    assert_int_equal(wire_request_write(&rq, &b), 0);
    assert_int_equal(wire_request_read(buf_span(&b), &back), MUSTER_EINVALID);
}

static void the_largest_requests_fit(void **state) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(WIRE_MESSAGE_MAX);
    sample_request(WIRE_HEADS_SIGN, &rq);
    rq.heads.n = VAULT_HEADS_MAX;
    for (size_t i = 0; i < VAULT_HEADS_MAX; i++)
        rq.heads.at[i].chain = SPAN_LIT("a-chain-name-of-32-characters-aa");
    assert_int_equal(wire_request_write(&rq, &b), 0);
    assert_int_equal(wire_request_read(buf_span(&b), &back), 0);
    sample_request(WIRE_ISSUE, &rq);
    static uint8_t large[70000];
    rq.issue.public_key = span_of(large, sizeof large);
    buf_clear(&b);
    assert_int_equal(wire_request_write(&rq, &b), MUSTER_ENOMEM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_go_there_and_back),       cmocka_unit_test(fields_arrive),
        cmocka_unit_test(answers_go_there_and_back),        cmocka_unit_test(exports_go_there_and_back),
        cmocka_unit_test(what_is_out_of_shape_is_refused),  cmocka_unit_test(the_largest_requests_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
