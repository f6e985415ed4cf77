/* vault/records_part: what the files of records.h share: records.c (index and records), records_head.c, records_rekey.c. */
#ifndef MUSTER_VAULT_RECORDS_PART_H
#define MUSTER_VAULT_RECORDS_PART_H

#include "keys/seal.h"
#include "pki/key.h"
#include "vault/records.h"

#define RECORDS_INDEX "index"
#define RECORDS_INDEX_NEXT "index.next" /* under the master key of a head that is about to be, or has just become, the head */
#define RECORDS_FILE_NAME_MAX (RECORD_NAME_MAX + 24)

struct entry {
    char name[RECORD_NAME_MAX + 1];
    uint64_t version;
    struct hash hash; /* of the record's file: two writings of one version differ in it */
    /* while the master key is changed: the same record under the next one; version 0: not written yet */
    struct {
        uint64_t version;
        struct hash hash;
    } next;
    uint64_t old; /* a file under the master key from before, to be removed; 0: none */
};

struct records {
    int dir_fd; /* a duplicate of the caller's */
    struct records_head head;
    struct secret master;
    uint64_t version;
    struct entry *entries; /* sorted by name */
    size_t n;
    bool doubtful; /* a write of the index failed: what is on the disk is not known */
    bool rekeying; /* next_* count */
    struct secret next_master;
    struct records_head next_head;
};

/* --- records.c ------------------------------------------------------------------------------------------------------------ */

int records_file_name(const char *name, uint64_t version, char out[RECORDS_FILE_NAME_MAX]) MUSTER_MUST_CHECK;
/* The record's file, durable; *hash: its own. */
int records_write(struct records *r, struct span master, const char *name, uint64_t version, struct span data_key, struct span body, struct hash *hash,
                  struct err *err) MUSTER_MUST_CHECK;
int records_write_index(struct records *r, const char *file, struct span master, uint64_t version, const struct entry *entries, size_t n,
                        struct err *err) MUSTER_MUST_CHECK;
/* After a failed write of the index: reads what is there, and writes it again so that it is there for good. */
int records_settle(struct records *r, struct err *err) MUSTER_MUST_CHECK;
/* A failure is no failure of the change: the next opening tries again. */
void records_remove_file(struct records *r, const char *name, uint64_t version);

/* --- records_head.c ---------------------------------------------------------------------------------------------------------- */

int records_head_write(struct records *r, const struct records_head *h, struct span master, struct err *err) MUSTER_MUST_CHECK;
/* Reads the head and finds the key that opens it: r->head and r->master. */
int records_head_open(struct records *r, const struct key_master_options *master, struct err *err) MUSTER_MUST_CHECK;

#endif
