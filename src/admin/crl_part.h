/* crl_part: what looking for lists that are due (crl.c) and making one of them (crl_making.c) share. */
#ifndef MUSTER_ADMIN_CRL_PART_H
#define MUSTER_ADMIN_CRL_PART_H

#include "admin/crl.h"

#define AGAIN_MS 5000 /* until what failed is tried again */
#define CRL_WHY_MAX 256

/* A CA and its newest list. */
struct known {
    struct crl_row row;      /* number 0: there is no list yet */
    int64_t account, ca;     /* rows */
    int64_t wanted;          /* the revision of the account now; row.revision: of the list */
    int64_t not_before_ms;   /* monotonic: the next one is not begun before */
    bool there;              /* still a CA of an active account */
    bool gone;               /* its account was deleted: its list goes too */
    int64_t behind_ms;       /* monotonic: since when it waits for a list, or for another; 0: it does not */
    size_t left_out;         /* damaged rows that are on no list */
    int failed;              /* the last one could not be made: the code, and what there is to say; 0: it was */
    char why[CRL_WHY_MAX];
};

/* The list under way. */
struct making {
    struct crl_load load; /* first: what the operation is given */
    struct crls *owner;
    size_t at;            /* of known */
    int64_t began_ms, revision;
    size_t sent;
    struct vault_crl_begun begun;
    struct buf body;      /* head and entries; front and tail come with the signature */
    struct buf whole;
};

/* One store job of keeping what was made, or of removing what is no more. */
struct keeping {
    struct crl_row row; /* first */
    struct crls *owner;
    const struct buf *whole; /* NULL: remove it */
};

struct crls {
    struct control *c;
    struct loop_timer *timer;
    int dir_fd;
    bool loaded;          /* what control.db knew was read */
    int64_t seen;         /* store_version() of the last look; whatever it was, at the first */
    bool look_again;
    bool recovery;        /* no list is made: what was revoked after the backup is not known */
    int64_t look_ms;      /* monotonic: an account could not be read, look again then; 0: they all were */
    struct known *known;
    size_t n, room;
    struct crl_rows rows;
    struct crl_revisions revisions;
    struct crl_cas cas;
    size_t at;            /* of revisions */
    struct {
        int64_t account, revision;
        bool failing;     /* one of its CAs cannot be read */
        char name[ACCOUNT_NAME_MAX + 1];
    } *told;              /* what the last look found, an account each */
    size_t n_told, told_room;
    int in_row;           /* lists that lacked something, since one that had only grown old */
    struct making making;
    struct keeping keeping;
};

/* A look, in so many milliseconds. */
static inline void crls_rest(struct crls *k, int ms) { loop_timer_set(k->timer, ms); }
/* The next list, or a look. */
void crls_next(struct crls *k);

/* Begin it of known[at]; the file of known[at] and what control.db says of it go.  Both come back by crls_next() or a look. */
void crl_make(struct crls *k, size_t at);
void crl_remove(struct crls *k, size_t at);
void crl_making_end(struct making *m); /* frees what it holds */

#endif
