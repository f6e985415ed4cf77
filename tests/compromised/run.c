/* run: stands in front of gateway_process_run() (ld's --wrap); see attack.h.
 *
 * MUSTER_ATTACK names the steps, separated by blanks.  The process becomes what a gateway is, says that it is ready, waits for a first client, who knows
 * that the server has begun (a vault that ended before would end the server), takes the steps, and goes on as the gateway that it should be: whatever it did, the rest of the server has to live with it.  Once a server: the word of trust, which is
 * shared with the supervisor, remembers it beyond the process's own end. */
#include "attack.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/parent.h"

#define DONE (1ULL << 62)

int __real_gateway_process_run(const struct gateway_options *o, struct err *err);
int __wrap_gateway_process_run(const struct gateway_options *o, struct err *err);

void say(const char *fmt, ...) {
    char line[4096] = "attack: ";
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line + 8, sizeof line - 9, fmt, ap);
    va_end(ap);
    size_t all = 8 + (n < 0 ? 0 : (size_t)n < sizeof line - 9 ? (size_t)n : sizeof line - 10);
    line[all++] = '\n';
    (void)!write(STDERR_FILENO, line, all);
}

const char *given(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

bool attack_wait_channel(struct attack *a, size_t at, int seconds) {
    int64_t until = clock_mono_ms() + seconds * 1000;
    fd_close(TAKE_FD(a->vault[at]));
    while (a->vault[at] < 0 && clock_mono_ms() < until) {
        struct pollfd p = {.fd = a->o->parent_fd, .events = POLLIN};
        struct parent_message m;
        if (poll(&p, 1, 100) <= 0)
            continue;
        int rc = parent_recv(a->o->parent_fd, &m, NULL);
        if (rc < 0)
            return false;
        if (rc > 0 && m.type == PARENT_CHANNEL && m.index < a->o->loops) {
            fd_close(TAKE_FD(a->vault[m.index]));
            a->vault[m.index] = m.fd;
        } else if (rc > 0) {
            fd_close(m.fd);
        }
    }
    return a->vault[at] >= 0;
}

static const struct {
    const char *name;
    void (*take)(struct attack *a);
} STEPS[] = {
    {"vault", attack_vault},           {"ceiling", attack_ceiling},     {"forbidden", attack_forbidden},
    {"supervisor", attack_supervisor}, {"malformed", attack_malformed}, {"shared", attack_shared},
    {"descriptors", attack_descriptors}, {"files", attack_files},       {"processes", attack_processes},
    {"sockets", attack_sockets},       {"memory", attack_memory},       {"rows", attack_rows}, {"ocsp", attack_ocsp},
};

static void take_steps(struct attack *a) {
    char *rest = NULL;
    CLEANUP(free) char *names = strdup(given("MUSTER_ATTACK"));
    for (char *name = strtok_r(names, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++)
            if (strcmp(STEPS[i].name, name) == 0) {
                STEPS[i].take(a);
                say("step %s over", name);
            }
}

static void await_client(const struct gateway_options *o) {
    struct pollfd p[SERVE_LOOPS_MAX];
    size_t n = o->loops < SERVE_LOOPS_MAX ? o->loops : SERVE_LOOPS_MAX;
    for (size_t i = 0; i < n; i++)
        p[i] = (struct pollfd){.fd = o->listen_fds[i], .events = POLLIN};
    if (poll(p, n, 120000) <= 0)
        say("no client came");
}

int __wrap_gateway_process_run(const struct gateway_options *o, struct err *err) {
    struct attack a = {.o = o};
    struct gateway_options after = *o;
    if (!*given("MUSTER_ATTACK") || atomic_fetch_or(o->trust, DONE) >= DONE)
        return __real_gateway_process_run(o, err);
    memcpy(a.vault, o->vault_fds, o->loops * sizeof *a.vault);
    OPENSSL_init_ssl(0, NULL);
    int rc = o->confine(o->confine_arg, err);
    if (rc || (rc = parent_send(o->parent_fd, PARENT_READY, 0, -1, o->url, err)))
        return rc;
    await_client(o);
    take_steps(&a);
    say("over");
    after.vault_fds = a.vault;
    after.confine = NULL;
    return __real_gateway_process_run(&after, err);
}
