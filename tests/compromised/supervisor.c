/* supervisor: what the gateway's socket to the supervisor, and the memory that it shares, give to somebody who writes himself; see attack.h. */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "attack.h"
#include "loop/parent.h"
#include "metrics/metrics.h"

#define FLOOD 3000

/* As parent_send, but for whatever the caller wants. */
static bool put(int socket, const void *p, size_t n, const int *fds, size_t n_fds) {
    union {
        char space[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control = {.space = {0}};
    struct iovec part = {(void *)(uintptr_t)p, n};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (n_fds) {
        m.msg_control = control.space;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n_fds * sizeof(int))};
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    for (int i = 0; i < 50; i++) {
        if (sendmsg(socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n)
            return true;
        poll(NULL, 0, 2); /* it has not read the ones before */
    }
    return false;
}

struct message {
    uint32_t type, index;
    char text[PARENT_TEXT_MAX];
};

void attack_supervisor(struct attack *a) {
    static const uint32_t types[] = {0, PARENT_READY, PARENT_CHANNEL, PARENT_RELOAD, PARENT_DRAIN, PARENT_EPOCH, PARENT_COURIER, 7, 255, UINT32_MAX};
    static const uint32_t indexes[] = {0, 1, SERVE_LOOPS_MAX, UINT32_MAX};
    const int fds[] = {a->o->listen_fds[0], STDERR_FILENO, a->vault[0]};
    struct message m;
    int sent = 0, all = 0;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++)
            for (size_t n = 0; n <= PARENT_TEXT_MAX; n += PARENT_TEXT_MAX / 2)
                for (size_t with = 0; with <= 3; with += with ? 2 : 1, all++) {
                    m.type = types[t];
                    m.index = indexes[i];
                    memset(m.text, i % 2 ? '\n' : 0xff, sizeof m.text);
                    sent += put(a->o->parent_fd, &m, 8 + n, fds, with);
                }
    for (int i = 0; i < FLOOD; i++, all++) {
        m.type = PARENT_EPOCH;
        sent += put(a->o->parent_fd, &m, 8, NULL, 0);
    }
    say("supervisor: %d of %d messages sent", sent, all);
}

/* Too short, too long, with more descriptors than there is room for: the supervisor ends this process. */
void attack_malformed(struct attack *a) {
    static const uint8_t large[4096];
    const int many[] = {0, 1, 2, 0, 1, 2, 0, 1};
    poll(NULL, 0, 1000); /* a gateway that ends while the server starts ends the start */
    say("malformed: sent");
    (void)!put(a->o->parent_fd, "x", 1, NULL, 0);
    (void)!put(a->o->parent_fd, large, sizeof large, many, 8);
    poll(NULL, 0, 10000);
    say("malformed: still here");
}

/* What is written stays there: the supervisor and control read it for as long as the server runs. */
void attack_shared(struct attack *a) {
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        for (unsigned i = 0; i < 8; i++) {
            if (METRICS_TABLE[m].type == METRICS_TIME || METRICS_TABLE[m].type == METRICS_SIZE)
                metrics_observe((enum metric)m, i % 2 ? INT64_MAX : INT64_MIN);
            else if (METRICS_TABLE[m].type == METRICS_LEVEL)
                metrics_set((enum metric)m, i, i % 2 ? INT64_MAX : INT64_MIN);
            else if (METRICS_TABLE[m].type != METRICS_FOUND)
                metrics_add((enum metric)m, i, i, i % 2 ? INT64_MAX : INT64_MIN);
        }
    atomic_store(a->o->trust, UINT64_MAX);
    atomic_fetch_add(a->o->trust, 2); /* wraps */
    atomic_store(a->o->trust, UINT64_MAX - 1);
    say("shared: written");
}
