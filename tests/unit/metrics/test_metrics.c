/* Counters over threads and processes, histograms, and Prometheus' text format. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "metrics/metrics.h"

#define TEXT_MAX (1u << 20)

static struct metrics m;

static int begin(void **state) {
    struct err err = ERR_INIT;
    assert_int_equal(metrics_open(&m, &err), 0);
    metrics_use(&m, METRICS_CONTROL);
    return 0;
}

static int end(void **state) {
    metrics_close(&m);
    return 0;
}

static bool says(const char *line) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(TEXT_MAX);
    metrics_expose(&m, &out);
    assert_true(buf_ok(&out));
    const char *at = strstr(buf_str(&out), line);
    return at && (at == buf_str(&out) || at[-1] == '\n') && at[strlen(line)] == '\n';
}

static void *count(void *arg) {
    for (int i = 0; i < 10000; i++) {
        metrics_count(METRIC_ACCEPTED, 0, 0);
        metrics_add(METRIC_OPEN, 0, 0, i % 2 ? -1 : 1);
        metrics_observe(METRIC_REQUEST_TIME, 700);
    }
    return NULL;
}

/* More threads than a page has blocks: none is lost. */
static void threads_add_up(void **state) {
    pthread_t t[64];
    for (int i = 0; i < 64; i++)
        assert_int_equal(pthread_create(&t[i], NULL, count, NULL), 0);
    for (int i = 0; i < 64; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(metrics_value(&m, METRIC_ACCEPTED, 0, 0), 640000);
    assert_int_equal(metrics_value(&m, METRIC_OPEN, 0, 0), 0);
    assert_int_equal(metrics_value(&m, METRIC_REQUEST_TIME, 0, 0), 640000);
    assert_true(says("muster_connections_accepted_total{process=\"control\"} 640000"));
    assert_true(says("muster_connections_accepted_total{process=\"gateway\"} 0"));
    assert_true(says("muster_request_seconds_bucket{process=\"control\",le=\"0.0005\"} 0"));
    assert_true(says("muster_request_seconds_bucket{process=\"control\",le=\"0.001\"} 640000"));
    assert_true(says("muster_request_seconds_bucket{process=\"control\",le=\"+Inf\"} 640000"));
    assert_true(says("muster_request_seconds_count{process=\"control\"} 640000"));
    assert_true(says("muster_request_seconds_sum{process=\"control\"} 448.000000"));
}

static void a_bound_belongs_to_its_bucket(void **state) {
    metrics_observe(METRIC_BATCH, 1);
    metrics_observe(METRIC_BATCH, 2);
    metrics_observe(METRIC_BATCH, 3);
    metrics_observe(METRIC_BATCH, 1000);
    assert_true(says("muster_store_batch_size_bucket{process=\"control\",le=\"1\"} 1"));
    assert_true(says("muster_store_batch_size_bucket{process=\"control\",le=\"2\"} 2"));
    assert_true(says("muster_store_batch_size_bucket{process=\"control\",le=\"4\"} 3"));
    assert_true(says("muster_store_batch_size_bucket{process=\"control\",le=\"256\"} 3"));
    assert_true(says("muster_store_batch_size_bucket{process=\"control\",le=\"+Inf\"} 4"));
    assert_true(says("muster_store_batch_size_sum{process=\"control\"} 1006.000000"));
}

static void child(enum metrics_page page) {
    struct err err = ERR_INIT;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        metrics_use(&m, page);
        if (metrics_keep(&m, page, false, &err))
            _exit(1);
        for (int i = 0; i < METRICS_PAGES; i++) /* the others' are out of reach */
            if ((m.page[i] != NULL) != (i == (int)page))
                _exit(2);
        metrics_count(METRIC_ENROLMENTS, ENROLMENT_NEW, 0);
        metrics_add(METRIC_OPEN, 0, 0, 5);
        metrics_set(METRIC_LANDLOCK, 0, 3);
        _exit(0);
    }
    int status;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
}

/* Counters go on after a restart; what was true of the process that ended is over. */
static void counts_outlive_the_process(void **state) {
    child(METRICS_GATEWAY);
    assert_int_equal(metrics_value(&m, METRIC_OPEN, 0, 0), 5);
    child(METRICS_GATEWAY);
    child(METRICS_GATEWAY_NEXT);
    assert_int_equal(metrics_value(&m, METRIC_ENROLMENTS, ENROLMENT_NEW, 0), 3);
    assert_int_equal(metrics_value_of(&m, METRICS_GATEWAY, METRIC_OPEN, 0, 0), 15);
    assert_int_equal(metrics_value_of(&m, METRICS_VAULT, METRIC_OPEN, 0, 0), 0);
    assert_true(says("muster_sandbox_landlock_abi{process=\"gateway\"} 3")); /* two gateways have one level, and not the sum */
    metrics_ended(&m, METRICS_GATEWAY);
    assert_int_equal(metrics_value(&m, METRIC_OPEN, 0, 0), 5);
    metrics_ended(&m, METRICS_GATEWAY_NEXT);
    assert_int_equal(metrics_value(&m, METRIC_OPEN, 0, 0), 0);
    assert_true(says("muster_sandbox_landlock_abi{process=\"gateway\"} 0"));
    assert_true(says("muster_enrolments_total{result=\"new\"} 3"));
}

/* Control may read what the others count, and cannot write there. */
static void a_reader_cannot_write(void **state) {
    struct err err = ERR_INIT;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (metrics_keep(&m, METRICS_CONTROL, true, &err) || signal(SIGSEGV, SIG_DFL) == SIG_ERR)
            _exit(1);
        (void)metrics_value(&m, METRIC_OPEN, 0, 0);
        *(volatile char *)m.page[METRICS_GATEWAY] = 1;
        _exit(0);
    }
    int status;
    assert_true(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* Whatever a compromised process wrote into its page is shown as numbers, and nothing else. */
static void a_page_full_of_nonsense_is_numbers(void **state) {
    memset(m.page[METRICS_GATEWAY], 0xff, 48 * 8 * METRICS_SLOTS);
    CLEANUP(buf_fini) struct buf out = BUF_INIT(TEXT_MAX);
    metrics_expose(&m, &out);
    assert_true(buf_ok(&out) && out.n < TEXT_MAX);
    for (const char *line = buf_str(&out); *line; line = strchr(line, '\n') + 1)
        if (*line != '#')
            assert_true(strspn(strchr(line, ' ') + 1, "-0123456789.") == strcspn(strchr(line, ' ') + 1, "\n"));
}

static void labels_are_escaped(void **state) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(TEXT_MAX);
    const char *hostile[] = {"a\"b\\c\nd\xff\xc3\xa9", "active"};
    metrics_family(&out, METRIC_DEVICES);
    metrics_sample(&out, METRIC_DEVICES, hostile, 3);
    metrics_sample(&out, METRIC_DISK_FREE, NULL, 12345678901.0);
    assert_non_null(strstr(buf_str(&out), "# TYPE muster_devices gauge\n"));
    assert_non_null(strstr(buf_str(&out), "\nmuster_devices{account=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\xc3\xa9\",state=\"active\"} 3\n"));
    assert_non_null(strstr(buf_str(&out), "\nmuster_disk_free_bytes 12345678901\n"));
}

static void codes_and_values_out_of_range_are_bounded(void **state) {
    metrics_count(METRIC_REFUSALS, metrics_code(MUSTER_EREVOKED), 0);
    assert_true(says("muster_refusals_total{process=\"control\",code=\"device_revoked\"} 1"));
    metrics_count(METRIC_REFUSALS, metrics_code(17), 0);
    metrics_count(METRIC_REFUSALS, metrics_code(INT32_MIN), 0);
    metrics_count(METRIC_REQUESTS, 9999, metrics_status(0));
    metrics_count(METRIC_REQUESTS, CLASS_ENROL, metrics_status(503));
    assert_true(says("muster_refusals_total{process=\"control\",code=\"invalid_request\"} 2"));
    assert_true(says("muster_requests_total{process=\"control\",class=\"other\",status=\"1xx\"} 1"));
    assert_true(says("muster_requests_total{process=\"control\",class=\"enrol\",status=\"5xx\"} 1"));
    for (int i = 0; i < err_count(); i++)
        assert_int_equal(metrics_code(err_at(i)), i);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {TEST(threads_add_up), TEST(a_bound_belongs_to_its_bucket), TEST(counts_outlive_the_process), TEST(a_reader_cannot_write),
                                       TEST(a_page_full_of_nonsense_is_numbers), TEST(labels_are_escaped), TEST(codes_and_values_out_of_range_are_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
