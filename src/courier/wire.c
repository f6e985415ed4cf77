/* courier/wire: see wire.h. */
#include "courier/wire.h"

#include "base/cursor.h"
#include "courier/url.h"

static void put(struct buf *b, struct span s) {
    if (s.n > UINT16_MAX)
        b->failed = true;
    buf_add_u16(b, (uint16_t)s.n);
    buf_add(b, s);
}

static struct span get(struct cursor *c, size_t max) {
    size_t n = cursor_u16(c);
    if (n > max)
        c->failed = true;
    return cursor_bytes(c, n);
}

/* A field's value, so that nothing can begin another one. */
static bool printable(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < ' ' || s.p[i] > '~')
            return false;
    return true;
}

static bool order_fits(const struct courier_order *o) {
    return o->id && o->url.n && o->url.n <= COURIER_URL_MAX && o->type.n <= 64 && o->event.n <= 64 && o->signature.n <= 512 && o->ca.n <= COURIER_CA_MAX &&
           o->body.n <= COURIER_BODY_MAX && printable(o->url) && printable(o->type) && printable(o->event) && printable(o->signature);
}

static bool report_fits(const struct courier_report *r) {
    return r->id && (!r->status || (r->status >= 100 && r->status <= 599)) && r->text.n <= COURIER_TEXT_MAX && printable(r->text);
}

int courier_order_read(struct span message, struct courier_order *out) {
    struct cursor c = cursor_of(message);
    out->id = cursor_u32(&c);
    out->url = get(&c, COURIER_URL_MAX);
    out->type = get(&c, 64);
    out->event = get(&c, 64);
    out->signature = get(&c, 512);
    out->ca = get(&c, COURIER_CA_MAX);
    out->body = get(&c, COURIER_BODY_MAX);
    return cursor_done(&c) && order_fits(out) ? 0 : MUSTER_EINVALID;
}

int courier_order_write(const struct courier_order *o, struct buf *out) {
    if (!order_fits(o))
        return MUSTER_EINVALID;
    buf_add_u32(out, o->id);
    put(out, o->url);
    put(out, o->type);
    put(out, o->event);
    put(out, o->signature);
    put(out, o->ca);
    put(out, o->body);
    return buf_check(out, NULL);
}

int courier_report_read(struct span message, struct courier_report *out) {
    struct cursor c = cursor_of(message);
    out->id = cursor_u32(&c);
    out->status = cursor_u16(&c);
    out->retry_after = cursor_u32(&c);
    out->text = get(&c, COURIER_TEXT_MAX);
    return cursor_done(&c) && report_fits(out) ? 0 : MUSTER_EINVALID;
}

int courier_report_write(const struct courier_report *r, struct buf *out) {
    if (!report_fits(r))
        return MUSTER_EINVALID;
    buf_add_u32(out, r->id);
    buf_add_u16(out, r->status);
    buf_add_u32(out, r->retry_after);
    put(out, r->text);
    return buf_check(out, NULL);
}
