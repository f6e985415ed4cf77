/* Export of a root's key, and what waits too long. */
#include "rig.h"

#include <pthread.h>

/* --- export ---------------------------------------------------------------------------------------------------------------------------------- */

struct exporter {
    pthread_t thread;
    const char *account, *passphrase;
    int rc;
    struct err err;
    struct buf out;
};

static void *export_main(void *arg) {
    struct exporter *e = arg;
    e->out = BUF_INIT(65536);
    e->rc = vault_export_request(rig.socket, span_str(e->account), span_str(e->passphrase), &e->out, &e->err);
    loop_stop(rig.loop);
    return NULL;
}

static struct vault_export wanted;
static char wanted_account[VAULT_ACCOUNT_MAX + 1];
static int wanted_calls;
static enum { ALLOW, REFUSE, IGNORE } decision;

static void on_export(void *arg, const struct vault_export *w) {
    wanted = *w;
    wanted_calls++;
    snprintf(wanted_account, sizeof wanted_account, "%.*s", SPAN_FMT(w->account));
    got_init(&g);
    if (decision != IGNORE)
        assert_int_equal(vault_export_answer(rig.control, w->nonce, decision == ALLOW, on_done, &g, NULL), 0);
}

/* Asks in a thread while the loop runs here. */
static int export_key(struct exporter *e, const char *account, const char *passphrase) {
    buf_fini(&e->out);
    *e = (struct exporter){.account = account, .passphrase = passphrase, .rc = 1};
    vault_client_on_export(rig.control, on_export, NULL);
    wanted_calls = 0;
    assert_int_equal(pthread_create(&e->thread, NULL, export_main, e), 0);
    while (__atomic_load_n(&e->rc, __ATOMIC_ACQUIRE) == 1)
        loop_run(rig.loop);
    pthread_join(e->thread, NULL);
    return e->rc;
}

static void a_root_key_leaves_when_control_says_so(void **state) {
    static struct exporter e;
    begin();
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    decision = ALLOW;
    assert_int_equal(export_key(&e, "fleet", "a passphrase"), 0);
    assert_true(wanted_calls == 1 && wanted.uid == geteuid() && wanted.pid == (uint32_t)getpid());
    assert_string_equal(wanted_account, "fleet");
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(cert_free) struct cert *c = NULL;
    struct key_facts facts;
    const char *second = strstr(buf_str(&e.out), "-----BEGIN CERTIFICATE");
    assert_non_null(strstr(buf_str(&e.out), "BEGIN ENCRYPTED PRIVATE KEY"));
    assert_non_null(second);
    struct span pem = span_sub(buf_span(&e.out), 0, (size_t)(second - buf_str(&e.out)));
    assert_int_equal(key_read_private(pem, SPAN_LIT("a passphrase"), &key, NULL), 0);
    assert_int_equal(key_facts(key, &facts, NULL), 0);
    assert_true(hash_eq(&facts.spki, &root->key.spki));
    assert_int_equal(cert_from_file(span_str(second), &c, NULL), 0);
    assert_true(hash_eq(&c->fingerprint, &root->fingerprint));
    EVP_PKEY *other = NULL;
    assert_int_not_equal(key_read_private(pem, SPAN_LIT("another one"), &other, NULL), 0);
    while (!g.calls)
        loop_run(rig.loop);
    assert_int_equal(g.rc, 0);
    got_init(&g); /* the nonce is used up */
    assert_int_equal(answer_of(&g, vault_export_answer(rig.control, wanted.nonce, true, on_done, &g, NULL)), MUSTER_ENOTFOUND);
    buf_fini(&e.out);
}

static void exports_are_refused(void **state) {
    static struct exporter e;
    begin();
    const struct vault_account device = {.name = SPAN_LIT("devices"), .kind = VAULT_TEST, .method = VAULT_DEVICE};
    assert_int_equal(create(&device), 0);
    decision = REFUSE;
    assert_int_equal(export_key(&e, "fleet", "a passphrase"), MUSTER_EVAULT);
    assert_true(wanted_calls == 1 && e.out.n == 0);
    decision = ALLOW;
    assert_int_equal(export_key(&e, "absent", "a passphrase"), MUSTER_ENOTFOUND);
    assert_int_equal(export_key(&e, "devices", "a passphrase"), MUSTER_EMETHODOFF);
    assert_int_equal(export_key(&e, "fleet", "1234567"), MUSTER_EINVALID);
    assert_int_equal(export_key(&e, "", "a passphrase"), MUSTER_EINVALID);
    assert_int_equal(wanted_calls, 0);
    if (geteuid() == 0) { /* another user of the machine */
        pid_t pid = fork();
        if (pid == 0) {
            struct err err = ERR_INIT;
            struct buf out = BUF_INIT(65536);
            if (setresuid(65534, 65534, 65534))
                _exit(1);
            int rc = vault_export_request(rig.socket, SPAN_LIT("fleet"), SPAN_LIT("a passphrase"), &out, &err);
            _exit(rc == MUSTER_EROLE && out.n == 0 ? 0 : 2);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    vault_client_free(rig.control); /* without control nothing leaves */
    rig.control = vault_client_new(rig.loop, 8, NULL);
    assert_int_equal(export_key(&e, "fleet", "a passphrase"), MUSTER_EVAULT);
    assert_int_equal(stop(), 0);
    assert_int_equal(export_key(&e, "fleet", "a passphrase"), MUSTER_EUNAVAILABLE);
    buf_fini(&e.out);
}

static void malformed_exports_end_nothing(void **state) {
    static const struct {
        const char *bytes;
        size_t n;
    } frames[] = {{"\0\0\0\0", 4}, {"\377\377\377\377", 4}, {"\0\0\0\2\0\1", 6}, {"\0\0\0\4\0\0\0\0", 8}, {"\0", 1}, {"", 0}};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    begin();
    snprintf(address.sun_path, sizeof address.sun_path, "%s", rig.socket);
    for (size_t i = 0; i < 3 * sizeof frames / sizeof frames[0]; i++) {
        CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        uint8_t answer[512];
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        if (frames[i / 3].n)
            assert_int_equal(send(fd, frames[i / 3].bytes, frames[i / 3].n, MSG_NOSIGNAL), frames[i / 3].n);
        shutdown(fd, SHUT_WR);
        assert_true(recv(fd, answer, sizeof answer, 0) > 4);
    }
    assert_int_equal(show("fleet"), 0);
}

/* --- what waits too long ----------------------------------------------------------------------------------------------------------------------- */

static void what_waits_too_long_ends(void **state) {
    static struct exporter e;
    struct got silent = {0};
    begin();
    /* a channel whose answers nobody reads, */
    ask_without_reading();
    /* a vault that does not answer, */
    int fds[2];
    struct vault_client *c = vault_client_new(rig.loop, 8, NULL);
    assert_int_equal(vault_channel_pair(fds, NULL), 0);
    assert_int_equal(vault_client_attach(c, fds[0], NULL), 0);
    int64_t start_ms = clock_mono_ms();
    assert_int_equal(vault_time(c, on_time, &silent, NULL), 0);
    /* and a control that does not decide. */
    decision = IGNORE;
    assert_int_equal(export_key(&e, "fleet", "a passphrase"), MUSTER_EVAULT);
    assert_true(wanted_calls == 1 && e.out.n == 0);
    while (!silent.calls)
        loop_run(rig.loop);
    int64_t took = clock_mono_ms() - start_ms;
    assert_true(took >= VAULT_TIMEOUT_MS - 100 && took < VAULT_TIMEOUT_MS + 5000);
    assert_true(silent.rc == MUSTER_EVAULT && silent.retry_after > 0 && vault_client_outstanding(c) == 0);
    const uint8_t late[] = {0, 0, 4, 0, 0x80, WIRE_TIME, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}; /* its answer comes after all */
    assert_int_equal(send(fds[1], late, sizeof late, MSG_NOSIGNAL), sizeof late);
    vault_client_free(c);
    close(fds[1]);
    got_init(&g);
    assert_int_equal(answer_of(&g, vault_export_answer(rig.control, wanted.nonce, true, on_done, &g, NULL)), MUSTER_ENOTFOUND);
    assert_int_equal(show("fleet"), 0);
    assert_logged("vault_channel_blocked");
    buf_fini(&e.out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_root_key_leaves_when_control_says_so),
        T(exports_are_refused),
        T(malformed_exports_end_nothing),
        T(what_waits_too_long_ends),
    };
    return run_vault_tests(tests, sizeof tests / sizeof tests[0]);
}
