/* What a crash leaves: the records of a vault opened from every state of the disk that a power cut can leave behind, and what somebody
 * put back or changed.
 *
 * Every step that base/file.h takes is recorded.  Replayed up to any step, with what was not yet synced there, gone, or there in part,
 * it gives the states of the disk; each has to open, and to hold every change that was reported as done before the cut. */
#include "disk.h"

static const struct key_master_options master = {.kind = KEY_MASTER_FILE};

static bool skip_syncs(void *arg, enum file_step step, const char *name) { return step == FILE_STEP_SYNC && strstr(name, "index"); }

/* The history: versions 1 to 6. */
#define LAST_VERSION 6
static void make_history(bool synced) {
    struct dir d = dir_new();
    const struct file_tap tap = {.seen = seen, .skip = synced ? NULL : skip_syncs};
    struct records *r;
    n_steps = 0;
    done = 0;
    file_set_tap(&tap);
    assert_int_equal(records_create(d.fd, &master, &r, NULL), 0);
    store(r, "core", "core 1");
    store(r, "account-a", "a 2");
    store(r, "account-b", "b 3");
    store(r, "account-a", "a 4");
    assert_int_equal(records_drop(r, "account-b", NULL), 0);
    done = records_version(r);
    records_free(r);
    assert_int_equal(records_open(d.fd, &master, &r, NULL), 0);
    store(r, "core", "core 6");
    records_free(r);
    file_set_tap(NULL);
    assert_int_equal(done, LAST_VERSION);
    dir_end(&d);
}

static void holds_version(struct records *r) {
    uint64_t v = records_version(r);
    assert_true(v >= 1 && v <= LAST_VERSION);
    has(r, "core", v >= 6 ? "core 6" : "core 1");
    has(r, "account-a", v >= 4 ? "a 4" : v >= 2 ? "a 2" : NULL);
    has(r, "account-b", v == 3 || v == 4 ? "b 3" : NULL);
    assert_int_equal(records_count(r), v == 1 ? 1 : v == 2 || v >= 5 ? 2 : 3);
}

/* Whether that state of the disk is one that the vault gets over. */
static bool survives(struct dir *d, uint64_t reported) {
    CLEANUP(records_free) struct records *r = NULL;
    int rc = records_open(d->fd, &master, &r, NULL);
    if (rc && reported == 0) /* not finished yet: it is begun anew */
        return records_create(d->fd, &master, &r, NULL) == 0;
    if (rc || records_version(r) < reported || records_version(r) > reported + 1)
        return false;
    holds_version(r);
    uint64_t before = records_version(r);
    store(r, "account-c", "c");
    assert_int_equal(records_version(r), before + 1);
    records_free(TAKE(r));
    if (records_open(d->fd, &master, &r, NULL) || records_version(r) != before + 1)
        return false;
    has(r, "account-c", "c");
    return true;
}

static size_t count_survivors(size_t *states) {
    struct dir d = dir_new();
    static struct image m;
    size_t survivors = 0;
    *states = 0;
    for (size_t cut = 0; cut <= n_steps; cut++) {
        uint64_t reported = cut < n_steps ? steps[cut].done : LAST_VERSION;
        for (size_t pending = 0; pending <= pending_at(cut); pending++)
            for (int lossy = 0; lossy < 2; lossy++) {
                image_at(&m, cut, pending, lossy);
                image_write(&m, &d);
                survivors += survives(&d, reported);
                ++*states;
            }
    }
    dir_end(&d);
    return survivors;
}

static void every_cut_leaves_a_vault_that_opens(void **state) {
    size_t states;
    make_history(true);
    size_t survivors = count_survivors(&states);
    assert_true(states > 200);
    assert_int_equal(survivors, states);
    forget_history();
}

/* That the test can see a loss: the same without the sync of the index. */
static void a_missing_sync_would_be_found(void **state) {
    size_t states;
    make_history(false);
    assert_true(count_survivors(&states) < states);
    forget_history();
}

/* --- what somebody changed ------------------------------------------------------------------------------------------------------------- */

static void copy_file(struct dir *from, const char *name, struct dir *to, const char *as) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(1 << 20);
    assert_int_equal(file_read(from->fd, name, &b, NULL), 0);
    assert_int_equal(file_replace(to->fd, as, buf_span(&b), 0600, NULL), 0);
}

static void copy_all(struct dir *from, struct dir *to) {
    DIR *list = opendir(from->path);
    for (struct dirent *e; (e = readdir(list));)
        if (e->d_name[0] != '.')
            copy_file(from, e->d_name, to, e->d_name);
    closedir(list);
}

static int opens(struct dir *d) {
    CLEANUP(records_free) struct records *r = NULL;
    return records_open(d->fd, &master, &r, NULL);
}

static int loads(struct dir *d, const char *name) {
    CLEANUP(records_free) struct records *r = NULL;
    CLEANUP(secret_fini) struct secret key = SECRET_INIT, body = SECRET_INIT;
    int rc = records_open(d->fd, &master, &r, NULL);
    return rc ? rc : records_load(r, name, &key, &body, NULL);
}

static void flip(struct dir *d, const char *name, size_t at) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(1 << 20);
    assert_int_equal(file_read(d->fd, name, &b, NULL), 0);
    b.p[at % b.n] ^= 4;
    assert_int_equal(file_replace(d->fd, name, buf_span(&b), 0600, NULL), 0);
}

static void what_was_changed_or_put_back_does_not_open(void **state) {
    struct dir d = dir_new(), old = dir_new(), other = dir_new();
    struct records *r;
    assert_int_equal(opens(&d), MUSTER_ENOTFOUND);
    assert_int_equal(records_create(d.fd, &master, &r, NULL), 0);
    store(r, "core", "core 1");
    store(r, "account-a", "a 2");
    store(r, "account-b", "b 3");
    copy_all(&d, &old);
    store(r, "account-a", "a 4");
    records_free(r);
    assert_int_equal(records_create(d.fd, &master, &r, NULL), MUSTER_EEXISTS);
    assert_int_equal(loads(&d, "account-a"), 0);

    for (size_t i = 0; i < 400; i += 7) { /* any byte */
        dir_empty(&other);
        copy_all(&d, &other);
        flip(&other, "account-a.4", i);
        assert_int_equal(loads(&other, "account-a"), MUSTER_ECORRUPT);
        assert_int_equal(loads(&other, "account-b"), 0);
    }
    copy_file(&old, "account-a.2", &d, "account-a.4"); /* an older copy under the newer name */
    assert_int_equal(loads(&d, "account-a"), MUSTER_ECORRUPT);
    dir_empty(&other);
    copy_all(&old, &other);
    copy_file(&old, "account-b.3", &other, "account-a.2"); /* another account's */
    assert_int_equal(loads(&other, "account-a"), MUSTER_ECORRUPT);
    assert_int_equal(unlinkat(other.fd, "account-a.2", 0), 0);
    assert_int_equal(loads(&other, "account-a"), MUSTER_ECORRUPT);
    flip(&other, "index", 30);
    assert_int_equal(opens(&other), MUSTER_ECORRUPT);
    copy_file(&old, "index", &other, "index");
    flip(&other, "head", 40); /* the salt, say */
    assert_int_equal(opens(&other), MUSTER_EINVALID);
    assert_int_equal(unlinkat(other.fd, "index", 0), 0);
    assert_int_equal(records_create(other.fd, &master, &r, NULL), MUSTER_ECORRUPT); /* accounts without an index are not overwritten */

    dir_empty(&other);
    copy_all(&old, &other); /* another future of the same vault has another version 4 */
    assert_int_equal(records_open(other.fd, &master, &r, NULL), 0);
    store(r, "account-a", "another 4");
    records_free(r);
    copy_file(&other, "account-a.4", &d, "account-a.4");
    assert_int_equal(loads(&other, "account-a"), 0);
    assert_int_equal(loads(&d, "account-a"), MUSTER_ECORRUPT);

    assert_int_equal(opens(&old), 0); /* put back whole it opens, as an older version: control finds that out */
    dir_end(&d);
    dir_end(&old);
    dir_end(&other);
}

static void another_master_key_does_not_open(void **state) {
    struct dir d = dir_new(), other = dir_new();
    struct records *r;
    const struct key_master_options passphrase = {.kind = KEY_MASTER_PASSPHRASE, .passphrase = SPAN_LIT("correct horse")};
    assert_int_equal(records_create(d.fd, &master, &r, NULL), 0);
    store(r, "core", "core 1");
    records_free(r);
    assert_int_equal(records_open(d.fd, &passphrase, &r, NULL), MUSTER_EINVALID);
    assert_int_equal(records_create(other.fd, &master, &r, NULL), 0);
    records_free(r);
    copy_file(&other, KEY_MASTER_FILE_NAME, &d, KEY_MASTER_FILE_NAME);
    assert_int_equal(opens(&d), MUSTER_EINVALID);
    dir_end(&d);
    dir_end(&other);
}

static void side_files_are_sealed_and_go_with_their_account(void **state) {
    struct dir d = dir_new();
    struct records *r;
    CLEANUP(secret_fini) struct secret key = SECRET_INIT, other = SECRET_INIT;
    CLEANUP(buf_fini) struct buf b = BUF_INIT(100);
    assert_int_equal(records_new_key(&key), 0);
    assert_int_equal(records_new_key(&other), 0);
    assert_int_equal(records_create(d.fd, &master, &r, NULL), 0);
    store(r, "account-a", "a");
    assert_int_equal(records_side_load(r, "count-a", secret_span(&key), &b, NULL), MUSTER_ENOTFOUND);
    assert_int_equal(records_side_store(r, "count-a", secret_span(&key), SPAN_LIT("12"), NULL), 0);
    assert_int_equal(records_side_store(r, "count-b", secret_span(&key), SPAN_LIT("13"), NULL), 0);
    assert_int_equal(records_version(r), 1);
    assert_int_equal(records_side_load(r, "count-a", secret_span(&key), &b, NULL), 0);
    assert_string_equal(buf_str(&b), "12");
    assert_int_equal(records_side_load(r, "count-a", secret_span(&other), &b, NULL), MUSTER_ECORRUPT);
    records_free(r);
    assert_int_equal(records_open(d.fd, &master, &r, NULL), 0);
    assert_int_equal(faccessat(d.fd, "count-a", F_OK, 0), 0);
    assert_int_equal(faccessat(d.fd, "count-b", F_OK, 0), -1); /* there is no account b */
    copy_file(&d, "count-a", &d, "count-c");
    assert_int_equal(records_side_load(r, "count-c", secret_span(&key), &b, NULL), MUSTER_ECORRUPT);
    records_free(r);
    dir_end(&d);
}

static void names_that_are_no_names_are_refused(void **state) {
    static const char *const bad[] = {"", "a/b", "a.1", "..", "a-name-of-forty-nine-characters-aaaaaaaaaaaaaaaaaa"};
    struct dir d = dir_new();
    struct records *r;
    CLEANUP(secret_fini) struct secret key = SECRET_INIT;
    static uint8_t large[RECORD_BODY_MAX + 1];
    assert_int_equal(records_new_key(&key), 0);
    assert_int_equal(records_create(d.fd, &master, &r, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(records_store(r, bad[i], secret_span(&key), SPAN_LIT("x"), NULL), MUSTER_EINTERNAL);
    assert_int_equal(records_store(r, "core", secret_span(&key), span_of(large, sizeof large), NULL), MUSTER_EINTERNAL);
    assert_int_equal(records_store(r, "core", secret_span(&key), span_of(large, sizeof large - 1), NULL), 0);
    assert_int_equal(records_drop(r, "core-2", NULL), MUSTER_ENOTFOUND);
    records_free(r);
    dir_end(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_leaves_a_vault_that_opens),
        cmocka_unit_test(a_missing_sync_would_be_found),
        cmocka_unit_test(what_was_changed_or_put_back_does_not_open),
        cmocka_unit_test(another_master_key_does_not_open),
        cmocka_unit_test(side_files_are_sealed_and_go_with_their_account),
        cmocka_unit_test(names_that_are_no_names_are_refused),
    };
    log_init("test", LOG_ERROR);
    return secret_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
