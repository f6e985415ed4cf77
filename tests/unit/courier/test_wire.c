/* The messages between control and the courier: there and back, refused wherever they are cut, and beyond each bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "courier/url.h"
#include "courier/wire.h"

static char big[COURIER_MESSAGE_MAX];

static struct courier_order order(void) {
    return (struct courier_order){.id = 0xfedcba98, .url = SPAN_LIT("https://example.com/"), .type = SPAN_LIT("key.created"), .event = SPAN_LIT("0190c2f4"), .signature = SPAN_LIT("t=1,v1=ab"),
                                  .ca = SPAN_LIT("-----BEGIN"), .body = SPAN_LIT("{\"a\":\"\0\"}")};
}

static struct courier_report report(void) { return (struct courier_report){.id = 7, .status = 503, .retry_after = 86400, .text = SPAN_LIT("no route")}; }

static void an_order_there_and_back(void **state) {
    struct courier_order in = order(), out;
    CLEANUP(buf_fini) struct buf b = BUF_INIT(COURIER_MESSAGE_MAX);
    assert_int_equal(courier_order_write(&in, &b), 0);
    assert_int_equal(courier_order_read(buf_span(&b), &out), 0);
    assert_true(out.id == in.id && span_eq(out.url, in.url) && span_eq(out.type, in.type) && span_eq(out.event, in.event) && span_eq(out.signature, in.signature) && span_eq(out.ca, in.ca) &&
                span_eq(out.body, in.body));
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(courier_order_read(span_of(b.p, n), &out), MUSTER_EINVALID);
    buf_adds(&b, "x");
    assert_int_equal(courier_order_read(buf_span(&b), &out), MUSTER_EINVALID);
}

static void a_report_there_and_back(void **state) {
    struct courier_report in = report(), out;
    CLEANUP(buf_fini) struct buf b = BUF_INIT(1024);
    assert_int_equal(courier_report_write(&in, &b), 0);
    assert_int_equal(courier_report_read(buf_span(&b), &out), 0);
    assert_true(out.id == in.id && out.status == in.status && out.retry_after == in.retry_after && span_eq(out.text, in.text));
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(courier_report_read(span_of(b.p, n), &out), MUSTER_EINVALID);
    buf_adds(&b, "x");
    assert_int_equal(courier_report_read(buf_span(&b), &out), MUSTER_EINVALID);
}

/* What cannot be written cannot be read either: the bytes of a good message, with one field as it may not be. */
static void order_refused(const struct courier_order *o) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(2 * COURIER_MESSAGE_MAX);
    const struct span fields[] = {o->url, o->type, o->event, o->signature, o->ca, o->body};
    struct courier_order out;
    assert_int_equal(courier_order_write(o, &b), MUSTER_EINVALID);
    assert_int_equal(b.n, 0);
    buf_add_u32(&b, o->id);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        buf_add_u16(&b, (uint16_t)fields[i].n);
        buf_add(&b, fields[i]);
    }
    assert_true(buf_ok(&b));
    assert_int_equal(courier_order_read(buf_span(&b), &out), MUSTER_EINVALID);
}

static void an_order_has_bounds(void **state) {
    struct courier_order o = order();
    o.id = 0;
    order_refused(&o);
    const struct {
        size_t at, max;
        bool printable;
    } fields[] = {{offsetof(struct courier_order, url), COURIER_URL_MAX, true},      {offsetof(struct courier_order, type), 64, true},
                  {offsetof(struct courier_order, event), 64, true},                 {offsetof(struct courier_order, signature), 512, true},
                  {offsetof(struct courier_order, ca), COURIER_CA_MAX, false},       {offsetof(struct courier_order, body), COURIER_BODY_MAX, false}};
    memset(big, 'a', sizeof big);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        o = order();
        struct span *field = (struct span *)(void *)((char *)&o + fields[i].at);
        *field = span_of((const uint8_t *)big, fields[i].max + 1);
        order_refused(&o);
        *field = span_of((const uint8_t *)big, fields[i].max);
        CLEANUP(buf_fini) struct buf b = BUF_INIT(COURIER_MESSAGE_MAX);
        assert_int_equal(courier_order_write(&o, &b), 0);
        *field = SPAN_LIT("a\r\nEvil: x"); /* would begin another header field */
        if (fields[i].printable)
            order_refused(&o);
        *field = SPAN_LIT("a\x7f");
        if (fields[i].printable)
            order_refused(&o);
    }
    o = order();
    o.url = SPAN_NONE;
    order_refused(&o);
    /* All of it at its largest is one record. */
    o = (struct courier_order){.id = 1, .url = span_of((const uint8_t *)big, COURIER_URL_MAX), .type = span_of((const uint8_t *)big, 64), .event = span_of((const uint8_t *)big, 64),
                               .signature = span_of((const uint8_t *)big, 512), .ca = span_of((const uint8_t *)big, COURIER_CA_MAX), .body = span_of((const uint8_t *)big, COURIER_BODY_MAX)};
    CLEANUP(buf_fini) struct buf b = BUF_INIT(COURIER_MESSAGE_MAX);
    assert_int_equal(courier_order_write(&o, &b), 0);
}

static void report_refused(const struct courier_report *r) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(1024);
    struct courier_report out;
    assert_int_equal(courier_report_write(r, &b), MUSTER_EINVALID);
    buf_add_u32(&b, r->id);
    buf_add_u16(&b, r->status);
    buf_add_u32(&b, r->retry_after);
    buf_add_u16(&b, (uint16_t)r->text.n);
    buf_add(&b, r->text);
    assert_int_equal(courier_report_read(buf_span(&b), &out), MUSTER_EINVALID);
}

static void a_report_has_bounds(void **state) {
    static const uint16_t no[] = {1, 99, 600, 1000, UINT16_MAX}, yes[] = {0, 100, 200, 599};
    struct courier_report r = report();
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        r.status = no[i];
        report_refused(&r);
    }
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        CLEANUP(buf_fini) struct buf b = BUF_INIT(1024);
        r.status = yes[i];
        assert_int_equal(courier_report_write(&r, &b), 0);
    }
    r.id = 0;
    report_refused(&r);
    r = report();
    r.text = SPAN_LIT("a\nb");
    report_refused(&r);
    memset(big, 'a', sizeof big);
    r.text = span_of((const uint8_t *)big, COURIER_TEXT_MAX + 1);
    report_refused(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_order_there_and_back), cmocka_unit_test(a_report_there_and_back), cmocka_unit_test(an_order_has_bounds), cmocka_unit_test(a_report_has_bounds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
