/* A TPM's commands and answers as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hex.h"
#include "keyring/tpm_wire.h"

#define X "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define Y "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"

static void is_hex(struct buf *b, const char *hex) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(8192);
    hex_add(&text, buf_span(b));
    assert_string_equal(buf_str(&text), hex);
    buf_clear(b);
}

static struct span bytes(const char *hex, uint8_t room[1024]) {
    size_t n = strlen(hex) / 2;
    assert_int_equal(hex_decode(span_str(hex), room, n), 0);
    return span_of(room, n);
}

/* By hand from Part 3, and as a TPM takes them (test_agent_hardware). */
static void commands(void **state) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(TPM_MESSAGE_MAX);
    uint8_t unique[64];
    assert_int_equal(hex_decode(SPAN_LIT(X Y), unique, 64), 0);
    tpm_create_primary(&b, SPAN_NONE, SPAN_NONE, unique);
    is_hex(&b, "8002" "0000007f" "00000131" "40000001" "00000009" "40000009" "0000" "00" "0000" "0004" "0000" "0000"
               "0056" "0023" "000b" "00040472" "0000" "0010" "0010" "0003" "0010" "0020" X "0020" Y "0000" "00000000");
    tpm_create_primary(&b, SPAN_LIT("own"), SPAN_LIT("pin"), unique);
    is_hex(&b, "8002" "00000085" "00000131" "40000001" "0000000c" "40000009" "0000" "00" "00036f776e" "0007" "000370696e" "0000"
               "0056" "0023" "000b" "00040472" "0000" "0010" "0010" "0003" "0010" "0020" X "0020" Y "0000" "00000000");
    tpm_evict_control(&b, SPAN_NONE, 0x80000000, 0x81400000);
    is_hex(&b, "8002" "00000023" "00000120" "40000001" "80000000" "00000009" "40000009" "0000" "00" "0000" "81400000");
    tpm_flush_context(&b, 0x80000000);
    is_hex(&b, "8001" "0000000e" "00000165" "80000000");
    tpm_read_public(&b, 0x81400000);
    is_hex(&b, "8001" "0000000e" "00000173" "81400000");
    tpm_get_handles(&b, 0x81400000);
    is_hex(&b, "8001" "00000016" "0000017a" "00000001" "81400000" "000000fe");
    tpm_sign(&b, 0x81400000, SPAN_LIT("pin"), span_of(unique, 32));
    is_hex(&b, "8002" "0000004c" "0000015d" "81400000" "0000000c" "40000009" "0000" "00" "000370696e" "0020" X "0018" "000b" "8024" "40000007" "0000");
}

static void heads(void **state) {
    static const struct {
        const char *hex;
        size_t n;
    } rows[] = {{"80010000000a00000000", 10}, {"80020000100000000000", 4096}, {"80010000000900000000", 0}, {"80010000100100000000", 0}, {"80030000000a00000000", 0}, {"8001000000", 0}};
    uint8_t room[1024];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(tpm_answer_len(bytes(rows[i].hex, room)), rows[i].n);
    struct span rest;
    uint32_t rc;
    assert_int_equal(tpm_answer(bytes("80010000000a00000902", room), &rc, &rest), 0);
    assert_int_equal(rc, 0x902);
    assert_int_equal(rest.n, 0);
    assert_int_equal(tpm_answer(bytes("80010000000b00000902", room), &rc, &rest), MUSTER_EINVALID);
    assert_int_equal(tpm_answer(bytes("80010000000a0000090200", room), &rc, &rest), MUSTER_EINVALID);
}

#define AREA(alg, sym, scheme, curve, kdf) alg "000b" "00040472" "0000" sym scheme curve kdf "0020" X "0020" Y

static void public_areas(void **state) {
    static const struct {
        const char *hex;
        bool good;
    } rows[] = {
        {"0054" AREA("0023", "0010", "0010", "0003", "0010") "0000" "0000", false}, /* a length that is not the area's */
        {"0056" AREA("0023", "0010", "0010", "0003", "0010") "0000" "0000", true},
        {"0058" AREA("0023", "0010", "0018000b", "0003", "0010") "000101" "0000", true},
        {"0056" AREA("0001", "0010", "0010", "0003", "0010") "0000" "0000", false}, /* RSA */
        {"0056" AREA("0023", "0006", "0010", "0003", "0010") "0000" "0000", false}, /* a storage key */
        {"0058" AREA("0023", "0010", "001a000b", "0003", "0010") "0000" "0000", false}, /* ECDAA */
        {"0056" AREA("0023", "0010", "0010", "0005", "0010") "0000" "0000", false}, /* P-521 */
        {"0056" AREA("0023", "0010", "0010", "0003", "0010") "0000", false},
        {"0056" AREA("0023", "0010", "0010", "0003", "0010") "0000" "000001", false},
        {"0000" "0000" "0000", false},
        {"", false},
    };
    uint8_t room[1024];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tpm_public p;
        assert_int_equal(tpm_read_described(bytes(rows[i].hex, room), &p) == 0, rows[i].good);
        if (!rows[i].good)
            continue;
        assert_int_equal(p.n, 65);
        assert_true(p.point[0] == 4 && p.point[1] == 0 && p.point[33] == 0x20 && p.point[64] == 0x3f);
    }
    uint32_t object;
    struct tpm_public p;
    assert_int_equal(tpm_read_created(bytes("80000003" "00000100" "0056" AREA("0023", "0010", "0010", "0003", "0010") "0000", room), &object, &p), 0);
    assert_int_equal(object, 0x80000003);
}

static void signatures(void **state) {
    uint8_t room[1024], rs[64];
    assert_int_equal(tpm_read_signature(bytes("00000048" "0018" "000b" "0020" X "0002" "0102" "0000", room), rs, 32), 0);
    assert_true(rs[31] == 0x1f && rs[32] == 0 && rs[62] == 1 && rs[63] == 2);
    assert_int_equal(tpm_read_signature(bytes("00000048" "0018" "000b" "0021" "00" X "0020" Y, room), rs, 32), 0);
    assert_int_equal(tpm_read_signature(bytes("00000048" "0018" "000b" "0021" "01" X "0020" Y, room), rs, 32), MUSTER_EINVALID);
    assert_int_equal(tpm_read_signature(bytes("00000048" "0014" "000b" "0020" X "0020" Y, room), rs, 32), MUSTER_EINVALID);
    assert_int_equal(tpm_read_signature(bytes("00000048" "0018" "000b" "0020" X "0020", room), rs, 32), MUSTER_EINVALID);
    assert_int_equal(tpm_read_signature(bytes("00000048" "0018" "000b" "0000" "0020" X, room), rs, 32), MUSTER_EINVALID);
}

static void handles(void **state) {
    uint8_t room[1024];
    struct tpm_handles h;
    assert_int_equal(tpm_read_handles(bytes("00" "00000001" "00000002" "81400000" "81400001", room), &h), 0);
    assert_int_equal(h.n, 2);
    assert_int_equal(h.handle[1], 0x81400001);
    assert_int_equal(tpm_read_handles(bytes("00" "00000001" "00000003" "81400000" "81400001", room), &h), MUSTER_EINVALID);
    assert_int_equal(tpm_read_handles(bytes("00" "00000001" "ffffffff" "81400000", room), &h), MUSTER_EINVALID);
    assert_int_equal(tpm_read_handles(bytes("00" "00000002" "00000000", room), &h), MUSTER_EINVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(commands), cmocka_unit_test(heads), cmocka_unit_test(public_areas), cmocka_unit_test(signatures), cmocka_unit_test(handles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
