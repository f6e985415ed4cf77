/* work: what a server does to its data directory, through the real operations, and every promise that it makes on the way.
 *
 * A promise is a note: what has been answered to somebody, and where the log of the disk stood then.  The judge (judge.c) holds a directory
 * that a cut left against the notes made before the cut. */
#ifndef MUSTER_TESTS_POWERCUT_WORK_H
#define MUSTER_TESTS_POWERCUT_WORK_H

#include "disk.h"
#include "registry/audit.h"
#include "registry/key.h"
#include "vault/records.h"

#define WORK_NOTES_MAX 8192
#define WORK_VERSIONS_MAX 256
#define WORK_ACCOUNT "fleet"

enum note_kind {
    NOTE_MADE,    /* the database is there, with its schema */
    NOTE_KEY,     /* provisioning key `number` */
    NOTE_CERT,    /* answered: certificate `serial` of device `text`, enrolled with key `number`, budget spent where `spent` */
    NOTE_USED,    /* a request with `serial` was let in: it is the device's, the others are void */
    NOTE_STATE,   /* device `text` was reported to be in state `number` */
    NOTE_HEAD,    /* the account's audit log has come to `head` */
    NOTE_TOKEN,   /* control: `number` tokens were handed out */
    NOTE_SIGNED,  /* control: keeps the signed `head` */
    NOTE_VERSION, /* control: has written down that the vault is at version `number` */
    NOTE_VAULT,   /* vault: is at version `number` */
    NOTE_FILE,    /* file `text` holds its content `number` */
    NOTE_GOING,   /* no promise: the removal of file `text` begins */
    NOTE_GONE,    /* file `text` is gone */
    NOTE_THREADS, /* no promise: from here (`number` 1) to the next one (0) several threads write to the registry */
};
enum note_place { PLACE_REGISTRY, PLACE_CONTROL, PLACE_VAULT, PLACE_FILES };
struct note {
    enum note_kind kind;
    enum note_place place;
    size_t at; /* operations in the log when it was made */
    char text[DEVICE_ID_MAX + 1];
    int64_t number;
    uint8_t serial[20];
    size_t serial_n;
    bool spent;
    struct audit_head head;
};

struct work {
    char root[64];
    struct disk_log log;
    pthread_mutex_t lock;
    struct note notes[WORK_NOTES_MAX]; /* ascending by `at` */
    size_t n_notes;
    struct note refused[64];           /* certificates that were made and whose transaction refused: never in the registry */
    size_t n_refused;
    struct uuid keys[8];
    size_t n_keys;
    struct { char name[16]; bool dropped; } versions[WORK_VERSIONS_MAX]; /* the vault's: what version i did */
};

struct work_options {
    bool no_sync;  /* synchronous=OFF */
    int rounds;    /* how much is done; each ends with a checkpoint */
    int devices;   /* enrolled by one thread each round */
    bool automatic; /* also a stretch long enough for SQLite to checkpoint by itself */
};
/* Does it all in a fresh directory; the log and the notes are the result. */
struct work *work_new(const struct work_options *o);
void work_free(struct work *w);
/* 0, or the reason why the directory breaks a promise made before `cut` operations, or does not open. */
const char *judge(const struct work *w, const char *root, size_t cut);

/* For work.c's parts and the judge. */
extern const struct key_master_options WORK_MASTER;
void work_note(struct work *w, struct note n);
#define FILE_TEXT "file %s, content %lld, and its end.\n"

#endif
