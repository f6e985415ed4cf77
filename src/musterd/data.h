/* data: the data directory: where it is, its lock, and small text files in it. */
#ifndef MUSTER_MUSTERD_DATA_H
#define MUSTER_MUSTERD_DATA_H

#include <limits.h>

#include "base/buf.h"
#include "base/cleanup.h"

#define DATA_CONFIG "musterd.conf"
#define DATA_INIT_MARK ".init" /* there from the first step of `musterd init` to its last; fresh.h */
#define DATA_RESTORE_MARK ".restore" /* likewise of `musterd restore` */

struct data {
    char path[PATH_MAX]; /* absolute */
    int fd;              /* the directory */
    int lock_fd;         /* -1: not locked */
};
#define DATA_NONE ((struct data){.fd = -1, .lock_fd = -1})

/* MUSTER_ENOTFOUND where there is none. */
int data_open(struct data *d, const char *dir, struct err *err) MUSTER_MUST_CHECK;
/* As data_open; a directory that `musterd init` or `musterd restore` did not finish is MUSTER_ESTATE, one that it never began MUSTER_ENOTFOUND. */
int data_open_ready(struct data *d, const char *dir, struct err *err) MUSTER_MUST_CHECK;
/* Held until data_close; MUSTER_ELOCKED. */
int data_lock(struct data *d, struct err *err) MUSTER_MUST_CHECK;
/* Never unlocks in a forked child what its parent holds: the lock goes with the last descriptor. */
void data_close(struct data *d);
/* DIR/name into path; MUSTER_EINVALID where it is too long. */
int data_path(const struct data *d, const char *name, char path[PATH_MAX], struct err *err) MUSTER_MUST_CHECK;
/* server-ca.pem has these server CAs of Muster's own (PEM), and what an operator has added; replaced durably where it says something else. */
int data_server_cas(const struct data *d, struct span own, struct err *err) MUSTER_MUST_CHECK;
/* One line, replaced durably. */
/* Of the socket at which the vault listens: a path that fits a socket's address, the directory's own or by way of /proc. */
int data_vault_socket(const struct data *d, char path[PATH_MAX], struct err *err) MUSTER_MUST_CHECK;
int data_write_line(const struct data *d, const char *name, const char *line, mode_t mode, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(data_close, struct data)

#endif
