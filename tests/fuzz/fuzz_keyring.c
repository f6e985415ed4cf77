/* Names of keys (the first byte is u), and what a TPM answers (another one): a name that is taken is written and read back as the same; no reader of answers looks
 * beyond its answer, and what it takes is a point or a signature of the length that it says. */
#include "fuzz.h"
#include "keyring/tpm_wire.h"
#include "keyring/uri.h"

static void names(struct span in) {
    char text[2 * KEYRING_URI_MAX], out[KEYRING_URI_MAX], again[KEYRING_URI_MAX], place[KEYRING_URI_MAX];
    struct keyring_uri u, v;
    struct err err = ERR_INIT;
    if (in.n >= sizeof text || (in.n && memchr(in.p, 0, in.n)))
        return;
    memcpy(text, in.p, in.n);
    text[in.n] = '\0';
    int rc = uri_parse(text, &u, &err);
    MUST(rc == 0 || (rc == MUSTER_EINVALID && err.text[0]));
    MUST((keyring_check(text, KEYRING_A_KEY, NULL) && keyring_check(text, KEYRING_A_PLACE, NULL)) || rc == 0);
    if (rc || uri_write(&u, out, &err)) /* what is encoded may be too long */
        return;
    MUST(uri_parse(out, &v, &err) == 0 && uri_write(&v, again, &err) == 0 && !strcmp(out, again));
    MUST(u.place == v.place && u.handle == v.handle && u.id_n == v.id_n && !memcmp(u.id, v.id, u.id_n) && !strcmp(u.token, v.token) && !strcmp(u.path, v.path));
    MUST(!strcmp(u.pin.file, v.pin.file) && !strcmp(u.pin.env, v.pin.env) && (u.place == KEYRING_FILE || !strstr(out, "pin-value=")));
    MUST(!u.pin.file[0] || u.pin.file[0] == '/');
    keyring_place_of(out, place);
    MUST(!place[0] || keyring_check(place, KEYRING_A_PLACE, NULL) == 0);
}

static void answers(struct span in) {
    struct tpm_public p = {.n = 0};
    struct tpm_handles h;
    uint8_t rs[2 * KEY_ELSEWHERE_WIDTH_MAX];
    uint32_t rc = 0, object;
    struct span rest;
    if (tpm_answer(in, &rc, &rest))
        return;
    MUST(in.n >= TPM_HEAD_LEN && in.n <= TPM_MESSAGE_MAX && rest.n == in.n - TPM_HEAD_LEN && span_inside(rest, in) && tpm_answer_len(span_sub(in, 0, TPM_HEAD_LEN)) == in.n);
    if (tpm_read_created(rest, &object, &p) == 0)
        MUST((p.n == 65 || p.n == 97) && p.point[0] == 4);
    if (tpm_read_described(rest, &p) == 0)
        MUST((p.n == 65 || p.n == 97) && p.point[0] == 4);
    if (tpm_read_handles(rest, &h) == 0)
        MUST(h.n <= TPM_HANDLES_MAX && rest.n == 9 + 4 * h.n);
    bool narrow = tpm_read_signature(rest, rs, 32) == 0, wide = tpm_read_signature(rest, rs, 48) == 0;
    MUST(!narrow || wide);
}

/* Whatever is put into one, a command says its own length. */
static void commands(struct span in) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(TPM_MESSAGE_MAX);
    uint8_t unique[2 * TPM_UNIQUE_LEN] = {0};
    struct span pin = span_sub(in, 0, 256);
    memcpy(unique, in.p, in.n < sizeof unique ? in.n : sizeof unique);
    for (int i = 0; i < 6; i++) {
        buf_clear(&b);
        if (i == 0)
            tpm_create_primary(&b, pin, span_sub(in, 1, 256), unique);
        else if (i == 1)
            tpm_evict_control(&b, pin, 1, 2);
        else if (i == 2)
            tpm_flush_context(&b, 1);
        else if (i == 3)
            tpm_get_handles(&b, 1);
        else if (i == 4)
            tpm_read_public(&b, 1);
        else
            tpm_sign(&b, 1, pin, span_of(unique, in.n % 2 ? 32 : 48));
        MUST(buf_ok(&b) && tpm_answer_len(buf_span(&b)) == b.n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    if (n && data[0] == 'u')
        names(span_sub(in, 1, n));
    else if (n > 1) {
        answers(span_sub(in, 1, n));
        commands(span_sub(in, 1, n));
    }
    return 0;
}
