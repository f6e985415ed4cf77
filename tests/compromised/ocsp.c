/* ocsp: what the gateway's channel to control gives to somebody who writes the messages himself; see attack.h.
 *
 * MUSTER_ATTACK_OCSP: questions, each ACCOUNT:HEX of an OCSPRequest, separated by blanks.  "ocsp N: HEX" of the answer, "ocsp N: status S", or "ocsp N: ended". */
#include <poll.h>
#include <stdlib.h>

#include "attack.h"
#include "base/clock.h"
#include "base/hex.h"
#include "loop/parent.h"
#include "loop/record.h"
#include "registry/ocsp_ask.h"

#define ANSWER_MS 15000
#define CHANNEL_MS 20000

/* One of the channels that the supervisor has sent, or sends once control is there again; -1: none. */
static int channel_of(struct attack *a) {
    for (int64_t until = clock_mono_ms() + CHANNEL_MS; clock_mono_ms() < until;) {
        struct pollfd p = {.fd = a->o->parent_fd, .events = POLLIN};
        struct parent_message m;
        if (poll(&p, 1, 100) <= 0 || parent_recv(a->o->parent_fd, &m, NULL) <= 0)
            continue;
        if (m.type == PARENT_OCSP)
            return m.fd;
        fd_close(m.fd);
    }
    return -1;
}

/* 1 and *t; 0: the channel has ended, or says nothing. */
static int told(int fd, struct ocsp_told *t) {
    static uint8_t into[OCSP_TOLD_MAX];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct span got;
    return poll(&p, 1, ANSWER_MS) == 1 && record_receive(fd, into, sizeof into, &got) == 1 && ocsp_told_read(got, t) == 0;
}

static void ask_all(int fd) {
    CLEANUP(free) char *all = strdup(given("MUSTER_ATTACK_OCSP"));
    char *rest = NULL;
    uint32_t n = 0;
    for (char *one = strtok_r(all, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
        uint8_t der[OCSP_REQUEST_MAX];
        CLEANUP(buf_fini) struct buf message = BUF_INIT(OCSP_ASK_MAX), hex = BUF_INIT(2 * OCSP_TOLD_MAX);
        char *colon = strchr(one, ':');
        struct ocsp_told t;
        if (!colon || strlen(colon + 1) > sizeof der * 2 || hex_decode(span_str(colon + 1), der, strlen(colon + 1) / 2))
            abort();
        const struct ocsp_question q = {.id = ++n, .account = span_of((const uint8_t *)one, (size_t)(colon - one)), .der = span_of(der, strlen(colon + 1) / 2)};
        if (ocsp_question_write(&q, &message) || record_send(fd, buf_span(&message)) || !told(fd, &t)) {
            say("ocsp %u: ended", n);
        } else if (t.what) {
            say("ocsp %u: status %d", n, (int)t.what);
        } else {
            hex_add(&hex, t.der);
            say("ocsp %u: %s", n, buf_str(&hex));
        }
    }
}

/* What is no question ends the channel, and nothing else. */
static void malformed(int fd) {
    uint8_t noise[OCSP_ASK_MAX];
    struct ocsp_told t;
    secret_random_bytes(noise, sizeof noise);
    memset(noise, 0, 4); /* no id */
    say("ocsp malformed: %s", record_send(fd, span_of(noise, sizeof noise)) == 0 && told(fd, &t) ? "answered" : "ended");
}

void attack_ocsp(struct attack *a) {
    CLEANUP(fd_close) int fd = channel_of(a);
    if (fd < 0) {
        say("ocsp: no channel");
        return;
    }
    ask_all(fd);
    malformed(fd);
}
