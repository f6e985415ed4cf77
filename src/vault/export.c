/* vault/export: see export.h. */
#include "vault/export.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "vault/policy.h"
#include "vault/serve.h"

#define FRAME_MAX (4 + WIRE_EXPORT_REQUEST_MAX)

#define WORK_MS 600000 /* for a status or another master key */

/* WAITING: for control; WORKING: upkeep.h */
enum stage { STAGE_FREE, STAGE_READING, STAGE_WAITING, STAGE_WORKING };

struct export {
    enum stage stage;
    int fd;
    int64_t deadline;     /* monotonic, ms */
    uint32_t uid, pid;    /* of the peer */
    struct secret frame;  /* what has come: the request with its passphrase */
    size_t got;
    struct span account, passphrase; /* inside frame, from STAGE_WAITING on */
    uint8_t nonce[VAULT_NONCE_LEN];
};

struct exports {
    struct export at[EXPORTS_MAX];
};

struct exports *exports_new(void) { return calloc(1, sizeof(struct exports)); }

static void finish(struct export *e) {
    fd_close(e->fd);
    secret_fini(&e->frame);
    *e = (struct export){.fd = -1};
}

void exports_free(struct exports *es) {
    if (!es)
        return;
    for (size_t i = 0; i < EXPORTS_MAX; i++)
        if (es->at[i].stage != STAGE_FREE)
            finish(&es->at[i]);
    free(es);
}

/* --- answers -------------------------------------------------------------------------------------------------------------------- */

/* One attempt: an answer fits in the empty buffer of the socket, and who does not read has lost. */
static void send_answer(int fd, int rc, struct span text) {
    CLEANUP(buf_fini) struct buf body = BUF_INIT(WIRE_EXPORT_ANSWER_MAX);
    CLEANUP(buf_fini) struct buf frame = BUF_INIT(WIRE_EXPORT_ANSWER_MAX + 4);
    if (wire_export_answer_write(&(struct wire_export_answer){rc, text}, &body))
        return;
    buf_add_u32(&frame, (uint32_t)body.n);
    buf_add(&frame, buf_span(&body));
    struct iovec iov = {frame.p, frame.n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (!buf_ok(&frame) || sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)frame.n)
        log_event(LOG_WARN, "vault_export_not_delivered", NULL);
}

static void log_export(enum log_level level, const char *event, const struct export *e, const struct err *why) {
    char account[VAULT_ACCOUNT_MAX + 1] = "";
    if (e->account.n <= VAULT_ACCOUNT_MAX && e->account.n)
        memcpy(account, e->account.p, e->account.n);
    if (why)
        log_err(level, event, why, "account", account, "uid", log_num(e->uid), "pid", log_num(e->pid), NULL);
    else
        log_event(level, event, "account", account, "uid", log_num(e->uid), "pid", log_num(e->pid), NULL);
}

static void refuse(struct export *e, const struct err *why) {
    log_export(LOG_WARN, "vault_export_refused", e, why);
    send_answer(e->fd, why->code, span_str(err_text(why)));
    finish(e);
}

/* --- a connection ----------------------------------------------------------------------------------------------------------------- */

static struct export *free_place(struct exports *es) {
    for (size_t i = 0; i < EXPORTS_MAX; i++)
        if (es->at[i].stage == STAGE_FREE)
            return &es->at[i];
    return NULL;
}

static bool uid_allowed(const struct exports_options *o, uid_t uid) {
    bool allowed = false;
    for (size_t i = 0; i < sizeof o->allowed / sizeof o->allowed[0]; i++)
        allowed = allowed || (o->allowed[i] != (uid_t)-1 && o->allowed[i] == uid);
    return allowed;
}

void exports_accept(struct exports *es, int listen_fd, const struct exports_options *o, int64_t mono_ms) {
    struct export e = {.stage = STAGE_READING, .deadline = mono_ms + VAULT_TIMEOUT_MS};
    struct err why = ERR_INIT;
    struct ucred peer;
    socklen_t n = sizeof peer;
    e.fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (e.fd < 0)
        return;
    if (getsockopt(e.fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) || n != sizeof peer) {
        finish(&e);
        return;
    }
    e.uid = (uint32_t)peer.uid;
    e.pid = (uint32_t)peer.pid;
    struct export *place = free_place(es);
    if (!uid_allowed(o, peer.uid))
        err_set(&why, MUSTER_EROLE, "The user of uid %u may not export private keys.", (unsigned)peer.uid);
    else if (!place || secret_alloc(&e.frame, FRAME_MAX))
        err_retry(&why, MUSTER_EBUSY, SERVE_RETRY_SECONDS, "The vault has %d exports under way.", EXPORTS_MAX);
    if (why.code)
        refuse(&e, &why);
    else
        *place = e;
}

/* What can be said without control: whether the account has a key that may leave. */
static int exported_root(struct vault *v, struct span account, struct account **out, struct err *err) {
    int rc = account_get(v->accounts, account, out, err);
    if (rc)
        return rc;
    if (!(*out)->fleet_root)
        return err_set(err, MUSTER_EMETHODOFF, "The account %s has no fleet root of Muster's own.", (*out)->name);
    if (key_ref_in_token(buf_span(&(*out)->fleet_root->ref)))
        return err_set(err, MUSTER_EMETHODOFF, "The fleet root's key of account %s is in a security module, and cannot leave it.", (*out)->name);
    return 0;
}

static int begin_work(struct export *e, struct vault *v, int64_t mono_ms, struct err *err) {
    struct wire_local_request rq;
    if (wire_local_read(e->passphrase, &rq))
        return err_set(err, MUSTER_EINVALID, "The request to the vault is malformed.");
    int rc = upkeep_begin(&v->upkeep, v, &rq, clock_now(), err);
    if (rc)
        return rc;
    if (rq.op == WIRE_LOCAL_REKEY)
        log_event(LOG_WARN, "vault_rekey_begun", "source", records_kind_name(rq.kind), "uid", log_num(e->uid), "pid", log_num(e->pid), NULL);
    e->stage = STAGE_WORKING;
    e->deadline = mono_ms + WORK_MS;
    return 0;
}

static int ask_control(struct export *e, struct vault *v, const struct exports_options *o, int64_t mono_ms, struct err *err) {
    struct account *a;
    struct span body = span_sub(secret_span(&e->frame), 4, e->got - 4);
    if (wire_export_read(body, &e->account, &e->passphrase))
        return err_set(err, MUSTER_EINVALID, "The request for an export is malformed.");
    if (!e->account.n)
        return begin_work(e, v, mono_ms, err);
    if (e->passphrase.n < VAULT_PASSPHRASE_MIN || e->passphrase.n > VAULT_PASSPHRASE_MAX)
        return err_set(err, MUSTER_EINVALID, "The passphrase has not between %d and %d bytes.", VAULT_PASSPHRASE_MIN, VAULT_PASSPHRASE_MAX);
    int rc = vault_ready(v, err);
    if (rc || (rc = exported_root(v, e->account, &a, err)))
        return rc;
    struct vault_export wanted = {.account = e->account, .uid = e->uid, .pid = e->pid};
    secret_random_bytes(e->nonce, sizeof e->nonce);
    memcpy(wanted.nonce, e->nonce, sizeof wanted.nonce);
    if (!o->tell(o->tell_arg, &wanted))
        return err_retry(err, MUSTER_EVAULT, SERVE_RETRY_SECONDS, "The control process, which records exports, is not there.");
    log_export(LOG_INFO, "vault_export_wanted", e, NULL);
    e->stage = STAGE_WAITING;
    e->deadline = mono_ms + VAULT_TIMEOUT_MS;
    return 0;
}

/* 1: the frame is whole; 0: more is to come. */
static int read_frame(struct export *e, struct err *err) {
    size_t want = 4;
    if (e->got >= 4) {
        struct cursor c = cursor_of(span_of(e->frame.p, 4));
        want += cursor_u32(&c);
    }
    if (want > FRAME_MAX)
        return err_set(err, MUSTER_EINVALID, "The request for an export is too long.");
    if (e->got >= 4 && e->got == want)
        return 1;
    struct iovec iov = {e->frame.p + e->got, want - e->got};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = recvmsg(e->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0)
        return err_set(err, MUSTER_EINVALID, "The request for an export was cut off.");
    e->got += (size_t)n;
    return e->got == want && e->got > 4 ? 1 : 0;
}

static struct export *by_fd(struct exports *es, int fd) {
    for (size_t i = 0; i < EXPORTS_MAX; i++)
        if (es->at[i].stage != STAGE_FREE && es->at[i].fd == fd)
            return &es->at[i];
    return NULL;
}

/* Bytes behind the request, or its end. */
static bool waits_still(const struct export *e) {
    uint8_t byte;
    struct iovec iov = {&byte, sizeof byte};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    return recvmsg(e->fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0 && (errno == EAGAIN || errno == EINTR);
}

static void give_up(struct export *e, struct vault *v) {
    if (e->stage == STAGE_WORKING)
        upkeep_cancel(&v->upkeep, v);
    finish(e);
}

void exports_ready(struct exports *es, struct vault *v, int fd, const struct exports_options *o, int64_t mono_ms) {
    struct export *e = by_fd(es, fd);
    struct err why = ERR_INIT;
    if (!e)
        return;
    if (e->stage != STAGE_READING) { /* bytes behind the request, or its end: whoever asked does not wait any more */
        give_up(e, v);
        return;
    }
    int rc = read_frame(e, &why);
    if (rc == 1)
        rc = ask_control(e, v, o, mono_ms, &why);
    if (rc < 0)
        refuse(e, &why);
}

size_t exports_poll(const struct exports *es, struct pollfd *out) {
    size_t n = 0;
    for (size_t i = 0; i < EXPORTS_MAX; i++)
        if (es->at[i].stage != STAGE_FREE)
            out[n++] = (struct pollfd){.fd = es->at[i].fd, .events = POLLIN};
    return n;
}

int exports_work(struct exports *es, struct vault *v, const struct exports_options *o, struct err *err) {
    CLEANUP(buf_fini) struct buf answer = BUF_INIT(WIRE_EXPORT_ANSWER_MAX - 64);
    struct export *e = NULL;
    struct err why = ERR_INIT;
    bool fatal;
    for (size_t i = 0; i < EXPORTS_MAX; i++)
        if (es->at[i].stage == STAGE_WORKING)
            e = &es->at[i];
    if (!e) {
        upkeep_tidy(&v->upkeep, v);
        return 0;
    }
    if (!waits_still(e)) { /* a request may have waited longer than its command: nobody would look after the key file of its change */
        give_up(e, v);
        return 0;
    }
    int rc = upkeep_step(&v->upkeep, v, o->tell_key, o->tell_key_arg, &answer, &fatal, &why);
    if (rc > 0)
        return 0;
    if (rc) {
        refuse(e, &why);
        return fatal ? err_set(err, rc, "%s", err_text(&why)) : 0;
    }
    send_answer(e->fd, 0, buf_span(&answer));
    finish(e);
    return 0;
}

int64_t exports_expire(struct exports *es, struct vault *v, int64_t mono_ms) {
    int64_t first = INT64_MAX;
    for (size_t i = 0; i < EXPORTS_MAX; i++) {
        struct export *e = &es->at[i];
        struct err why = ERR_INIT;
        if (e->stage == STAGE_FREE)
            continue;
        if (e->deadline > mono_ms) {
            first = e->deadline < first ? e->deadline : first;
            continue;
        }
        if (e->stage == STAGE_WORKING) {
            upkeep_cancel(&v->upkeep, v);
            err_retry(&why, MUSTER_EVAULT, SERVE_RETRY_SECONDS, "It took the vault too long; nothing was changed.");
        } else if (e->stage == STAGE_WAITING)
            err_retry(&why, MUSTER_EVAULT, SERVE_RETRY_SECONDS, "The control process did not record the export in time.");
        else
            err_set(&why, MUSTER_EINVALID, "The request for an export did not arrive in time.");
        refuse(e, &why);
    }
    return first;
}

/* --- control's word ------------------------------------------------------------------------------------------------------------------ */

static int sealed_pem(struct vault *v, struct span account, struct span passphrase, struct buf *pem, struct err *err) {
    struct account *a;
    EVP_PKEY *key;
    int rc = exported_root(v, account, &a, err); /* again: it may have been deleted meanwhile */
    if (rc || (rc = authority_key(a->fleet_root, a->keys, &key, err)) || (rc = key_private_pem_sealed(key, passphrase, pem, err)))
        return rc;
    rc = cert_pem(a->fleet_root->cert, pem);
    return rc ? err_set(err, rc, NULL) : 0;
}

int exports_decide(struct exports *es, struct vault *v, const uint8_t nonce[VAULT_NONCE_LEN], bool allowed, struct err *err) {
    struct export *e = NULL;
    for (size_t i = 0; i < EXPORTS_MAX; i++)
        if (es->at[i].stage == STAGE_WAITING && secret_eq(span_of(es->at[i].nonce, VAULT_NONCE_LEN), span_of(nonce, VAULT_NONCE_LEN)))
            e = &es->at[i];
    if (!e)
        return err_set(err, MUSTER_ENOTFOUND, "The export is not waiting any more.");
    CLEANUP(buf_wipe) struct buf pem = BUF_INIT(WIRE_EXPORT_ANSWER_MAX - 64);
    struct err why = ERR_INIT;
    if (!allowed)
        err_set(&why, MUSTER_EVAULT, "The control process does not allow the export.");
    else if (sealed_pem(v, e->account, e->passphrase, &pem, &why) == 0) {
        send_answer(e->fd, 0, buf_span(&pem));
        log_export(LOG_WARN, "vault_key_exported", e, NULL);
        finish(e);
        return 0;
    }
    refuse(e, &why);
    return 0;
}
