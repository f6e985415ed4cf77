/* vault/process: the process half.  The one place where private keys are used.
 *
 * Called by musterd alone: vault_init by `musterd init`, vault_process_run in the child that becomes the vault, and the helpers
 * by the supervisor.  It makes no sockets, runs no program, and reads and writes nothing but DIR/vault. */
#ifndef MUSTER_VAULT_PROCESS_H
#define MUSTER_VAULT_PROCESS_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "keys/master.h"
#include "vault/vault.h"

/* A channel's kind decides which requests it may carry (vault/requests.def). */
enum vault_channel { VAULT_CHANNEL_GATEWAY = 1, VAULT_CHANNEL_CONTROL = 2 };
#define VAULT_CHANNELS_MAX 64

struct vault_channel_fd {
    enum vault_channel kind;
    int fd; /* the vault's end */
};

struct vault_process_options {
    int dir_fd;                             /* DIR/vault, open for reading; stays the caller's */
    struct key_master_options master;       /* keys/master.h */
    const struct vault_channel_fd *channels; /* channels at start; taken over */
    size_t n_channels;
    int supervisor_fd;                      /* SOCK_SEQPACKET, further channels come by vault_channel_send; -1: none; taken over.  Its end ends the vault */
    int export_fd;                          /* listening Unix stream socket of `musterd vault export`; -1: none; taken over */
    uid_t export_uid;                       /* who besides uid 0 and the vault's own may export; (uid_t)-1: nobody.  The vault's own: as the run begins */
    /* Called once, when everything is open and before the first message is read; an error ends the run.  NULL: none. */
    int (*confine)(void *arg, struct err *err);
    void *confine_arg;
};

/* Runs until SIGTERM or the end of supervisor_fd (0), or until a channel sends what is malformed or not allowed on it, or the
 * vault cannot be opened (negative; logged; the caller exits with a status that is not 0).  For a process of its own: it handles
 * SIGTERM, ignores SIGINT, SIGHUP and SIGPIPE, makes the process undumpable and locks its memory where the limits allow it.
 *
 * After confine() it needs: read, write, close, openat, renameat (renameat2), unlinkat, fsync, fchmod, ppoll, recvmsg, sendmsg, accept4,
 * getsockopt (SO_PEERCRED), getrandom, getpid, clock_gettime, rt_sigreturn, exit_group, and for memory mmap, mremap, munmap, mprotect, madvise,
 * mlock, munlock, brk. */
int vault_process_run(const struct vault_process_options *o, struct err *err) MUSTER_MUST_CHECK;

/* Lives of CA certificates and what the server CA signs, in seconds; kept in the vault's own sealed record.  0: the default. */
struct vault_lives {
    int64_t server_ca;       /* 40 years */
    int64_t server;          /* 1 year */
    int64_t fleet_root;      /* 40 years */
    int64_t issuing_ca;      /* 35 years */
    int64_t provisioning_ca; /* 40 years */
    int64_t provisioning_key;/* 10 years, longest life of a provisioning key's certificate */
};
/* Makes a vault in the empty directory: master key (where it is a file and absent), server CA and audit key.  *server_ca_pem gets the server
 * CA's certificate.  MUSTER_EEXISTS where a vault is there; a vault whose making was cut off is begun anew.  lives NULL: defaults. */
int vault_init(int dir_fd, const struct key_master_options *master, const struct vault_lives *lives, struct buf *server_ca_pem, struct err *err) MUSTER_MUST_CHECK;

/* Supervisor: a pair of close-on-exec SOCK_SEQPACKET sockets, fds[0] for the client, fds[1] for the vault. */
int vault_channel_pair(int fds[2], struct err *err) MUSTER_MUST_CHECK;
/* Supervisor: hands the vault's end of a new channel over supervisor_fd; fd stays the caller's (close it afterwards). */
int vault_channel_send(int supervisor_fd, enum vault_channel kind, int fd, struct err *err) MUSTER_MUST_CHECK;

#endif
