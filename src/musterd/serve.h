/* serve: the supervisor of a running server.
 *
 * One thread, no library that starts any: it forks.  It holds DIR's lock and the listening sockets, reads nothing from the network, and
 * of DIR/vault's files nothing but the key file, where there is one, and the head: to end a change of the master key that was cut off. */
#ifndef MUSTER_MUSTERD_SERVE_H
#define MUSTER_MUSTERD_SERVE_H

#include "config/settings.h"
#include "metrics/metrics.h"
#include "musterd/auth_socket.h"
#include "musterd/data.h"
#include "musterd/listen.h"
#include "musterd/master.h"
#include "musterd/options.h"
#include "musterd/reach.h"
#include "musterd/users.h"

#define SERVE_URL_MAX 320
#define SERVE_DRAIN_MS 30000 /* for what is under way */
/* Two gateways at once, while one replaces the other, and control share the vault's channels. */
#define SERVE_LOOPS_MAX 30

struct child {
    pid_t pid;   /* 0: not running */
    int socket;  /* loop/parent.h; the vault's: its supervisor_fd; -1 */
    bool ready;
    enum metrics_page page;
    int64_t started, restart_at, delay; /* monotonic, ms; restart_at 0: not waiting */
};

/* A gateway that was told to end while its successor goes on. */
struct retired {
    pid_t pid; /* 0: none */
    int socket;
    enum metrics_page page;
    int64_t end_at; /* SIGTERM then */
};

struct serve {
    const struct options *options;
    struct settings settings;
    struct data data;
    struct users users;
    struct master master;
    struct metrics metrics;
    _Atomic uint64_t *trust; /* registry/trust.h: shared by control and the gateways */
    int landlock;           /* its level; 0: not confined */
    struct listen_address gateway_at, admin_at, crl_at;
    size_t loops;
    int gateway_fds[SERVE_LOOPS_MAX], admin_fd, export_fd, signal_fd;
    int crl_fd; /* where the gateway serves revocation lists; -1: nowhere */
    struct auth_socket auth; /* the gateway's */
    char gateway_url[SERVE_URL_MAX], admin_url[SERVE_URL_MAX], crl_url[SERVE_URL_MAX]; /* crl_url: "" there is none */
    struct child children[SANDBOX_KINDS];
    struct reach reach;     /* of the gateway among the children */
    struct child successor; /* of that gateway, until it serves; reload.h */
    struct reach successor_reach;
    int64_t successor_by;   /* monotonic, ms */
    struct retired retired;
    bool reload_wanted;     /* SIGHUP has come */
    bool again[SANDBOX_KINDS]; /* told to end, to be started again with other settings */
    bool serving;           /* the ready line is out */
    int64_t ending_since;   /* monotonic, ms; 0: not ending */
    const char *failed_at_end; /* a process that did not end well then; NULL */
    pid_t pid;              /* the supervisor's */
};

int serve_run(const struct options *o, struct err *err);
/* The settings as they stand now, checked. */
int serve_settings(const struct serve *s, struct settings *out, struct err *err) MUSTER_MUST_CHECK;
/* The URLs that follow from the settings and the sockets, and their files. */
int serve_urls(struct serve *s, struct err *err) MUSTER_MUST_CHECK;

#endif
