/* vault/export_request: the asking end of an export, for `musterd vault export`, `vault status` and `vault rekey`; see vault.h and process.h.  Blocks,
 * with one deadline over all. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "vault/wire.h"

#define DEADLINE_MS 30000
#define REKEY_DEADLINE_MS 600000

static int wait_for(int fd, short events, int64_t deadline, struct err *err) {
    for (;;) {
        int64_t left = deadline - clock_mono_ms();
        struct pollfd p = {.fd = fd, .events = events};
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (n > 0)
            return 0;
        if (n == 0)
            return err_set(err, MUSTER_EVAULT, "The vault did not answer in time.");
        if (errno != EINTR)
            return err_set(err, MUSTER_EVAULT, "The vault's socket cannot be waited for: %s.", strerror(errno));
    }
}

static int connect_to(const char *path, int *out, struct err *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return err_set(err, MUSTER_EINVALID, "The path of the vault's socket is too long.");
    memcpy(address.sun_path, path, strlen(path) + 1);
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, MUSTER_EUNAVAILABLE, "No socket can be made: %s.", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        if (errno == EACCES || errno == EPERM)
            return err_set(err, MUSTER_EROLE, "The vault's socket %s may not be used by this user.", path);
        return err_set(err, MUSTER_EUNAVAILABLE, "Nobody listens at the vault's socket %s: %s.", path, strerror(errno));
    }
    *out = TAKE_FD(fd);
    return 0;
}

/* A peer that refuses at once closes without reading: its answer is there all the same, so a failure to send is not the end. */
static int send_all(int fd, struct span s, int64_t deadline, struct err *err) {
    while (s.n) {
        ssize_t n = send(fd, s.p, s.n, MSG_NOSIGNAL);
        if (n > 0) {
            s = span_sub(s, (size_t)n, s.n);
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET)
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return err_set(err, MUSTER_EVAULT, "The vault cannot be asked: %s.", strerror(errno));
        int rc = wait_for(fd, POLLOUT, deadline, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int receive_exactly(int fd, uint8_t *p, size_t n, int64_t deadline, struct err *err) {
    for (size_t got = 0; got < n;) {
        int rc = wait_for(fd, POLLIN, deadline, err);
        if (rc)
            return rc;
        ssize_t more = recv(fd, p + got, n - got, 0);
        if (more < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (more <= 0)
            return err_set(err, MUSTER_EVAULT, "The vault ended the connection without an answer.");
        got += (size_t)more;
    }
    return 0;
}

static int receive_answer(int fd, int64_t deadline, struct buf *out, struct err *err) {
    CLEANUP(buf_fini) struct buf body = BUF_INIT(WIRE_EXPORT_ANSWER_MAX);
    struct wire_export_answer a;
    uint8_t head[4];
    int rc = receive_exactly(fd, head, sizeof head, deadline, err);
    if (rc)
        return rc;
    struct cursor c = cursor_of(span_of(head, sizeof head));
    uint32_t n = cursor_u32(&c);
    uint8_t *p = n && n <= WIRE_EXPORT_ANSWER_MAX ? buf_extend(&body, n) : NULL;
    if (!p)
        return err_set(err, MUSTER_EVAULT, "The vault's answer has an impossible length.");
    if ((rc = receive_exactly(fd, p, n, deadline, err)))
        return rc;
    if (wire_export_answer_read(buf_span(&body), &a))
        return err_set(err, MUSTER_EVAULT, "The vault's answer is malformed.");
    if (a.rc)
        return err_set(err, a.rc, "%.*s", SPAN_FMT(a.text));
    buf_add(out, a.text);
    return buf_check(out, err);
}

static int ask(const char *path, struct span account, struct span passphrase, int64_t deadline, struct buf *out, struct err *err) {
    CLEANUP(fd_close) int fd = -1;
    CLEANUP(buf_wipe) struct buf frame = BUF_INIT(4 + WIRE_EXPORT_REQUEST_MAX);
    /* All the memory at once: a buffer that grows leaves copies of the passphrase behind. */
    if (!buf_extend(&frame, frame.max))
        return err_set(err, MUSTER_ENOMEM, NULL);
    buf_clear(&frame);
    buf_add_u32(&frame, (uint32_t)(2 + account.n + 2 + passphrase.n));
    int rc = wire_export_write(account, passphrase, &frame);
    if (rc)
        return err_set(err, rc, NULL);
    if ((rc = connect_to(path, &fd, err)) || (rc = send_all(fd, buf_span(&frame), deadline, err)))
        return rc;
    return receive_answer(fd, deadline, out, err);
}

int vault_export_request(const char *path, struct span account, struct span passphrase, struct buf *out, struct err *err) {
    if (passphrase.n < VAULT_PASSPHRASE_MIN || passphrase.n > VAULT_PASSPHRASE_MAX)
        return err_set(err, MUSTER_EINVALID, "The passphrase has not between %d and %d bytes.", VAULT_PASSPHRASE_MIN, VAULT_PASSPHRASE_MAX);
    if (account.n < 1 || account.n > VAULT_ACCOUNT_MAX)
        return err_set(err, MUSTER_EINVALID, "An account's name has 1 to %d characters.", VAULT_ACCOUNT_MAX);
    return ask(path, account, passphrase, clock_mono_ms() + DEADLINE_MS, out, err);
}

static int ask_local(const char *path, const struct wire_local_request *rq, int64_t wait_ms, struct vault_status *out, struct err *err) {
    CLEANUP(buf_wipe) struct buf body = BUF_INIT(VAULT_PASSPHRASE_MAX);
    CLEANUP(buf_fini) struct buf answer = BUF_INIT(WIRE_EXPORT_ANSWER_MAX);
    if (!buf_extend(&body, body.max)) /* as above */
        return err_set(err, MUSTER_ENOMEM, NULL);
    buf_clear(&body);
    int rc = wire_local_write(rq, &body);
    if (rc)
        return err_set(err, rc, NULL);
    if ((rc = ask(path, SPAN_NONE, buf_span(&body), clock_mono_ms() + wait_ms, &answer, err)))
        return rc;
    return wire_status_read(buf_span(&answer), out) ? err_set(err, MUSTER_EVAULT, "The vault's answer is malformed.") : 0;
}

int vault_status_request(const char *path, struct vault_status *out, struct err *err) {
    const struct wire_local_request rq = {.op = WIRE_LOCAL_STATUS};
    return ask_local(path, &rq, DEADLINE_MS, out, err);
}

int vault_rekey_request(const char *path, const struct vault_rekey *rekey, struct vault_status *out, struct err *err) {
    const struct wire_local_request rq = {.op = WIRE_LOCAL_REKEY, .kind = rekey->kind, .costs = rekey->costs, .key = rekey->key};
    if (rekey->key.n != KEY_MASTER_LEN)
        return err_set(err, MUSTER_EINTERNAL, "A master key has %zu bytes.", rekey->key.n);
    return ask_local(path, &rq, REKEY_DEADLINE_MS, out, err);
}
