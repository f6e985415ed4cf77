/* vault/channel: the supervisor's helpers; see process.h. */
#include <errno.h>
#include <sys/socket.h>

#include "vault/channel.h"

int vault_channel_pair(int fds[2], struct err *err) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        return err_set(err, MUSTER_EUNAVAILABLE, "No channel to the vault can be made: %s.", strerror(errno));
    return 0;
}

union control {
    struct cmsghdr header; /* for its alignment */
    char bytes[CMSG_SPACE(sizeof(int))];
};

int vault_channel_send(int supervisor_fd, enum vault_channel kind, int fd, struct err *err) {
    uint8_t byte = (uint8_t)kind;
    struct iovec iov = {&byte, 1};
    union control control = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    ssize_t n;
    while ((n = sendmsg(supervisor_fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL)) < 0 && errno == EINTR)
        continue;
    return n == 1 ? 0 : err_retry(err, MUSTER_EVAULT, 1, "The channel cannot be handed to the vault: %s.", strerror(errno));
}

int channel_receive_fd(int supervisor_fd, struct vault_channel_fd *out) {
    uint8_t byte = 0;
    struct iovec iov = {&byte, 1};
    union control control = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t n;
    while ((n = recvmsg(supervisor_fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    if (n <= 0)
        return n < 0 && errno == EAGAIN ? RECORD_LATER : RECORD_ENDED;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    CLEANUP(fd_close) int fd = -1;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    if (fd < 0 || m.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || (byte != VAULT_CHANNEL_GATEWAY && byte != VAULT_CHANNEL_CONTROL && byte != VAULT_CHANNEL_TOKEN))
        return RECORD_MALFORMED;
    *out = (struct vault_channel_fd){(enum vault_channel)byte, TAKE_FD(fd)};
    return 1;
}
