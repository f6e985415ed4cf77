/* `musterd vault status` and `rekey` of a vault that serves. */
#include "rig.h"

#include <pthread.h>

#include "vault/records.h"

static uint8_t next_key[KEY_MASTER_LEN];
static int told[2]; /* a pipe: what the supervisor would hear */

static bool tell(int supervisor_fd, struct span key) { return supervisor_fd >= 0 && write(told[1], key.p, key.n) == (ssize_t)key.n; }
static bool deaf(int supervisor_fd, struct span key) { return false; }

struct asker {
    pthread_t thread;
    struct vault_rekey rekey;
    bool wants_status;
    int rc;
    struct err err;
    struct vault_status status;
};

static void *ask_main(void *arg) {
    struct asker *a = arg;
    int rc = a->wants_status ? vault_status_request(rig.socket, &a->status, &a->err) : vault_rekey_request(rig.socket, &a->rekey, &a->status, &a->err);
    __atomic_store_n(&a->rc, rc, __ATOMIC_RELEASE);
    loop_stop(rig.loop);
    return NULL;
}

/* Asks in a thread while the loop runs here. */
static int ask(struct asker *a, bool status) {
    *a = (struct asker){.wants_status = status, .rc = 1, .rekey = {.kind = KEY_MASTER_FILE, .key = span_of(next_key, sizeof next_key)}};
    key_master_costs_new(&a->rekey.costs);
    assert_int_equal(pthread_create(&a->thread, NULL, ask_main, a), 0);
    while (__atomic_load_n(&a->rc, __ATOMIC_ACQUIRE) == 1)
        loop_run(rig.loop);
    pthread_join(a->thread, NULL);
    return a->rc;
}

static void serve(bool (*rekey)(int, struct span)) {
    rig.rekey = rekey;
    begin();
    memset(next_key, 'n', sizeof next_key);
}

static void a_status_counts_keys(void **state) {
    static struct asker a;
    serve(NULL);
    const struct vault_account device = {.name = SPAN_LIT("devices"), .kind = VAULT_TEST, .method = VAULT_DEVICE};
    assert_int_equal(create(&device), 0);
    assert_int_equal(ask(&a, true), 0);
    static const uint32_t one[VAULT_KEYS_N] = {[VAULT_KEYS_SERVER_CA] = 1, [VAULT_KEYS_AUDIT] = 1, [VAULT_KEYS_FLEET_ROOT] = 1, [VAULT_KEYS_ISSUING_CA] = 1, [VAULT_KEYS_PROVISIONING_CA] = 1};
    assert_memory_equal(a.status.keys, one, sizeof one);
    assert_true(a.status.kind == KEY_MASTER_FILE && a.status.rekeys == 0 && a.status.rekeyed == 0 && a.status.version == g.version);
    assert_int_equal(show("fleet"), 0);
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    assert_int_equal(rotate("fleet", &root->key.spki), 0);
    for (int i = 0; i < 150; i++) { /* more than are counted in a turn */
        char name[16];
        const struct vault_account more = {.name = {(const uint8_t *)name, (size_t)snprintf(name, sizeof name, "a%d", i)}, .kind = VAULT_TEST, .method = VAULT_SHARED};
        assert_int_equal(create(&more), 0);
    }
    assert_int_equal(ask(&a, true), 0);
    assert_int_equal(a.status.keys[VAULT_KEYS_FLEET_ROOT], 151);
    assert_int_equal(a.status.keys[VAULT_KEYS_PROVISIONING_CA], 151);
    assert_int_equal(a.status.keys[VAULT_KEYS_FORMER_ROOT], 1);
    assert_int_equal(a.status.keys[VAULT_KEYS_FORMER_ISSUING], 1);
}

/* Others are served in between, and change records meanwhile; the supervisor hears of the key first; the next vault opens with it alone. */
static void a_vault_that_serves_is_rekeyed(void **state) {
    static struct asker a;
    uint8_t heard[KEY_MASTER_LEN];
    CLEANUP(secret_fini) struct secret text = SECRET_INIT;
    assert_int_equal(pipe(told), 0);
    serve(tell);
    for (int i = 0; i < 40; i++) {
        char name[16];
        const struct vault_account more = {.name = {(const uint8_t *)name, (size_t)snprintf(name, sizeof name, "a%d", i)}, .kind = VAULT_TEST, .method = VAULT_SHARED};
        assert_int_equal(create(&more), 0);
    }
    uint64_t before = g.version;
    assert_int_equal(ask(&a, false), 0);
    assert_true(a.status.rekeys == 1 && a.status.rekeyed > 0 && a.status.version == before + 1 && a.status.kind == KEY_MASTER_FILE);
    assert_int_equal(read(told[0], heard, sizeof heard), sizeof heard); /* the one in force, */
    assert_memory_not_equal(heard, next_key, sizeof heard);
    assert_int_equal(read(told[0], heard, sizeof heard), sizeof heard);
    assert_memory_equal(heard, next_key, sizeof heard);
    int again = ask(&a, false); /* it has that key already; or is still tidying */
    assert_true(again == MUSTER_EINVALID || again == MUSTER_EBUSY);
    assert_int_equal(show("a7"), 0);
    assert_int_equal(hello(a.status.version), 0);
    assert_int_equal(stop(), 0);
    start();
    assert_int_equal(wait_for_end(), 3); /* by the old key it does not open */
    assert_int_equal(key_master_text(span_of(next_key, sizeof next_key), &text, NULL), 0);
    assert_int_equal(file_replace(rig.dir_fd, KEY_MASTER_FILE_NAME, secret_span(&text), 0600, NULL), 0);
    start();
    assert_int_equal(hello(before + 1), 0);
    assert_int_equal(show("a7"), 0);
    assert_int_equal(ask(&a, true), 0);
    assert_int_equal(a.status.keys[VAULT_KEYS_FLEET_ROOT], 41);
    close(told[0]);
    close(told[1]);
}

static void nothing_changes_where_nobody_hears_of_it(void **state) {
    static struct asker a;
    serve(deaf);
    assert_int_equal(ask(&a, false), MUSTER_EVAULT);
    assert_int_equal(ask(&a, true), 0);
    assert_int_equal(a.status.rekeys, 0);
    assert_int_equal(stop(), 0);
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(show("fleet"), 0);
}

static void requests_that_are_none_are_refused(void **state) {
    static struct asker a;
    CLEANUP(buf_fini) struct buf out = BUF_INIT(65536);
    serve(tell);
    *(&a) = (struct asker){.rekey = {.kind = 7, .key = span_of(next_key, sizeof next_key)}};
    key_master_costs_new(&a.rekey.costs);
    assert_int_equal(vault_rekey_request(rig.socket, &a.rekey, &a.status, &a.err), MUSTER_EINVALID);
    a.rekey.kind = KEY_MASTER_PASSPHRASE;
    a.rekey.costs.memory = 1ULL << 40; /* nobody could open it any more */
    assert_int_equal(vault_rekey_request(rig.socket, &a.rekey, &a.status, &a.err), MUSTER_ECORRUPT);
    if (geteuid() == 0) { /* another user of the machine */
        pid_t pid = fork();
        if (pid == 0) {
            if (setresuid(65534, 65534, 65534))
                _exit(1);
            key_master_costs_new(&a.rekey.costs);
            int status = vault_status_request(rig.socket, &a.status, &a.err), rekey = vault_rekey_request(rig.socket, &a.rekey, &a.status, &a.err);
            _exit(status == MUSTER_EROLE && rekey == MUSTER_EROLE ? 0 : 2);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(ask(&a, true), 0);
    assert_int_equal(a.status.rekeys, 0);
}

/* Whoever asked is gone before it is done, or before it is begun: the vault stays as it was. */
static void a_change_that_nobody_waits_for_is_given_up(void **state) {
    static struct asker a;
    CLEANUP(buf_fini) struct buf body = BUF_INIT(1024), frame = BUF_INIT(2048);
    struct wire_local_request rq = {.op = WIRE_LOCAL_REKEY, .kind = KEY_MASTER_FILE, .key = span_of(next_key, sizeof next_key)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_int_equal(pipe(told), 0);
    serve(tell);
    key_master_costs_new(&rq.costs);
    assert_int_equal(wire_local_write(&rq, &body), 0);
    buf_add_u32(&frame, (uint32_t)(4 + body.n));
    assert_int_equal(wire_export_write(SPAN_NONE, buf_span(&body), &frame), 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", rig.socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(kill(rig.pid, SIGSTOP), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, frame.p, frame.n, MSG_NOSIGNAL), frame.n);
    close(fd);
    assert_int_equal(kill(rig.pid, SIGCONT), 0);
    assert_int_equal(ask(&a, true) == MUSTER_EBUSY ? ask(&a, true) : a.rc, 0);
    assert_int_equal(a.status.rekeys, 0);
    assert_int_equal(show("fleet"), 0);
    close(told[0]);
    close(told[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_status_counts_keys),
        T(a_vault_that_serves_is_rekeyed),
        T(nothing_changes_where_nobody_hears_of_it),
        T(requests_that_are_none_are_refused),
        T(a_change_that_nobody_waits_for_is_given_up),
    };
    return run_vault_tests(tests, sizeof tests / sizeof tests[0]);
}
