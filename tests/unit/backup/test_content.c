/* What is inside a backup: which files, in which order, and that nothing else is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#include "backup/content.h"
#include "base/cleanup.h"

/* Everything that came out, as one line a file. */
struct seen {
    struct buf text;
    size_t pieces;
    const char *refuse; /* a file at which the sink fails */
};

static int begin(void *arg, const struct content_file *f, struct err *err) {
    struct seen *s = arg;
    buf_addf(&s->text, "%s(%llu)=", f->name, (unsigned long long)f->size);
    return s->refuse && strcmp(s->refuse, f->name) == 0 ? err_set(err, MUSTER_EIO, "The disk is full.") : 0;
}
static int bytes(void *arg, struct span more, struct err *err) {
    struct seen *s = arg;
    s->pieces++;
    buf_add(&s->text, more);
    return buf_check(&s->text, err);
}
static int end(void *arg, struct err *err) {
    buf_adds(&((struct seen *)arg)->text, "\n");
    return 0;
}

static int read_all(struct span content, size_t piece, struct seen *s, struct err *err) {
    const struct content_sink sink = {begin, bytes, end, s};
    struct content_reader r;
    s->text = BUF_INIT(65536);
    content_reader_init(&r, &sink);
    for (size_t at = 0; at < content.n; at += piece) {
        int rc = content_feed(&r, span_sub(content, at, piece), err);
        if (rc)
            return rc;
    }
    return content_done(&r, err);
}

static void put(struct buf *out, const char *name, const char *text) {
    content_put_file(out, name, strlen(text));
    buf_adds(out, text);
}

static const char *const WHOLE[] = {"facts", "musterd.conf", "server-ca.pem", "admin.token", "control.db", "registry.db", "vault/head", "vault/index", "vault/account-a.3", "vault/core.1", "vault/master.key"};
#define WHOLE_N (sizeof WHOLE / sizeof *WHOLE)

static void put_whole(struct buf *out, size_t without) {
    for (size_t i = 0; i < WHOLE_N; i++)
        if (i != without)
            put(out, WHOLE[i], WHOLE[i]);
}

static void files_come_out_as_they_went_in_whatever_the_pieces_are(void **state) {
    CLEANUP(buf_fini) struct buf content = BUF_INIT(65536);
    CLEANUP(buf_fini) struct buf expected = BUF_INIT(65536);
    put_whole(&content, WHOLE_N);
    content_put_file(&content, "vault/nothing", 0);
    content_put_end(&content);
    for (size_t i = 0; i < WHOLE_N; i++)
        buf_addf(&expected, "%s(%zu)=%s\n", WHOLE[i], strlen(WHOLE[i]), WHOLE[i]);
    buf_adds(&expected, "vault/nothing(0)=\n");
    for (size_t piece = 1; piece <= content.n; piece++) {
        struct seen s = {0};
        struct err err = ERR_INIT;
        assert_int_equal(read_all(buf_span(&content), piece, &s, &err), 0);
        assert_string_equal(buf_str(&s.text), buf_str(&expected));
        buf_fini(&s.text);
    }
}

static void what_a_server_needs_has_to_be_there(void **state) {
    for (size_t without = 0; without < WHOLE_N; without++) {
        CLEANUP(buf_fini) struct buf content = BUF_INIT(65536);
        struct seen s = {0};
        struct err err = ERR_INIT;
        bool optional = strcmp(WHOLE[without], "admin.token") == 0 || without > 7;
        put_whole(&content, without);
        content_put_end(&content);
        assert_int_equal(read_all(buf_span(&content), 7, &s, &err), optional ? 0 : MUSTER_ECORRUPT);
        assert_true(optional || strstr(err.text, WHOLE[without]));
        buf_fini(&s.text);
    }
}

static void a_content_that_is_cut_off_is_refused_wherever_it_is_cut(void **state) {
    CLEANUP(buf_fini) struct buf content = BUF_INIT(65536);
    put_whole(&content, WHOLE_N);
    content_put_end(&content);
    for (size_t n = 0; n < content.n; n++) {
        struct seen s = {0};
        assert_int_equal(read_all(span_sub(buf_span(&content), 0, n), 11, &s, NULL), MUSTER_ECORRUPT);
        buf_fini(&s.text);
    }
    buf_addc(&content, 0);
    struct seen s = {0};
    assert_int_equal(read_all(buf_span(&content), 11, &s, NULL), MUSTER_ECORRUPT);
    buf_fini(&s.text);
}

/* The last file of a content that is otherwise whole. */
static int with(const char *name, uint64_t size) {
    CLEANUP(buf_fini) struct buf content = BUF_INIT(65536);
    struct seen s = {0};
    put_whole(&content, WHOLE_N);
    content_put_file(&content, name, size);
    content_put_end(&content);
    int rc = read_all(buf_span(&content), 5, &s, NULL);
    buf_fini(&s.text);
    return rc;
}

static void no_name_leads_anywhere_else(void **state) {
    static const char *const bad[] = {"vault/../x", "vault/", "vault/.x", "vault/-x", "vault/x/y", "/etc/passwd", "../x", "vault", "tls/default.pem", "lock", "", "vault/X", "vault/a b", "registry.db-wal",
                                      "vault/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    uint64_t max;
    assert_int_equal(with("vault/z.1", 0), 0);
    assert_true(content_may_hold("vault/z.1", &max));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(with(bad[i], 0), MUSTER_ECORRUPT);
        assert_false(content_may_hold(bad[i], &max));
    }
    CLEANUP(buf_fini) struct buf zero = BUF_INIT(256);
    struct seen s = {0};
    content_put_file(&zero, "facts", 0);
    zero.p[5] = 0; /* "fa\0ts" */
    assert_int_equal(read_all(buf_span(&zero), 100, &s, NULL), MUSTER_ECORRUPT);
    buf_fini(&s.text);
}

static void no_file_stands_there_twice_or_in_another_place(void **state) {
    assert_int_equal(with("vault/master.key", 0), MUSTER_ECORRUPT);
    assert_int_equal(with("vault/core.1", 0), MUSTER_ECORRUPT);
    assert_int_equal(with("facts", 0), MUSTER_ECORRUPT);
    assert_int_equal(with("vault/head", 0), MUSTER_ECORRUPT);
    assert_int_equal(with("registry.db", 0), MUSTER_ECORRUPT);
}

static void no_file_is_longer_than_its_kind(void **state) {
    static const char *const bounded[] = {"facts", "admin.token", "vault/head", "vault/core.1"};
    for (size_t i = 0; i < sizeof bounded / sizeof *bounded; i++) {
        CLEANUP(buf_fini) struct buf content = BUF_INIT(256);
        struct seen s = {0};
        struct err err = ERR_INIT;
        uint64_t max;
        assert_true(content_may_hold(bounded[i], &max));
        content_put_file(&content, bounded[i], max + 1);
        assert_int_equal(read_all(buf_span(&content), 256, &s, &err), MUSTER_ECORRUPT);
        assert_non_null(strstr(err.text, "too long"));
        buf_fini(&s.text);
    }
}

static void what_the_sink_says_ends_it(void **state) {
    CLEANUP(buf_fini) struct buf content = BUF_INIT(65536);
    struct seen s = {.refuse = "control.db"};
    put_whole(&content, WHOLE_N);
    content_put_end(&content);
    assert_int_equal(read_all(buf_span(&content), 65536, &s, NULL), MUSTER_EIO);
    assert_null(strstr(buf_str(&s.text), "registry.db"));
    buf_fini(&s.text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_come_out_as_they_went_in_whatever_the_pieces_are),
        cmocka_unit_test(what_a_server_needs_has_to_be_there),
        cmocka_unit_test(a_content_that_is_cut_off_is_refused_wherever_it_is_cut),
        cmocka_unit_test(no_name_leads_anywhere_else),
        cmocka_unit_test(no_file_stands_there_twice_or_in_another_place),
        cmocka_unit_test(no_file_is_longer_than_its_kind),
        cmocka_unit_test(what_the_sink_says_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
