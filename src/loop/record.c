/* loop/record: see record.h. */
#include "loop/record.h"

#include <errno.h>
#include <sys/socket.h>

int record_send(int fd, struct span message) {
    struct iovec iov = {(void *)(uintptr_t)message.p, message.n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;
    while ((n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL)) < 0 && errno == EINTR)
        continue;
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS ? RECORD_LATER : RECORD_ENDED;
    return (size_t)n == message.n ? 0 : RECORD_ENDED;
}

int record_receive(int fd, uint8_t *into, size_t max, struct span *message) {
    struct iovec iov = {into, max};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;
    while ((n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? RECORD_LATER : RECORD_ENDED;
    if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return RECORD_MALFORMED;
    *message = span_of(into, (size_t)n);
    return 1;
}
