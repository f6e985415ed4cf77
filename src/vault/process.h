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
enum vault_channel { VAULT_CHANNEL_GATEWAY = 1, VAULT_CHANNEL_CONTROL = 2, VAULT_CHANNEL_TOKEN = 4 /* the other way: here the vault asks */ };
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
    bool token;                             /* a token is configured: its process has a channel, now or soon */
    int supervisor_fd;                      /* SOCK_SEQPACKET, further channels come by vault_channel_send; -1: none; taken over.  Its end ends the vault */
    /* Tells the supervisor of a master key that is about to take the other one's place, by supervisor_fd; false: it does not hear.  NULL: there is none */
    bool (*rekey)(int supervisor_fd, struct span key);
    /* Tells the supervisor of the server CAs, in PEM, as the vault is opened and whenever they have changed; NULL: there is none.  What is not heard is told at the next start */
    bool (*server_cas)(int supervisor_fd, struct span pem);
    const char *ocsp_url;                   /* that each device certificate names, with /ACCOUNT behind; NULL or "": none.  At most VAULT_OCSP_URL_MAX bytes of printable ASCII */
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

/* --- `musterd vault status` and `musterd vault rekey` -------------------------------------------------------------------------- */

/* Private keys by what they are for. */
enum vault_keys { VAULT_KEYS_SERVER_CA, VAULT_KEYS_AUDIT, VAULT_KEYS_FLEET_ROOT, VAULT_KEYS_FORMER_ROOT, VAULT_KEYS_ISSUING_CA, VAULT_KEYS_FORMER_ISSUING,
                  VAULT_KEYS_PROVISIONING_CA, VAULT_KEYS_FORMER_SERVER, VAULT_KEYS_IN_TOKEN /* of those above */, VAULT_KEYS_N };
enum vault_token { VAULT_TOKEN_NONE, VAULT_TOKEN_ANSWERS, VAULT_TOKEN_SILENT }; /* none is configured; it is there; it is not */
struct vault_status {
    uint8_t id[16];                /* of the vault */
    enum key_master_kind kind;     /* where its master key comes from */
    uint32_t rekeys;               /* how often that was changed */
    int64_t rekeyed;               /* when last; 0: never */
    uint64_t version;
    uint32_t keys[VAULT_KEYS_N];   /* how many */
    enum vault_token token;
};
struct vault_rekey {
    enum key_master_kind kind;     /* of the next master key */
    struct key_master_costs costs;
    struct span key;               /* KEY_MASTER_LEN bytes */
};
/* Of a running vault, at the socket of the export; blocking, up to 30 s, a rekey up to 10 minutes.  MUSTER_EUNAVAILABLE (nobody listens), _EROLE,
 * _EVAULT, _EBUSY, _EINVALID.  When vault_rekey_request() returns 0 the vault opens with the next key alone; after a failure mostly with the old
 * one: the head says (vault_is_opened_by). */
int vault_status_request(const char *path, struct vault_status *out, struct err *err) MUSTER_MUST_CHECK;
int vault_rekey_request(const char *path, const struct vault_rekey *rq, struct vault_status *out, struct err *err) MUSTER_MUST_CHECK;
/* The same of a vault that nobody has open. */
int vault_rekey_offline(int dir_fd, const struct key_master_options *master, const struct vault_rekey *rq, struct vault_status *out,
                        struct err *err) MUSTER_MUST_CHECK;
/* What the head says alone: id, kind and changes. */
int vault_status_offline(int dir_fd, struct vault_status *out, struct err *err) MUSTER_MUST_CHECK;
/* 1: the key is the vault's master key; 0: it is not. */
int vault_is_opened_by(int dir_fd, struct span key, struct err *err) MUSTER_MUST_CHECK;

/* Supervisor: a pair of close-on-exec SOCK_SEQPACKET sockets, fds[0] for the client, fds[1] for the vault. */
int vault_channel_pair(int fds[2], struct err *err) MUSTER_MUST_CHECK;
/* Supervisor: hands the vault's end of a new channel over supervisor_fd; fd stays the caller's (close it afterwards). */
int vault_channel_send(int supervisor_fd, enum vault_channel kind, int fd, struct err *err) MUSTER_MUST_CHECK;

#endif
