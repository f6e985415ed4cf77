/* vault/process: see process.h.  One thread, one ppoll: channels, the supervisor, and the export socket.
 *
 * Nothing here waits for one peer.  An answer that a channel does not take at once is kept, and until it is gone nothing more is
 * read from that channel; a channel that does not take it for VAULT_TIMEOUT_MS is closed. */
#include "vault/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "vault/channel.h"
#include "vault/serve.h"

#define MESSAGES_A_TURN 16 /* of one channel, before the others have theirs */

struct channel {
    enum vault_channel kind;
    uint64_t id; /* never used again */
    int fd;
    struct buf pending;   /* an answer that the channel has not taken yet */
    int64_t blocked_till; /* monotonic, ms; while pending is not empty */
};

struct run {
    struct vault vault;
    struct channel channels[VAULT_CHANNELS_MAX]; /* oldest first */
    size_t n;
    uint64_t ids;
    int64_t beat_at; /* monotonic, ms: when who waits for the token is told that the vault is well */
    int supervisor_fd, export_fd;
    struct exports_options exports;
    bool (*rekey)(int supervisor_fd, struct span key);
    bool (*server_cas)(int supervisor_fd, struct span pem);
    struct buf answer;
    uint8_t message[WIRE_MESSAGE_MAX];
};

static volatile sig_atomic_t terminated;
static void on_term(int number) { terminated = 1; }

/* --- the process itself ------------------------------------------------------------------------------------------------------ */

/* Only where nothing limits it: under a limit, locking everything to come makes memory run out instead.  Keys and passphrases lie in
 * guarded memory, which is locked by itself. */
static void lock_memory(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_max == RLIM_INFINITY) {
        limit.rlim_cur = RLIM_INFINITY;
        (void)setrlimit(RLIMIT_MEMLOCK, &limit);
    }
    if (getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur != RLIM_INFINITY)
        log_event(LOG_INFO, "vault_memory_not_locked", "why", "RLIMIT_MEMLOCK", NULL);
    else if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT))
        log_event(LOG_INFO, "vault_memory_not_locked", "why", strerror(errno), NULL);
}

static int harden(struct err *err) {
    const struct rlimit no_core = {0, 0};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || setrlimit(RLIMIT_CORE, &no_core))
        return err_set(err, MUSTER_ESANDBOX, "The vault's process cannot be made undumpable: %s.", strerror(errno));
    lock_memory();
    return secret_init() ? err_set(err, MUSTER_EINTERNAL, "The cryptographic library cannot be used.") : 0;
}

/* SIGTERM is let through while the process waits and at no other time; *waiting is the mask for that. */
static int handle_signals(sigset_t *waiting, struct err *err) {
    const struct sigaction ignore = {.sa_handler = SIG_IGN}, term = {.sa_handler = on_term};
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    terminated = 0;
    if (sigprocmask(SIG_BLOCK, &blocked, waiting) || sigaction(SIGTERM, &term, NULL) || sigaction(SIGINT, &ignore, NULL) ||
        sigaction(SIGHUP, &ignore, NULL) || sigaction(SIGPIPE, &ignore, NULL))
        return err_set(err, MUSTER_EINTERNAL, "Signals cannot be handled: %s.", strerror(errno));
    sigdelset(waiting, SIGTERM);
    return 0;
}

/* --- channels ----------------------------------------------------------------------------------------------------------------- */

static void tell_server_cas(struct run *r);

static void channel_add(struct run *r, struct vault_channel_fd c) {
    if (c.kind == VAULT_CHANNEL_TOKEN) {
        park_attach(r->vault.park, c.fd);
        return;
    }
    if (r->n == VAULT_CHANNELS_MAX) {
        log_event(LOG_ERROR, "vault_too_many_channels", NULL);
        fd_close(c.fd);
        return;
    }
    r->channels[r->n++] = (struct channel){.kind = c.kind, .id = ++r->ids, .fd = c.fd, .pending = BUF_INIT(WIRE_MESSAGE_MAX)};
}

static void channel_end(struct channel *c) {
    fd_close(c->fd);
    c->fd = -1;
    buf_fini(&c->pending);
}

static void drop_ended(struct run *r) {
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->channels[i].fd >= 0)
            r->channels[kept++] = r->channels[i];
    r->n = kept;
}

/* Sends, or keeps for later. */
static void channel_put(struct channel *c, struct span message, int64_t mono_ms) {
    int rc = record_send(c->fd, message);
    if (rc == RECORD_LATER) {
        buf_add(&c->pending, message);
        c->blocked_till = mono_ms + VAULT_TIMEOUT_MS;
        rc = buf_ok(&c->pending) ? 0 : RECORD_ENDED;
    }
    if (rc)
        channel_end(c);
}

static void channel_flush(struct channel *c) {
    int rc = record_send(c->fd, buf_span(&c->pending));
    if (rc == RECORD_LATER)
        return;
    buf_fini(&c->pending);
    if (rc)
        channel_end(c);
}

/* The answer comes later; or, where it cannot be waited for, it is there and says so. */
static int park(struct run *r, const struct channel *c, struct span message, struct err *err) {
    struct err why = ERR_INIT;
    if (park_take(r->vault.park, c->id, c->kind, message, &r->vault.trail, clock_mono_ms(), &why) == 0)
        return SERVE_WANTS;
    trail_refuse(&r->vault.trail, &why);
    return serve_again(&r->vault, c->kind, message, &r->vault.trail, &r->answer, err);
}

static bool deliver(void *arg, uint64_t channel, struct span answer) {
    struct run *r = arg;
    for (size_t i = 0; i < r->n; i++) {
        struct channel *c = &r->channels[i];
        if (c->id != channel || c->fd < 0)
            continue;
        if (c->pending.n)
            return false;
        channel_put(c, answer, clock_mono_ms());
    }
    return true;
}

/* To those that would take a slow token for a vault that hangs. */
static void beat(struct run *r, int64_t mono_ms) {
    CLEANUP(buf_fini) struct buf event = BUF_INIT(16);
    if (mono_ms < r->beat_at)
        return;
    r->beat_at = mono_ms + PARK_BEAT_MS;
    buf_add_u32(&event, 0);
    buf_add_u16(&event, WIRE_WORKING);
    for (size_t i = 0; i < r->n; i++)
        if (r->channels[i].fd >= 0 && !r->channels[i].pending.n && park_has(r->vault.park, r->channels[i].id))
            (void)!record_send(r->channels[i].fd, buf_span(&event)); /* one that is full has something to read */
}

/* 0, also where the channel has ended; a failure ends the process. */
static int channel_read(struct run *r, struct channel *c, struct err *err) {
    for (int i = 0; i < MESSAGES_A_TURN && c->fd >= 0 && c->pending.n == 0; i++) {
        struct span message;
        int got = record_receive(c->fd, r->message, sizeof r->message, &message);
        if (got == RECORD_LATER)
            return 0;
        if (got == RECORD_ENDED) {
            channel_end(c);
            return 0;
        }
        if (got == RECORD_MALFORMED)
            return err_set(err, MUSTER_EINVALID, "A channel carried a message that is no request.");
        int rc = serve_message(&r->vault, c->kind, message, &r->answer, err);
        if (rc == SERVE_WANTS && (rc = park(r, c, message, err)) == SERVE_WANTS)
            continue;
        if (rc < 0)
            return rc;
        tell_server_cas(r);
        channel_put(c, buf_span(&r->answer), clock_mono_ms());
    }
    return 0;
}

/* The newest channel of control that is not blocked. */
static bool tell_control(void *arg, const struct vault_export *wanted) {
    struct run *r = arg;
    CLEANUP(buf_fini) struct buf event = BUF_INIT(256);
    for (size_t i = r->n; i-- > 0;) {
        struct channel *c = &r->channels[i];
        if (c->kind == VAULT_CHANNEL_CONTROL && c->fd >= 0 && c->pending.n == 0)
            return wire_wanted_write(wanted, &event) == 0 && record_send(c->fd, buf_span(&event)) == 0;
    }
    return false;
}

static bool tell_key(void *arg, struct span key) {
    const struct run *r = arg;
    return !r->rekey || r->rekey(r->supervisor_fd, key);
}

/* Before anything else leaves that rests on them. */
static void tell_server_cas(struct run *r) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(64 * 1024);
    struct err err = ERR_INIT;
    if (r->vault.server_cas_told || !r->server_cas)
        return;
    r->vault.server_cas_told = core_server_cas(r->vault.core, &pem, &err) == 0 && r->server_cas(r->supervisor_fd, buf_span(&pem));
    if (!r->vault.server_cas_told) {
        log_event(LOG_ERROR, "server_cas_not_told", "meaning", "server-ca.pem has those of before until the next start", "why", err_text(&err), NULL);
        r->vault.server_cas_told = true; /* at the next start */
    }
}

/* --- the loop ------------------------------------------------------------------------------------------------------------------- */

#define POLLS_MAX (3 + VAULT_CHANNELS_MAX + EXPORTS_MAX)

static int supervisor_read(struct run *r, bool *ended) {
    for (;;) {
        struct vault_channel_fd c;
        int got = channel_receive_fd(r->supervisor_fd, &c);
        if (got == RECORD_LATER)
            return 0;
        if (got == RECORD_ENDED) {
            *ended = true;
            return 0;
        }
        if (got == RECORD_MALFORMED)
            log_event(LOG_ERROR, "vault_channel_malformed", NULL);
        else
            channel_add(r, c);
    }
}

static int64_t sooner(int64_t a, int64_t b) { return a < b ? a : b; }

/* *first: when something is due. */
static int expire(struct run *r, int64_t mono_ms, int64_t *out, struct err *err) {
    int64_t first = exports_expire(r->vault.exports, &r->vault, mono_ms), parked;
    int rc = park_expire(r->vault.park, &r->vault, mono_ms, &parked, err);
    if (rc)
        return rc;
    park_deliver(r->vault.park, deliver, r);
    if (park_waits(r->vault.park)) {
        beat(r, mono_ms);
        first = sooner(first, r->beat_at);
    }
    first = sooner(first, parked);
    for (size_t i = 0; i < r->n; i++) {
        struct channel *c = &r->channels[i];
        if (c->fd < 0 || c->pending.n == 0)
            continue;
        if (c->blocked_till <= mono_ms) {
            log_event(LOG_WARN, "vault_channel_blocked", "kind", c->kind == VAULT_CHANNEL_GATEWAY ? "gateway" : "control", NULL);
            channel_end(c);
        } else if (c->blocked_till < first) {
            first = c->blocked_till;
        }
    }
    drop_ended(r);
    *out = upkeep_pending(&r->vault.upkeep) ? mono_ms : first;
    return 0;
}

static size_t fill_polls(struct run *r, struct pollfd polls[POLLS_MAX], size_t *exports) {
    size_t n = 0;
    polls[n++] = (struct pollfd){.fd = r->supervisor_fd, .events = POLLIN}; /* a negative one is passed over */
    polls[n++] = (struct pollfd){.fd = r->export_fd, .events = POLLIN};
    polls[n++] = park_poll(r->vault.park);
    for (size_t i = 0; i < r->n; i++)
        polls[n++] = (struct pollfd){.fd = r->channels[i].fd, .events = r->channels[i].pending.n ? POLLOUT : POLLIN};
    *exports = n;
    return n + exports_poll(r->vault.exports, polls + n);
}

/* What ppoll found: polls[3 + i] is channel i. */
static int turn(struct run *r, const struct pollfd *polls, size_t exports, size_t n, bool *ended, struct err *err) {
    size_t channels = r->n; /* those that are added in this turn were not polled */
    int rc = 0;
    for (size_t i = 0; i < channels; i++) {
        struct channel *c = &r->channels[i];
        if (!polls[3 + i].revents)
            continue;
        if (c->pending.n)
            channel_flush(c);
        else if ((rc = channel_read(r, c, err)))
            return rc;
    }
    if (polls[2].revents && (rc = park_ready(r->vault.park, &r->vault, clock_mono_ms(), err)))
        return rc;
    tell_server_cas(r);
    park_deliver(r->vault.park, deliver, r);
    for (size_t i = exports; i < n; i++)
        if (polls[i].revents)
            exports_ready(r->vault.exports, &r->vault, polls[i].fd, &r->exports, clock_mono_ms());
    if (polls[1].revents)
        exports_accept(r->vault.exports, r->export_fd, &r->exports, clock_mono_ms());
    return polls[0].revents ? supervisor_read(r, ended) : 0;
}

static int run_loop(struct run *r, const sigset_t *waiting, struct err *err) {
    struct pollfd polls[POLLS_MAX];
    for (bool ended = false; !ended && !terminated;) {
        int64_t now = clock_mono_ms(), first = 0;
        int rc = expire(r, now, &first, err);
        if (rc)
            return rc;
        struct timespec left = {(time_t)((first - now) / 1000), (long)((first - now) % 1000 * 1000000)};
        size_t exports, n = fill_polls(r, polls, &exports);
        int ready = ppoll(polls, n, first == INT64_MAX ? NULL : &left, waiting);
        if (ready < 0 && errno != EINTR)
            return err_set(err, MUSTER_EINTERNAL, "The vault cannot wait for messages: %s.", strerror(errno));
        rc = ready > 0 ? turn(r, polls, exports, n, &ended, err) : 0;
        if (!rc && upkeep_pending(&r->vault.upkeep))
            rc = exports_work(r->vault.exports, &r->vault, &r->exports, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* --- start and end ------------------------------------------------------------------------------------------------------------------ */

static void run_free(struct run *r) {
    vault_close(&r->vault);
    park_free(r->vault.park);
    for (size_t i = 0; i < r->n; i++)
        channel_end(&r->channels[i]);
    fd_close(r->supervisor_fd);
    fd_close(r->export_fd);
    buf_fini(&r->answer);
    secret_wipe(r->message, sizeof r->message);
    free(r);
}
DEFINE_CLEANUP(run_free, struct run *)

static void close_all(const struct vault_process_options *o) {
    for (size_t i = 0; i < o->n_channels; i++)
        fd_close(o->channels[i].fd);
    fd_close(o->supervisor_fd);
    fd_close(o->export_fd);
}

static struct run *run_new(const struct vault_process_options *o) {
    struct run *r = calloc(1, sizeof *r);
    if (!r) {
        close_all(o);
        return NULL;
    }
    r->supervisor_fd = o->supervisor_fd;
    r->export_fd = o->export_fd;
    r->exports = (struct exports_options){.allowed = {0, geteuid(), o->export_uid}, .tell = tell_control, .tell_arg = r, .tell_key = tell_key, .tell_key_arg = r};
    r->rekey = o->rekey;
    r->server_cas = o->server_cas;
    buf_init(&r->answer, WIRE_MESSAGE_MAX);
    if (!(r->vault.park = park_new(o->token, NULL))) {
        close_all(o);
        free(r);
        return NULL;
    }
    for (size_t i = 0; i < o->n_channels; i++)
        channel_add(r, o->channels[i]);
    return r;
}

static int run_whole(const struct vault_process_options *o, struct err *err) {
    CLEANUP(run_free) struct run *r = run_new(o);
    sigset_t waiting;
    if (!r)
        return err_set(err, MUSTER_ENOMEM, NULL);
    int rc = harden(err);
    if (rc || (rc = handle_signals(&waiting, err)) || (rc = vault_open(&r->vault, o->dir_fd, &o->master, err)))
        return rc;
    r->vault.ocsp_url = o->ocsp_url;
    tell_server_cas(r);
    if (o->confine && (rc = o->confine(o->confine_arg, err)))
        return rc;
    log_event(LOG_INFO, "vault_open", "version", log_num((long long)records_version(r->vault.records)), NULL);
    return run_loop(r, &waiting, err);
}

int vault_process_run(const struct vault_process_options *o, struct err *err) {
    struct err why = ERR_INIT;
    int rc = run_whole(o, &why);
    if (rc)
        log_err(LOG_ERROR, "vault_ended", &why, NULL);
    if (err)
        *err = why;
    return rc;
}
