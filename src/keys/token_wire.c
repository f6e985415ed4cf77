/* token_wire: see token_wire.h. */
#include "keys/token_wire.h"

#include "base/cursor.h"

static void get_fixed(struct cursor *c, uint8_t *out, size_t n) {
    struct span s = cursor_bytes(c, n);
    if (s.n)
        memcpy(out, s.p, s.n);
}

/* Text without control characters. */
static void get_text(struct cursor *c, char *out, size_t max) {
    struct span s = cursor_bytes(c, cursor_u16(c));
    if (c->failed || s.n > max || span_has_control(s)) {
        c->failed = true;
        return;
    }
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

static void put_text(struct buf *b, const char *text) {
    buf_add_u16(b, (uint16_t)strlen(text));
    buf_adds(b, text);
}

int token_request_read(struct span message, struct token_request *out) {
    struct cursor c = cursor_of(message);
    *out = (struct token_request){.id = cursor_u32(&c), .op = cursor_u8(&c)};
    get_fixed(&c, out->key, sizeof out->key);
    if (out->op == TOKEN_GENERATE)
        get_text(&c, out->label, TOKEN_LABEL_MAX);
    else if (out->op == TOKEN_SIGN)
        get_fixed(&c, out->digest, sizeof out->digest);
    else if (out->op != TOKEN_DESTROY && out->op != TOKEN_LOOK)
        c.failed = true;
    return cursor_done(&c) ? 0 : MUSTER_EINVALID;
}

int token_request_write(const struct token_request *rq, struct buf *out) {
    buf_add_u32(out, rq->id);
    buf_addc(out, (uint8_t)rq->op);
    buf_add(out, span_of(rq->key, sizeof rq->key));
    if (rq->op == TOKEN_GENERATE)
        put_text(out, rq->label);
    else if (rq->op == TOKEN_SIGN)
        buf_add(out, span_of(rq->digest, sizeof rq->digest));
    return buf_check(out, NULL);
}

int token_answer_read(struct span message, struct token_answer *out) {
    struct cursor c = cursor_of(message);
    *out = (struct token_answer){.id = cursor_u32(&c), .op = cursor_u8(&c), .status = cursor_u8(&c)};
    if (out->op < TOKEN_GENERATE || out->op > TOKEN_LOOK || out->status > TOKEN_REFUSED)
        c.failed = true;
    else if (out->status != TOKEN_OK)
        get_text(&c, out->text, TOKEN_TEXT_MAX);
    else if (out->op == TOKEN_GENERATE)
        get_fixed(&c, out->point, sizeof out->point);
    else if (out->op == TOKEN_SIGN)
        get_fixed(&c, out->signature, sizeof out->signature);
    return cursor_done(&c) ? 0 : MUSTER_EINVALID;
}

int token_answer_write(const struct token_answer *a, struct buf *out) {
    buf_add_u32(out, a->id);
    buf_addc(out, (uint8_t)a->op);
    buf_addc(out, (uint8_t)a->status);
    if (a->status != TOKEN_OK)
        put_text(out, a->text);
    else if (a->op == TOKEN_GENERATE)
        buf_add(out, span_of(a->point, sizeof a->point));
    else if (a->op == TOKEN_SIGN)
        buf_add(out, span_of(a->signature, sizeof a->signature));
    return buf_check(out, NULL);
}
