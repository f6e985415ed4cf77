/* What a power cut leaves: the registry, control's database, the vault and plain files, written through the real operations, cut behind
 * every operation of the disk with the unsynced lost, kept, reordered and torn, opened again by the real code and held against every promise
 * that had been made; and that it would be found out if any sync were missing on which a promise rests.
 *
 * Short by default; MUSTER_LONG=yes takes every prefix, every sync and more combinations of what survives.  Under AddressSanitizer, which looks for
 * something else in the same runs and takes three times as long, the short form takes a third of the cuts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "syncs.h"

#ifdef __has_feature /* clang */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ /* gcc's name of it */
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
enum { SPARSE = 3 };
#else
enum { SPARSE = 1 };
#endif

static bool is_long;
static struct work *work;
static char root[80];
static size_t judged;

static const char *judge_cut(const struct work *w, const struct disk *d, struct cut cut) {
    judged++;
    disk_cut(d, cut, root);
    return judge(w, root, disk_at(d));
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 11;
}

/* `tries` combinations by chance, besides all and nothing.  The reason why one breaks a promise, or NULL. */
static const char *try_cuts(const struct work *w, const struct disk *d, int tries, uint64_t seed) {
    static char said[600];
    struct cut cuts[64] = {{CUT_LOST, 0}, {CUT_KEPT, 0}};
    size_t n = disk_pending(d) ? 2 : 1;
    for (int i = 0; i < tries && disk_pending(d) && n < sizeof cuts / sizeof *cuts; i++) {
        enum cut_kind kind = CUT_LATE + (enum cut_kind)(next_random(&seed) % 4);
        cuts[n++] = (struct cut){kind, kind == CUT_LATE ? next_random(&seed) % disk_pending(d) : next_random(&seed)};
    }
    for (size_t i = 0; i < n; i++) {
        const char *bad = judge_cut(w, d, cuts[i]);
        if (bad) {
            snprintf(said, sizeof said, "behind operation %zu of %zu, cut %d/%llu: %s", disk_at(d), w->log.n, cuts[i].kind, (unsigned long long)cuts[i].seed, bad);
            return said;
        }
    }
    return NULL;
}

/* --- with every sync --------------------------------------------------------------------------------------------------------------- */

static void every_promise_holds_behind_every_cut(void **state) {
    struct disk *d = disk_new(&work->log);
    uint64_t chance = 7;
    size_t apart = is_long ? 1 : SPARSE * work->log.n / 150, next = 0;
    for (;;) {
        if (disk_at(d) >= next || disk_at(d) == work->log.n) {
            const char *bad = try_cuts(work, d, is_long ? 6 : 3, disk_at(d));
            if (bad)
                fail_msg("%s", bad);
            next = disk_at(d) + (is_long ? 1 : 1 + next_random(&chance) % (2 * apart));
        }
        if (disk_at(d) == work->log.n)
            break;
        disk_step(d, false);
    }
    disk_free(d);
}

/* --- without one of them ----------------------------------------------------------------------------------------------------------- */

/* Where to cut: right behind the promises, where most is to be lost, and just before a sync, where most is pending. */
static bool worth_a_cut(const struct work *w, size_t at) {
    for (size_t i = 0; i < w->n_notes; i++)
        if (w->notes[i].at == at)
            return true;
    return at == w->log.n || w->log.ops[at].kind == DISK_SYNC || w->log.ops[at].kind == DISK_SYNC_DIR;
}

/* Whether leaving out the sync at `at` breaks something before the next one of the same file makes up for it. */
static const char *hunt(const struct work *w, size_t at) {
    size_t end = syncs_next(&w->log, at), cuts = 0;
    struct disk *d = disk_new(&w->log);
    const char *bad = NULL;
    while (disk_at(d) < at)
        disk_step(d, false);
    disk_step(d, true);
    while (!bad && cuts < 100) {
        if (worth_a_cut(w, disk_at(d))) {
            bad = try_cuts(w, d, disk_at(d) == end ? 12 : 3, disk_at(d));
            cuts++;
        }
        for (size_t late = 1; !bad && disk_at(d) == end && late < disk_pending(d); late++)
            bad = judge_cut(w, d, (struct cut){CUT_LATE, late});
        if (disk_at(d) >= end)
            break;
        disk_step(d, false);
    }
    disk_free(d);
    return bad;
}

static size_t instances(const struct work *w, enum sync_use use) {
    size_t n = 0;
    for (size_t i = 0; i < w->log.n; i++)
        n += (w->log.ops[i].kind == DISK_SYNC || w->log.ops[i].kind == DISK_SYNC_DIR) && w->log.ops[i].use == (int)use;
    return n;
}

static void no_sync_can_be_left_out(void **state) {
    for (enum sync_use use = 0; use < SYNC_USES; use++) {
        const struct sync_fact *f = &SYNC_FACTS[use];
        size_t all = instances(work, use), seen = 0, tried = 0, found = 0, apart = is_long || f->rests == SYNC_SOME || all < 4 ? 1 : SPARSE * all / 4;
        assert_true(all > 0);
        if (f->rests == SYNC_NONE)
            continue;
        for (size_t i = 0; i < work->log.n; i++) {
            const struct disk_op *o = &work->log.ops[i];
            if ((o->kind != DISK_SYNC && o->kind != DISK_SYNC_DIR) || o->use != (int)use || seen++ % apart)
                continue;
            const char *bad = hunt(work, i);
            tried++;
            found += bad != NULL;
            if (!bad && f->rests == SYNC_EVERY)
                fail_msg("%s: without the sync of %s at %zu nothing is lost.", f->name, o->name, i);
            if (bad && found == 1)
                print_message("  without %s: %s\n", f->name, bad);
            if (found && f->rests == SYNC_SOME && !is_long)
                break;
        }
        print_message("  %s: left out %zu of %zu, lost something %zu times. %s\n", f->name, tried, all, found, f->reason);
        if (!found)
            fail_msg("%s: without it nothing is lost.", f->name);
    }
}

/* All of a kind at once, which is more than each by itself. */
static void redundant_syncs_are_redundant(void **state) {
    for (enum sync_use use = 0; use < SYNC_USES; use++) {
        const struct sync_fact *f = &SYNC_FACTS[use];
        if (f->rests != SYNC_NONE)
            continue;
        struct disk *d = disk_new(&work->log);
        size_t apart = is_long ? 7 : SPARSE * work->log.n / 25, left_out = 0;
        bool just = false;
        uint64_t chance = use + 1;
        for (size_t next = 0;;) {
            bool near = just && (is_long || left_out % 8 == 1);
            if (near || disk_at(d) >= next || disk_at(d) == work->log.n) {
                const char *bad = try_cuts(work, d, 3, disk_at(d) + use);
                if (bad)
                    fail_msg("%s is not redundant: %s", f->name, bad);
                next = disk_at(d) + 1 + next_random(&chance) % (2 * apart);
            }
            if (disk_at(d) == work->log.n)
                break;
            const struct disk_op *o = &work->log.ops[disk_at(d)];
            just = (o->kind == DISK_SYNC || o->kind == DISK_SYNC_DIR) && o->use == (int)use;
            left_out += just;
            disk_step(d, just);
        }
        disk_free(d);
        print_message("  %s: all %zu left out, nothing is lost. %s\n", f->name, left_out, f->reason);
    }
}

static void synchronous_off_loses_promises(void **state) {
    struct work *w = work_new(&(struct work_options){.no_sync = true, .rounds = 3, .devices = 2});
    struct disk *d = disk_new(&w->log);
    size_t broken = 0, cuts = 0;
    while (disk_at(d) < w->log.n) {
        disk_step(d, false);
        bool answered = false;
        for (size_t i = 0; i < w->n_notes; i++)
            answered = answered || (w->notes[i].at == disk_at(d) && w->notes[i].kind == NOTE_CERT);
        if (!answered || (!is_long && cuts >= 20))
            continue;
        cuts++;
        const char *bad = judge_cut(w, d, (struct cut){CUT_LOST, 0});
        if (bad && !broken++)
            print_message("  synchronous=OFF: behind operation %zu: %s\n", disk_at(d), bad);
    }
    assert_true(cuts > 5);
    assert_int_equal(broken, cuts);
    disk_free(d);
    work_free(w);
}

static int begin(void **state) {
    const char *wanted = getenv("MUSTER_LONG");
    is_long = wanted && strcmp(wanted, "yes") == 0;
    work = work_new(&(struct work_options){.rounds = is_long ? 6 : 4, .devices = is_long ? 6 : 2, .automatic = is_long});
    syncs_classify(work);
    snprintf(root, sizeof root, "%s.cut", work->root);
    return mkdir(root, 0700);
}

static int end(void **state) {
    char vault[96];
    print_message("  %zu operations, %zu notes, %zu states of the disk judged\n", work->log.n, work->n_notes, judged);
    disk_empty(root);
    snprintf(vault, sizeof vault, "%s/vault", root);
    rmdir(vault);
    rmdir(root);
    work_free(work);
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_promise_holds_behind_every_cut),
        cmocka_unit_test(no_sync_can_be_left_out),
        cmocka_unit_test(redundant_syncs_are_redundant),
        cmocka_unit_test(synchronous_off_loses_promises),
    };
    log_init("powercut", LOG_ERROR);
    if (argc > 1) { /* one alone */
        bool known = false;
        for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
            known = known || strcmp(tests[i].name, argv[1]) == 0;
        if (!known)
            return 2;
        cmocka_set_test_filter(argv[1]);
    }
    return secret_init() ? 1 : cmocka_run_group_tests(tests, begin, end);
}
