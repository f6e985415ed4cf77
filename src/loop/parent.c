/* parent: see parent.h. */
#include "loop/parent.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

struct head {
    uint32_t type, index;
};

int parent_send(int socket, enum parent_type type, uint32_t index, int fd, const char *text, struct err *err) {
    struct head head = {type, index};
    size_t n = text ? strlen(text) : 0;
    if (n > PARENT_TEXT_MAX)
        return err_set(err, MUSTER_EINVALID, "The message to another process is too long.");
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)text, n}};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.space = {0}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = n ? 2 : 1};
    if (fd >= 0) {
        m.msg_control = control.space;
        m.msg_controllen = sizeof control.space;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? err_set(err, MUSTER_EUNAVAILABLE, "Another process of Muster cannot be reached: %s.", strerror(errno)) : 0;
}

/* The one descriptor that came along, or -1; any others are closed. */
static int take_fd(struct msghdr *m) {
    int fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int one;
            memcpy(&one, CMSG_DATA(c) + i * sizeof one, sizeof one);
            if (fd < 0)
                fd = one;
            else
                fd_close(one);
        }
    }
    return fd;
}

int parent_recv(int socket, struct parent_message *out, struct err *err) {
    struct head head;
    union {
        char space[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec parts[2] = {{&head, sizeof head}, {out->text, PARENT_TEXT_MAX}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t n;
    do
        n = recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (n <= 0)
        return err_set(err, MUSTER_EUNAVAILABLE, "Another process of Muster has ended.");
    out->fd = take_fd(&m);
    if ((size_t)n < sizeof head || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        fd_close(TAKE_FD(out->fd));
        return err_set(err, MUSTER_EINVALID, "A message between Muster's processes is malformed.");
    }
    out->type = head.type;
    out->index = head.index;
    out->text[(size_t)n - sizeof head] = '\0';
    return 1;
}

struct parent {
    struct loop *loop;
    struct loop_watch *watch;
    int socket;
    parent_fn fn;
    void *arg;
};

static void readable(void *arg) {
    struct parent *p = arg;
    for (;;) {
        struct parent_message m;
        int rc = parent_recv(p->socket, &m, NULL);
        if (rc == 0)
            return;
        if (rc < 0) {
            loop_watch_free(TAKE(p->watch));
            loop_stop(p->loop);
            return;
        }
        p->fn(p->arg, &m);
        fd_close(m.fd);
    }
}

struct parent *parent_new(struct loop *l, int socket, parent_fn fn, void *arg) {
    struct parent *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (struct parent){.loop = l, .socket = socket, .fn = fn, .arg = arg};
    p->watch = loop_watch_new(l, socket, readable, p);
    if (!p->watch) {
        free(p);
        return NULL;
    }
    return p;
}

void parent_free(struct parent *p) {
    if (!p)
        return;
    loop_watch_free(p->watch);
    free(p);
}
