/* users: the users that the processes run as when musterd was started as root; what belongs to whom in the data directory.
 *
 * DIR is root's, and the gateway's group may pass through it; DIR/vault is the vault's alone; control.db and tls/ are control's;
 * registry.db is control's and writable by the gateway's group, of which control is a member. */
#ifndef MUSTER_MUSTERD_USERS_H
#define MUSTER_MUSTERD_USERS_H

#include <stdbool.h>
#include <sys/types.h>

#include "config/settings.h"
#include "musterd/data.h"
#include "musterd/sandbox.h"

struct user {
    uid_t uid;
    gid_t gid;
};

struct users {
    bool change;                     /* false: all processes stay what they are */
    struct user of[SANDBOX_KINDS];
};

/* By name; before anything is confined or forked.  Users in the settings without being root are MUSTER_ECONFIG, as is only some of them. */
int users_find(const struct settings *s, struct users *out, struct err *err) MUSTER_MUST_CHECK;
/* Makes absent -wal and -shm files, and gives each file to whom it belongs. */
int users_own_files(const struct users *u, const struct data *d, struct err *err) MUSTER_MUST_CHECK;
/* In a child: becomes the user and gives up every capability (root that stays root keeps that of passing over file modes). */
int users_become(const struct users *u, enum sandbox_kind kind, struct err *err) MUSTER_MUST_CHECK;

#endif
