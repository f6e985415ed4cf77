/* work_part: what work.c and work_registry.c share; see work.h. */
#ifndef MUSTER_TESTS_POWERCUT_WORK_PART_H
#define MUSTER_TESTS_POWERCUT_WORK_PART_H

#include "../unit/pki_fixture.h"
#include "registry/device.h"
#include "work.h"

#define MUST(x)                                                                                                                \
    do {                                                                                                                       \
        struct err e = ERR_INIT;                                                                                               \
        if (x) {                                                                                                               \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #x, err_text(&e));                                         \
            abort();                                                                                                           \
        }                                                                                                                      \
    } while (0)

struct job {
    struct work *w;
    struct store *registry, *control;
    struct records *vault;
    int dir_fd;
    struct made root, issuing, provisioning, keys[8];
    int devices; /* their number so far */
};

/* A certificate for a device, made before the transaction is asked, as the issuer does it. */
struct enrolment {
    struct job *j;
    int64_t key;
    char id[32];
    struct made device; /* made_free() */
};

extern const struct actor WORK_ACTOR;
struct note work_note_of(enum note_kind kind, enum note_place place, const char *text, int64_t number);
struct audit_head work_head(struct job *j); /* reads and notes it */

void work_account(struct job *j);
void work_key(struct job *j, const char *name, int64_t max_devices);
struct enrolment work_prepare(struct job *j, int64_t key, const char *id); /* id NULL: a new one */
void work_enrol(struct enrolment *n);
void work_enrol_together(struct job *j, int64_t key, int each); /* from several threads, so that they meet in one commit */
void work_use(struct job *j, const struct enrolment *n);
void work_seen(struct job *j, const struct enrolment *n); /* a small commit: one page of the table of devices */
void work_change(struct job *j, const char *id, enum device_change change, enum device_state to);

#endif
