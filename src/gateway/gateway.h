/* gateway: the process that devices talk to.  Called by musterd's child; it holds no CA key and does no administrative act.
 *
 * Runs options->loops event-loop threads, each with a listener and a channel to the vault of its own, over one store on
 * DIR/registry.db. */
#ifndef MUSTER_GATEWAY_GATEWAY_H
#define MUSTER_GATEWAY_GATEWAY_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"
#include "config/settings.h"

struct gateway_options {
    const struct settings *settings;
    const char *dir;          /* DIR, absolute: DIR/registry.db, DIR/tls/, DIR/server-ca.pem */
    size_t loops;
    const int *listen_fds;    /* one a loop; taken over */
    const int *vault_fds;     /* one a loop; -1: none yet, PARENT_CHANNEL with the loop's index brings it; taken over */
    int auth_fd;              /* a listening Unix socket where other proxies ask; -1: none; taken over */
    const uid_t *auth_uids;   /* users who may ask there, besides root */
    size_t n_auth_uids;
    int crl_fd;               /* a listening TCP socket where revocation lists are fetched (crl.h); -1: none; taken over */
    int parent_fd;            /* loop/parent.h; taken over */
    const char *url;          /* https://host:port as devices see it */
    const struct upstreams *behind; /* gateway_upstreams_new() */
    _Atomic uint64_t *trust; /* registry/trust.h: the word that it shares with the other processes */
    /* Called once after everything is open and before the first connection is accepted, on the main thread, before other threads but
     * the store's exist; an error ends the run. */
    int (*confine)(void *arg, struct err *err);
    void *confine_arg;
};

/* Whether the gateway's settings mean something: MUSTER_ECONFIG.  In the supervisor, before it starts anything. */
int gateway_settings_check(const struct settings *s, struct err *err) MUSTER_MUST_CHECK;
/* The routes of the settings; reads the files that they name, so before the process is confined.  Lives longer than the run. */
struct upstreams;
int gateway_upstreams_new(const struct settings *s, struct upstreams **out, struct err *err) MUSTER_MUST_CHECK;
/* Until PARENT_DRAIN, SIGTERM or the supervisor's end.  Sends PARENT_READY. */
int gateway_process_run(const struct gateway_options *o, struct err *err) MUSTER_MUST_CHECK;

#endif
