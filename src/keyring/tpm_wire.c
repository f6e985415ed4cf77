/* keyring/tpm_wire: see tpm_wire.h. */
#include "keyring/tpm_wire.h"

#include "base/cursor.h"

#define NO_SESSIONS 0x8001u
#define SESSIONS 0x8002u
#define OWNER 0x40000001u /* the storage hierarchy */
#define NO_HIERARCHY 0x40000007u
#define PASSWORD 0x40000009u
#define HASHCHECK 0x8024u
#define CAP_HANDLES 1u
#define ALG_ECC 0x23u
#define ALG_NULL 0x10u
#define ALG_SHA256 0x0bu
#define ALG_SHA384 0x0cu
#define ALG_ECDSA 0x18u
#define CURVE_P256 3u
#define CURVE_P384 4u
/* fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, sign; and noDA, where there is no PIN that somebody could guess (Part 2, 8.3). */
#define SIGNING_KEY 0x00040072u
#define NO_DA 0x00000400u

/* --- commands -------------------------------------------------------------------------------------------------------------------------------------- */

static size_t begin(struct buf *b, unsigned tag, uint32_t command) {
    size_t at = b->n;
    buf_add_u16(b, (uint16_t)tag);
    buf_add_u32(b, 0);
    buf_add_u32(b, command);
    return at;
}

static void put_u32(struct buf *b, size_t at, uint32_t v) {
    for (int i = 0; buf_ok(b) && i < 4; i++)
        b->p[at + (size_t)i] = (uint8_t)(v >> (24 - 8 * i));
}

static void end(struct buf *b, size_t at) { put_u32(b, at + 2, (uint32_t)(b->n - at)); }

/* A TPM2B: its length before it. */
static void add_sized(struct buf *b, struct span s) {
    buf_add_u16(b, (uint16_t)s.n);
    buf_add(b, s);
}

static void add_password(struct buf *b, struct span pin) {
    buf_add_u32(b, (uint32_t)(4 + 2 + 1 + 2 + pin.n));
    buf_add_u32(b, PASSWORD);
    add_sized(b, SPAN_NONE);
    buf_addc(b, 0);
    add_sized(b, pin);
}

void tpm_create_primary(struct buf *b, struct span owner, struct span pin, const uint8_t unique[2 * TPM_UNIQUE_LEN]) {
    size_t at = begin(b, SESSIONS, TPM_CREATE_PRIMARY);
    buf_add_u32(b, OWNER);
    add_password(b, owner);
    buf_add_u16(b, (uint16_t)(2 + pin.n + 2)); /* TPM2B_SENSITIVE_CREATE: authorisation value, no data */
    add_sized(b, pin);
    add_sized(b, SPAN_NONE);
    buf_add_u16(b, 2 + 2 + 4 + 2 + 4 * 2 + 2 * (2 + TPM_UNIQUE_LEN)); /* TPM2B_PUBLIC */
    buf_add_u16(b, ALG_ECC);
    buf_add_u16(b, ALG_SHA256);
    buf_add_u32(b, SIGNING_KEY | NO_DA);
    add_sized(b, SPAN_NONE); /* no policy */
    buf_add_u16(b, ALG_NULL); /* symmetric */
    buf_add_u16(b, ALG_NULL); /* scheme: whatever is asked for */
    buf_add_u16(b, CURVE_P256);
    buf_add_u16(b, ALG_NULL); /* key derivation */
    add_sized(b, span_of(unique, TPM_UNIQUE_LEN));
    add_sized(b, span_of(unique + TPM_UNIQUE_LEN, TPM_UNIQUE_LEN));
    add_sized(b, SPAN_NONE); /* outsideInfo */
    buf_add_u32(b, 0); /* creationPCR */
    end(b, at);
}

void tpm_evict_control(struct buf *b, struct span owner, uint32_t object, uint32_t persistent) {
    size_t at = begin(b, SESSIONS, TPM_EVICT_CONTROL);
    buf_add_u32(b, OWNER);
    buf_add_u32(b, object);
    add_password(b, owner);
    buf_add_u32(b, persistent);
    end(b, at);
}

static void plain(struct buf *b, uint32_t command, uint32_t handle) {
    size_t at = begin(b, NO_SESSIONS, command);
    buf_add_u32(b, handle);
    end(b, at);
}

void tpm_flush_context(struct buf *b, uint32_t object) { plain(b, TPM_FLUSH_CONTEXT, object); }
void tpm_read_public(struct buf *b, uint32_t object) { plain(b, TPM_READ_PUBLIC, object); }

void tpm_get_handles(struct buf *b, uint32_t from) {
    size_t at = begin(b, NO_SESSIONS, TPM_GET_CAPABILITY);
    buf_add_u32(b, CAP_HANDLES);
    buf_add_u32(b, from);
    buf_add_u32(b, TPM_HANDLES_MAX);
    end(b, at);
}

void tpm_sign(struct buf *b, uint32_t key, struct span pin, struct span digest) {
    size_t at = begin(b, SESSIONS, TPM_SIGN);
    buf_add_u32(b, key);
    add_password(b, pin);
    add_sized(b, digest);
    buf_add_u16(b, ALG_ECDSA);
    buf_add_u16(b, digest.n == 48 ? ALG_SHA384 : ALG_SHA256);
    buf_add_u16(b, HASHCHECK); /* no ticket: the key is not a restricted one */
    buf_add_u32(b, NO_HIERARCHY);
    add_sized(b, SPAN_NONE);
    end(b, at);
}

/* --- answers ----------------------------------------------------------------------------------------------------------------------------------------- */

size_t tpm_answer_len(struct span head) {
    struct cursor c = cursor_of(head);
    uint16_t tag = cursor_u16(&c);
    uint32_t n = cursor_u32(&c);
    return !c.failed && (tag == NO_SESSIONS || tag == SESSIONS) && n >= TPM_HEAD_LEN && n <= TPM_MESSAGE_MAX ? n : 0;
}

int tpm_answer(struct span answer, uint32_t *rc, struct span *rest) {
    if (answer.n < TPM_HEAD_LEN || tpm_answer_len(answer) != answer.n)
        return MUSTER_EINVALID;
    struct cursor c = cursor_of(span_sub(answer, 6, answer.n));
    *rc = cursor_u32(&c);
    *rest = c.rest;
    return 0;
}

static struct span sized(struct cursor *c) { return cursor_bytes(c, cursor_u16(c)); }

/* r, s and coordinates: as long as the curve's order, where leading zeros may have been left out. */
static bool take_number(struct span s, uint8_t *out, size_t width) {
    while (s.n > width && s.p[0] == 0)
        s = span_sub(s, 1, s.n);
    if (!s.n || s.n > width)
        return false;
    memset(out, 0, width - s.n);
    memcpy(out + width - s.n, s.p, s.n);
    return true;
}

/* TPM2B_PUBLIC of a key on P-256 or P-384 that signs by whatever scheme, or by ECDSA. */
static bool take_public(struct span area, struct tpm_public *out) {
    struct cursor c = cursor_of(area);
    bool good = cursor_u16(&c) == ALG_ECC;
    (void)cursor_u16(&c);
    (void)cursor_u32(&c);
    (void)sized(&c);
    good = good && cursor_u16(&c) == ALG_NULL; /* no storage key */
    uint16_t scheme = cursor_u16(&c);
    if (scheme == ALG_ECDSA)
        (void)cursor_u16(&c);
    good = good && (scheme == ALG_NULL || scheme == ALG_ECDSA);
    uint16_t curve = cursor_u16(&c);
    size_t width = curve == CURVE_P256 ? 32 : curve == CURVE_P384 ? 48 : 0;
    good = good && cursor_u16(&c) == ALG_NULL;
    struct span x = sized(&c), y = sized(&c);
    if (!good || !width || !cursor_done(&c) || !take_number(x, out->point + 1, width) || !take_number(y, out->point + 1 + width, width))
        return false;
    out->point[0] = 4;
    out->n = 2 * width + 1;
    return true;
}

int tpm_read_created(struct span rest, uint32_t *object, struct tpm_public *out) {
    struct cursor c = cursor_of(rest);
    *object = cursor_u32(&c);
    (void)cursor_u32(&c); /* how long the parameters are */
    return take_public(sized(&c), out) && !c.failed ? 0 : MUSTER_EINVALID;
}

int tpm_read_described(struct span rest, struct tpm_public *out) {
    struct cursor c = cursor_of(rest);
    struct span area = sized(&c);
    (void)sized(&c);
    (void)sized(&c);
    return cursor_done(&c) && take_public(area, out) ? 0 : MUSTER_EINVALID;
}

int tpm_read_handles(struct span rest, struct tpm_handles *out) {
    struct cursor c = cursor_of(rest);
    (void)cursor_u8(&c);
    bool good = cursor_u32(&c) == CAP_HANDLES;
    uint32_t n = cursor_u32(&c);
    if (!good || n > TPM_HANDLES_MAX)
        return MUSTER_EINVALID;
    for (out->n = 0; out->n < n; out->n++)
        out->handle[out->n] = cursor_u32(&c);
    return cursor_done(&c) ? 0 : MUSTER_EINVALID;
}

int tpm_read_signature(struct span rest, uint8_t *rs, size_t width) {
    struct cursor c = cursor_of(rest);
    (void)cursor_u32(&c);
    bool good = cursor_u16(&c) == ALG_ECDSA;
    (void)cursor_u16(&c);
    struct span r = sized(&c), s = sized(&c);
    return good && !c.failed && take_number(r, rs, width) && take_number(s, rs + width, width) ? 0 : MUSTER_EINVALID;
}
