/* auth_socket: the Unix socket on which the gateway answers other proxies, and who may ask there.  Made by the supervisor, because a confined
 * process makes none. */
#ifndef MUSTER_MUSTERD_AUTH_SOCKET_H
#define MUSTER_MUSTERD_AUTH_SOCKET_H

#include <sys/types.h>

#include "config/settings.h"

#define AUTH_USERS_MAX 16

struct auth_socket {
    int fd; /* -1: none */
    uid_t uids[AUTH_USERS_MAX];
    size_t n_uids;
    char path[108];
};

/* By the settings; out->fd is -1 where they name none.  A socket that nobody listens on any more is replaced, anything else at the path is
 * not.  MUSTER_ECONFIG, MUSTER_ELISTEN. */
int auth_socket_open(const struct settings *s, struct auth_socket *out, struct err *err) MUSTER_MUST_CHECK;
/* Removes the file as well. */
void auth_socket_close(struct auth_socket *a);

#endif
