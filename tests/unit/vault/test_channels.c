/* Who may ask a vault what, and what its channels bear. */
#include "rig.h"

/* --- who may ask what -------------------------------------------------------------------------------------------------------------------- */

static void nothing_is_served_before_the_greeting(void **state) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0};
    start();
    assert_int_equal(show("fleet"), MUSTER_EVAULT);
    assert_true(g.retry_after > 0);
    assert_int_equal(issue(&rq), MUSTER_EVAULT);
    assert_int_equal(time_of(rig.gateway), 0);
    assert_true(near(g.time, clock_now()));
    assert_int_equal(hello(0), 0);
    assert_int_equal(issue(&rq), MUSTER_ENOTFOUND);
}

static void a_vault_older_than_the_log_serves_nothing(void **state) {
    begin();
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0};
    assert_int_equal(issue(&rq), 0);
    assert_int_equal(hello(3), MUSTER_EVAULT);
    assert_non_null(strstr(g.text, "older than the audit log"));
    assert_true(g.retry_after > 0);
    assert_int_equal(hello(0), MUSTER_EVAULT); /* nobody talks it out of that */
    assert_int_equal(show("fleet"), MUSTER_EVAULT);
    assert_int_equal(create(&shared_account), MUSTER_EVAULT);
    assert_int_equal(issue(&rq), MUSTER_EVAULT);
    assert_int_equal(time_of(rig.control), 0);
    assert_int_equal(stop(), 0);
    assert_logged("vault_older_than_log");
    start();
    assert_int_equal(hello(2), 0);
    assert_int_equal(issue(&rq), 0);
}

static int lost_calls;
static void on_lost(void *arg) {
    lost_calls++;
    loop_stop(rig.loop);
}

/* Sends a message as it is over the channel without a client, and gives back how the vault ended. */
static int end_after(struct span message) {
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(send(rig.raw, message.p, message.n, MSG_NOSIGNAL), message.n);
    return wait_for_end();
}

static void a_request_on_the_wrong_channel_ends_the_vault(void **state) {
    vault_client_on_lost(rig.gateway, on_lost, NULL);
#define R(NAME, name, number, channels, needs)                                                                                 \
    if (strcmp(#channels, "CONTROL") == 0) {                                                                                   \
        const uint8_t message[] = {0, 0, 0, 1, 0, number};                                                                     \
        assert_int_equal(end_after(span_of(message, sizeof message)), 3);                                                      \
    }
#include "vault/requests.def"
#undef R
    assert_logged("A gateway channel carried the request account_create, which it may not.");
    /* the clients hear of it */
    lost_calls = 0;
    start();
    got_init(&g);
    assert_int_equal(vault_hello(rig.gateway, 0, on_hello, &g, NULL), 0);
    while (!lost_calls)
        loop_run(rig.loop);
    assert_true(g.calls == 1 && g.rc == MUSTER_EVAULT && g.retry_after > 0);
    assert_false(vault_client_attached(rig.gateway));
    assert_int_equal(vault_time(rig.gateway, on_time, &g, NULL), MUSTER_EVAULT);
    assert_int_equal(wait_for_end(), 3);
    /* and control's channel does not issue */
    start();
    assert_int_equal(hello(0), 0);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0};
    got_init(&g);
    assert_int_equal(answer_of(&g, vault_issue(rig.control, &rq, on_issue, &g, NULL)), MUSTER_EVAULT);
    assert_int_equal(wait_for_end(), 3);
}

static void send_with_descriptor(struct span message) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)message.p, message.n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &rig.dir_fd, sizeof(int));
    assert_int_equal(sendmsg(rig.raw, &m, MSG_NOSIGNAL), message.n);
}

static void a_malformed_message_ends_the_vault(void **state) {
    static uint8_t large[WIRE_MESSAGE_MAX + 1] = {0, 0, 0, 1, 0, 3};
    assert_int_equal(end_after(SPAN_LIT("\0\0\0\1\0")), 3);
    assert_int_equal(end_after(SPAN_LIT("\0\0\0\1\0\2x")), 3);
    assert_logged("A request time is malformed.");
    assert_int_equal(end_after(SPAN_LIT("\0\0\0\1\0\77")), 3);
    assert_int_equal(end_after(span_of(large, sizeof large)), 3);
    start();
    send_with_descriptor(SPAN_LIT("\0\0\0\1\0\2"));
    assert_int_equal(wait_for_end(), 3);
}

static void a_vault_that_cannot_be_opened_or_confined_ends(void **state) {
    start_with(1);
    assert_int_equal(wait_for_end(), 3);
    assert_int_equal(unlinkat(rig.dir_fd, "head", 0), 0);
    start();
    assert_int_equal(wait_for_end(), 3);
    assert_logged("There is no vault here.");
}

/* --- channels ------------------------------------------------------------------------------------------------------------------------------ */

static void the_supervisor_hands_channels_over_and_ends_the_vault(void **state) {
    begin();
    int fds[2];
    assert_int_equal(vault_channel_pair(fds, NULL), 0);
    assert_int_equal(vault_channel_send(rig.supervisor, VAULT_CHANNEL_CONTROL, fds[1], NULL), 0);
    close(fds[1]);
    assert_int_equal(vault_client_attach(rig.control, fds[0], NULL), 0); /* control was started again: the old channel ends */
    assert_int_equal(hello(2), 0);
    assert_int_equal(show("fleet"), 0);
    for (int i = 0; i < 2 * VAULT_CHANNELS_MAX; i++) { /* those that ended make room */
        assert_int_equal(vault_channel_pair(fds, NULL), 0);
        while (vault_channel_send(rig.supervisor, VAULT_CHANNEL_GATEWAY, fds[1], NULL)) /* its queue may be full for a moment */
            usleep(1000);
        close(fds[1]);
        assert_int_equal(vault_client_attach(rig.gateway, fds[0], NULL), 0);
        assert_int_equal(time_of(rig.gateway), 0);
    }
    close(TAKE_FD(rig.supervisor));
    assert_int_equal(wait_for_end(), 0);
}

static int answered, failed;
static void count_issue(void *arg, int rc, const struct err *err, const struct vault_issued *issued) {
    answered++;
    failed += rc != 0;
    if (answered == MAX_OUTSTANDING)
        loop_stop(rig.loop);
}

static void many_requests_are_outstanding_at_once(void **state) {
    begin();
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0};
    answered = failed = 0;
    for (int i = 0; i < MAX_OUTSTANDING; i++) /* more than the channel's buffer holds */
        assert_int_equal(vault_issue(rig.gateway, &rq, count_issue, NULL, NULL), 0);
    struct err err = ERR_INIT;
    assert_int_equal(vault_issue(rig.gateway, &rq, count_issue, NULL, &err), MUSTER_EBUSY);
    assert_true(err.retry_after > 0);
    assert_int_equal(vault_client_outstanding(rig.gateway), MAX_OUTSTANDING);
    assert_int_equal(answered, 0);
    loop_run(rig.loop);
    assert_true(answered == MAX_OUTSTANDING && failed == 0 && vault_client_outstanding(rig.gateway) == 0);
}

static void never(void *arg, int rc, const struct err *err, int64_t now) { fail(); }

static void forgotten_answers_do_not_come(void **state) {
    start();
    int owner, other;
    for (int i = 0; i < 500; i++)
        assert_int_equal(vault_time(rig.gateway, never, i % 2 ? &owner : &other, NULL), 0);
    vault_forget(rig.gateway, &owner);
    vault_forget(rig.gateway, &other);
    assert_int_equal(time_of(rig.gateway), 0);
    assert_int_equal(vault_client_outstanding(rig.gateway), 0);
    /* nor those of a client that is gone */
    assert_int_equal(vault_time(rig.gateway, never, NULL, NULL), 0);
    vault_client_free(rig.gateway);
    rig.gateway = vault_client_new(rig.loop, 1, NULL);
    assert_null(vault_client_new(rig.loop, 0, NULL));
    assert_null(vault_client_new(rig.loop, 1025, NULL));
    assert_int_equal(time_of(rig.control), 0);
}

static void a_channel_that_does_not_read_holds_nobody_up(void **state) {
    begin();
    int sent = ask_without_reading(), got = 0;
    assert_true(sent > 100);
    assert_int_equal(show("fleet"), 0);
    uint8_t answer[64];
    for (; got < sent; got++) /* and nothing of it is lost */
        assert_true(recv(rig.raw, answer, sizeof answer, 0) > 6);
    assert_int_equal(recv(rig.raw, answer, sizeof answer, MSG_DONTWAIT), -1);
    assert_int_equal(time_of(rig.gateway), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(nothing_is_served_before_the_greeting),
        T(a_vault_older_than_the_log_serves_nothing),
        T(a_request_on_the_wrong_channel_ends_the_vault),
        T(a_malformed_message_ends_the_vault),
        T(a_vault_that_cannot_be_opened_or_confined_ends),
        T(the_supervisor_hands_channels_over_and_ends_the_vault),
        T(many_requests_are_outstanding_at_once),
        T(forgotten_answers_do_not_come),
        T(a_channel_that_does_not_read_holds_nobody_up),
    };
    return run_vault_tests(tests, sizeof tests / sizeof tests[0]);
}
