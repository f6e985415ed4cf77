/* The fleet CA: what it signs, what it refuses, and what is left where a process ends or the power fails at any step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <openssl/x509v3.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "ca/ca.h"
#include "json/json.h"
#include "pki/chain.h"

#define PASSPHRASE SPAN_LIT("not so short")

static char top[] = "/tmp/muster-ca-XXXXXX";
static char path[256];
static int number;

static void remove_tree(const char *at) {
    DIR *d = opendir(at);
    for (struct dirent *e; d && (e = readdir(d));) {
        char below[1024];
        snprintf(below, sizeof below, "%s/%s", at, e->d_name);
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && unlink(below))
            remove_tree(below);
    }
    if (d)
        closedir(d);
    rmdir(at);
}

static void make(struct ca *ca, bool intermediate, enum key_kind kind) {
    struct err err = ERR_INIT;
    struct ca_init init = {.kind = kind, .bits = kind == KEY_RSA ? 3072 : 0, .intermediate = intermediate, .subject = {.organisation = SPAN_LIT("Acme")},
                           .root_life = 40 * CLOCK_YEAR, .device_life = 20 * CLOCK_YEAR, .passphrase = PASSPHRASE};
    snprintf(path, sizeof path, "%s/ca%d", top, ++number);
    if (ca_make(path, &init, &err) || ca_open(path, ca, &err) || ca_unlock(ca, false, NULL, PASSPHRASE, &err))
        fail_msg("%s", err_text(&err));
}

/* A public key that nobody has yet. */
static void new_key(struct buf *spki) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    buf_clear(spki);
    assert_int_equal(key_generate(KEY_P256, 0, &key, NULL) || key_public_der(key, spki, NULL), 0);
}

static int issue(struct ca *ca, const char *id, bool again, struct ca_issued *out) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    new_key(&spki);
    struct ca_order order = {.device_id = span_str(id), .public_key = buf_span(&spki), .again = again};
    *out = CA_ISSUED_INIT;
    return ca_issue(ca, &order, out, NULL);
}

static void certificates(void **state) {
    static const enum key_kind kinds[] = {KEY_P256, KEY_P384, KEY_RSA};
    for (int i = 1; i < 5; i++) { /* with an intermediate, without, with, without: of RSA one key is slow enough */
        CLEANUP(ca_close) struct ca ca = CA_NONE;
        CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
        CLEANUP(buf_fini) struct buf text = BUF_INIT(4096);
        struct cert *chain[3] = {NULL};
        size_t n;
        make(&ca, i % 2, kinds[i / 2]);
        assert_int_equal(issue(&ca, "car-1", false, &issued), 0);
        assert_int_equal(cert_chain_from_file(buf_span(&issued.chain), chain, 3, &n, NULL), 0);
        assert_int_equal(n, 1 + i % 2);
        assert_int_equal(X509_get_extended_key_usage(chain[0]->x), XKU_SSL_CLIENT);
        assert_false(chain[0]->ca);
        cert_subject_text(chain[0], &text);
        assert_string_equal(buf_str(&text), "CN=car-1,O=Acme");
        assert_true(chain[0]->not_before < clock_now() - CLOCK_HOUR && chain[0]->not_after == issued.not_after);
        assert_int_equal(chain_root_fit(ca.root, clock_now(), NULL), 0);
        for (size_t k = 0; k < n; k++)
            cert_free(chain[k]);
    }
}

static void an_id_once_and_a_key_for_one_device(void **state) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    make(&ca, false, KEY_P256);
    new_key(&spki);
    struct ca_order order = {.device_id = SPAN_LIT("a"), .public_key = buf_span(&spki)};
    assert_int_equal(ca_issue(&ca, &order, &issued, NULL), 0);
    assert_int_equal(ca_issue(&ca, &order, &issued, NULL), MUSTER_EIDISSUED);
    order.again = true;
    buf_clear(&issued.chain);
    assert_int_equal(ca_issue(&ca, &order, &issued, NULL), 0);
    order.device_id = SPAN_LIT("b");
    assert_int_equal(ca_issue(&ca, &order, &issued, NULL), MUSTER_EKEYISSUED);
    buf_clear(&spki);
    assert_int_equal(key_public_der(ca.key, &spki, NULL), 0); /* the CA's own */
    order.public_key = buf_span(&spki);
    assert_int_equal(ca_issue(&ca, &order, &issued, NULL), MUSTER_EKEYISSUED);
    order.device_id = SPAN_LIT("a\nb");
    assert_int_equal(ca_issue(&ca, &order, &issued, NULL), MUSTER_EDEVICEID);
    /* Another process knows it too. */
    CLEANUP(ca_close) struct ca other = CA_NONE;
    assert_int_equal(ca_open(path, &other, NULL), 0);
    assert_int_equal(ca_may_issue(&other, SPAN_LIT("a"), false, NULL), MUSTER_EIDISSUED);
    assert_int_equal(ca_may_issue(&other, SPAN_LIT("b"), false, NULL), 0);
}

static void lives_end_with_the_ca(void **state) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    make(&ca, true, KEY_P256);
    new_key(&spki);
    struct ca_order order = {.device_id = SPAN_LIT("a"), .public_key = buf_span(&spki), .life = 60 * CLOCK_YEAR};
    assert_int_equal(ca_issue(&ca, &order, &issued, NULL), 0);
    assert_true(issued.clamped && issued.not_after == ca.intermediate->not_after);
    order = (struct ca_order){.device_id = SPAN_LIT("b"), .public_key = buf_span(&spki)};
    clock_set_offset(36 * CLOCK_YEAR);
    new_key(&spki);
    order.public_key = buf_span(&spki);
    assert_int_equal(ca_issue(&ca, &order, &issued, NULL), MUSTER_ECAEXPIRED);
    clock_set_offset(0);
}

static void what_no_gateway_would_accept_does_not_come_out(void **state) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued early = CA_ISSUED_INIT;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    make(&ca, false, KEY_P256);
    clock_set_offset(-3 * CLOCK_DAY); /* before the root begins */
    int rc = issue(&ca, "a", false, &early);
    clock_set_offset(0);
    assert_int_equal(rc, MUSTER_ECERTEARLY);
    assert_null(journal_issued(&ca.journal, "a"));
    assert_int_equal(issue(&ca, "a", false, &issued), 0);
    const json_t *first = json_array_get(json_object_get(ca.journal.devices, "a"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "state")), "abandoned");
}

static void passphrases_and_keys(void **state) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    make(&ca, true, KEY_P256);
    assert_int_equal(ca_unlock(&ca, false, NULL, SPAN_LIT("another one"), NULL), MUSTER_EINVALID);
    assert_int_equal(ca_unlock(&ca, false, NULL, SPAN_NONE, NULL), MUSTER_EINVALID);
    assert_int_equal(ca_unlock(&ca, true, NULL, PASSPHRASE, NULL), 0);
    assert_true(ca.key_is_root);
    assert_int_equal(issue(&ca, "a", false, &issued), MUSTER_EINTERNAL); /* a root above an intermediate issues nothing */
    struct stat st;
    assert_int_equal(fstatat(ca.fd, "root.key", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* The root's key kept elsewhere: the intermediate goes on, and proves itself. */
    assert_int_equal(renameat(ca.fd, "root.key", ca.fd, "away"), 0);
    assert_int_equal(ca_unlock(&ca, true, NULL, PASSPHRASE, NULL), 0);
    assert_false(ca.key_is_root);
    assert_int_equal(issue(&ca, "a", false, &issued), 0);
    assert_int_equal(renameat(ca.fd, "away", ca.fd, "intermediate.key"), 0);
    assert_int_equal(ca_unlock(&ca, false, NULL, PASSPHRASE, NULL), MUSTER_ECORRUPT); /* another's key under that name */
}

static void proofs(void **state) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(buf_fini) struct buf cn = BUF_INIT(512);
    static const char *const wrong[] = {"car-1", "", "muster-challenge-", "muster-challenge-00112233445566778899aabbccddeef", "muster-challenge-00112233445566778899aabbccddeeffa",
                                        "muster-challenge-00112233445566778899aabbccddeexx"};
    make(&ca, false, KEY_P384);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(ca_prove(&ca, span_str(wrong[i]), &issued, NULL), MUSTER_EINVALID);
    assert_int_equal(ca_prove(&ca, SPAN_LIT("muster-challenge-00112233445566778899aabbccddeeff"), &issued, NULL), 0);
    assert_int_equal(cert_from_file(buf_span(&issued.chain), &cert, NULL) || cert_common_name(cert, &cn, NULL), 0);
    assert_string_equal(buf_str(&cn), "muster-challenge-00112233445566778899aabbccddeeff");
    assert_true(cert_signed_by(cert, ca.root) && !cert->ca && cert->not_after < clock_now() + 8 * CLOCK_DAY);
}

static void the_directory_is_made_whole_or_not(void **state) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    struct ca_init init = {.kind = KEY_P256, .root_life = CLOCK_YEAR, .device_life = CLOCK_YEAR, .passphrase = PASSPHRASE};
    char other[300], missing[300];
    snprintf(other, sizeof other, "%s/made", top);
    snprintf(missing, sizeof missing, "%s/none", top);
    assert_int_equal(ca_open(missing, &ca, NULL), MUSTER_ECAMISSING);
    assert_int_equal(mkdir(other, 0755), 0);
    assert_int_equal(ca_open(other, &ca, NULL), MUSTER_ECAMISSING);
    assert_int_equal(ca_make(other, &init, NULL), 0); /* an empty one may be there */
    assert_int_equal(ca_make(other, &init, NULL), MUSTER_EEXISTS);
    struct stat st;
    assert_int_equal(stat(other, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    init.subject.country = SPAN_LIT("Germany");
    assert_int_equal(ca_make(missing, &init, NULL), MUSTER_EINVALID);
    assert_int_equal(access(missing, F_OK), -1);
}

/* --- the end of a process at every step --------------------------------------------------------------------------------------- */

static struct shared {
    int step, stop_at; /* the child ends when it has seen that many */
    bool unsynced;     /* its last step was an append whose sync had not happened */
    bool handed_out;
    char unnamed[128]; /* a file that was put in place while the directory was not synced */
} *shared;

static void count(void *arg, enum file_step step, const char *name, const char *to, struct span content) {
    shared->unsynced = step == FILE_STEP_APPEND;
    if (step == FILE_STEP_RENAME)
        snprintf(shared->unnamed, sizeof shared->unnamed, "%s", to);
    if (step == FILE_STEP_SYNC_DIR)
        shared->unnamed[0] = '\0';
    if (++shared->step == shared->stop_at)
        _exit(0);
}

static void end_at(struct ca *ca, const char *id, int stop_at) {
    *shared = (struct shared){.stop_at = stop_at};
    pid_t child = fork();
    if (child == 0) {
        static const struct file_tap tap = {.seen = count};
        struct ca_issued issued;
        file_set_tap(&tap);
        shared->handed_out = issue(ca, id, false, &issued) == 0;
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* What a power cut may take: an append without its sync, in part or whole, and a name without the directory's. */
static void cut_power(const struct ca *ca, size_t keep) {
    struct stat st;
    CLEANUP(fd_close) int fd = openat(ca->fd, JOURNAL_FILE, O_WRONLY);
    assert_int_equal(fstat(fd, &st), 0);
    if (shared->unsynced) {
        size_t grown = (size_t)st.st_size - ca->journal.bytes;
        CLEANUP(buf_fini) struct buf all = BUF_INIT(1u << 20);
        assert_int_equal(file_read(ca->fd, JOURNAL_FILE, &all, NULL), 0);
        size_t last = all.n - 1;
        while (last > 0 && all.p[last - 1] != '\n')
            last--;
        assert_true(grown > 0);
        assert_int_equal(ftruncate(fd, (off_t)(last + keep)), 0);
    }
    if (shared->unnamed[0])
        unlinkat(ca->fd, shared->unnamed, 0);
}

static size_t serials_in(const char *directory) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    assert_int_equal(ca_open(directory, &ca, NULL), 0);
    return json_object_size(ca.journal.serials);
}

static void whatever_ends_it_the_record_holds(void **state) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    int steps = 0, ended = 0, recovered = 0, given_again = 0;
    make(&ca, false, KEY_P256);
    for (int stop = 1; stop < 40; stop++) {
        for (int power = 0; power < 3; power++) {
            CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
            char id[32];
            snprintf(id, sizeof id, "car-%d-%d", stop, power);
            end_at(&ca, id, stop);
            steps = shared->step;
            if (power)
                cut_power(&ca, power == 1 ? 0 : 9);
            size_t before = serials_in(path);
            int rc = issue(&ca, id, false, &issued);
            /* Handed out: known for ever.  Not handed out: either known, or given again with another serial. */
            assert_true(shared->handed_out ? rc == MUSTER_EIDISSUED : rc == 0 || rc == MUSTER_EIDISSUED);
            assert_int_equal(json_object_size(ca.journal.open), 0);
            assert_int_equal(json_object_size(ca.journal.serials), before + (rc == 0));
            const json_t *record = journal_issued(&ca.journal, id);
            CLEANUP(buf_fini) struct buf pem = BUF_INIT(CA_CHAIN_MAX);
            CLEANUP(cert_free) struct cert *cert = NULL;
            assert_non_null(record);
            assert_int_equal(ca_chain(&ca, json_string_value(json_object_get(record, "serial")), &pem, NULL) || cert_from_file(buf_span(&pem), &cert, NULL), 0);
            ended += !shared->handed_out;
            recovered += !shared->handed_out && rc;
            given_again += rc == 0;
        }
        if (shared->handed_out)
            break;
    }
    /* reserve: append, sync; keep: write, sync, rename, sync of the directory; issue: append, sync */
    assert_int_equal(steps, 8);
    /* In the record although it never came out: where its file had its name and kept it (1 of step 5, all of 6), and where the line of the
     * journal said so, whole or torn behind that file (7, 8).  Given again: all else. */
    assert_int_equal(ended, 24);
    assert_int_equal(recovered, 10);
    assert_int_equal(given_again, 14);
    munmap(shared, sizeof *shared);
}

static enum file_step order[32];
static char order_name[32][64];
static int n_order;
static void note(void *arg, enum file_step step, const char *name, const char *to, struct span content) {
    if (n_order < 32) {
        order[n_order] = step;
        snprintf(order_name[n_order++], 64, "%s", name);
    }
}

static void the_serial_is_durable_before_anything_is_signed(void **state) {
    static const struct file_tap tap = {.seen = note};
    static const enum file_step expected[] = {FILE_STEP_APPEND, FILE_STEP_SYNC, FILE_STEP_WRITE, FILE_STEP_SYNC, FILE_STEP_RENAME, FILE_STEP_SYNC_DIR, FILE_STEP_APPEND, FILE_STEP_SYNC};
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    make(&ca, false, KEY_P256);
    file_set_tap(&tap);
    int rc = issue(&ca, "a", false, &issued);
    file_set_tap(NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(n_order, 8);
    assert_memory_equal(order, expected, sizeof expected);
    assert_string_equal(order_name[0], JOURNAL_FILE);
    assert_string_equal(order_name[6], JOURNAL_FILE);
}

static void a_journal_that_was_changed_is_refused(void **state) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    make(&ca, false, KEY_P256);
    assert_int_equal(issue(&ca, "a", false, &issued), 0);
    CLEANUP(fd_close) int fd = openat(ca.fd, JOURNAL_FILE, O_RDWR);
    assert_int_equal(ftruncate(fd, 10), 0); /* shorter than what this process has read */
    CLEANUP(ca_issued_fini) struct ca_issued second = CA_ISSUED_INIT;
    assert_int_equal(issue(&ca, "b", false, &second), MUSTER_ECORRUPT);
    assert_int_equal(pwrite(fd, "nonsense\n\n", 10, 0), 10);
    CLEANUP(ca_close) struct ca again = CA_NONE;
    assert_int_equal(ca_open(path, &again, NULL), MUSTER_ECORRUPT);
}

/* Sectors of the last line are lost: its beginning, its middle, or all but its end.  Zeros anywhere before are damage. */
static void a_last_line_with_holes_is_cut_off(void **state) {
    static const size_t hole[][2] = {{0, 1}, {0, 40}, {10, 11}, {40, 41}, {0, 60}};
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    char line[64] = {0};
    make(&ca, false, KEY_P256);
    assert_int_equal(issue(&ca, "a", false, &issued), 0);
    CLEANUP(fd_close) int fd = openat(ca.fd, JOURNAL_FILE, O_RDWR);
    const off_t end = (off_t)ca.journal.bytes;
    for (size_t i = 0; i < sizeof hole / sizeof *hole; i++) {
        CLEANUP(ca_close) struct ca again = CA_NONE;
        memset(line, 'x', 60);
        line[60] = '\n';
        memset(line + hole[i][0], 0, hole[i][1] - hole[i][0]);
        assert_int_equal(pwrite(fd, line, 61, end), 61);
        assert_int_equal(ca_open(path, &again, NULL), 0);
        assert_int_equal(again.journal.bytes, end);
        assert_int_equal(ca_begin(&again, NULL), 0);
        assert_int_equal(lseek(fd, 0, SEEK_END), end);
    }
    assert_int_equal(pwrite(fd, "\0\n{}\n", 5, end), 5);
    CLEANUP(ca_close) struct ca damaged = CA_NONE;
    assert_int_equal(ca_open(path, &damaged, NULL), MUSTER_ECORRUPT);
}

static void settings(void **state) {
    static const char *const wrong[] = {"", "{}", "[]", "{\"format\":1,\"created\":\"x\",\"device_life\":1,\"subject\":{}}",
                                        "{\"format\":1,\"created\":\"x\",\"device_life\":630720000,\"subject\":[]}",
                                        "{\"format\":1,\"created\":\"x\",\"device_life\":630720000,\"subject\":{\"email\":\"x\"}}",
                                        "{\"format\":1,\"created\":\"x\",\"device_life\":630720000,\"subject\":{\"country\":1}}",
                                        "{\"format\":1,\"created\":\"x\",\"device_life\":630720000,\"subject\":{},\"more\":1}"};
    json_t *config = NULL;
    int64_t life;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(ca_read_config(span_str(wrong[i]), &config, &life, NULL), MUSTER_ECORRUPT);
    assert_int_equal(ca_read_config(SPAN_LIT("{\"format\":2}"), &config, &life, NULL), MUSTER_EVERSION);
    assert_int_equal(ca_read_config(SPAN_LIT("{\"format\":1,\"created\":\"x\",\"device_life\":3600,\"subject\":{\"country\":\"DE\"}}"), &config, &life, NULL), 0);
    assert_int_equal(life, 3600);
    json_decref(config);
}

static int begin(void **state) { return mkdtemp(top) ? 0 : -1; }
static int end(void **state) {
    remove_tree(top);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates),
        cmocka_unit_test(an_id_once_and_a_key_for_one_device),
        cmocka_unit_test(lives_end_with_the_ca),
        cmocka_unit_test(what_no_gateway_would_accept_does_not_come_out),
        cmocka_unit_test(passphrases_and_keys),
        cmocka_unit_test(proofs),
        cmocka_unit_test(the_directory_is_made_whole_or_not),
        cmocka_unit_test(whatever_ends_it_the_record_holds),
        cmocka_unit_test(the_serial_is_durable_before_anything_is_signed),
        cmocka_unit_test(a_journal_that_was_changed_is_refused),
        cmocka_unit_test(a_last_line_with_holes_is_cut_off),
        cmocka_unit_test(settings),
    };
    return secret_init() || cmocka_run_group_tests(tests, begin, end);
}
