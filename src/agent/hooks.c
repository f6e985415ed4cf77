/* hooks: programs that somebody has put there to be told of a change; see session.h.  At least once for each change, however often the power is cut. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/session.h"
#include "base/clock.h"

#define HOOKS_MAX 64
#define HOOK_MS 60000 /* that one may take */
#define LOST (255 << 8) /* what became of it is not known: exit status 255 */

/* Where the key is no file: by the names that other programs have for it. */
static bool name_key(const char *where) {
    char name[KEYRING_URI_MAX];
    if (!where[0])
        return setenv("MUSTER_KEY_IN", "file", 1) == 0 && unsetenv("MUSTER_KEY_URI") == 0;
    keyring_others_name(where, name);
    return setenv("MUSTER_KEY", name, 1) == 0 && setenv("MUSTER_KEY_URI", where, 1) == 0 && setenv("MUSTER_KEY_IN", keyring_place_name(keyring_place(where)), 1) == 0;
}

int hooks_environment(const char *dir, const struct state *state, const char *gateway, const char *where, struct err *err) {
    static const struct {
        const char *name, *file;
    } FILES[] = {{"MUSTER_CERT", "client.pem"}, {"MUSTER_KEY", "pkey.pem"}, {"MUSTER_CA", "root.crt"}};
    char full[4096], path[4200];
    if (!realpath(dir, full))
        return err_set(err, MUSTER_EIO, "%s cannot be found: %s.", dir, strerror(errno));
    bool good = setenv("MUSTER_AGENT_DIR", full, 1) == 0 && setenv("MUSTER_DEVICE_ID", state->device_id, 1) == 0 && setenv("MUSTER_GATEWAY", gateway, 1) == 0;
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        snprintf(path, sizeof path, "%s/current/%s", full, FILES[i].file);
        good = good && setenv(FILES[i].name, path, 1) == 0;
    }
    return good && name_key(where) ? 0 : err_set(err, MUSTER_ENOMEM, NULL);
}

void hooks_hide_pins(const struct options *o, const char *where) {
    const char *const uris[] = {o->key, o->credentials_key, where};
    char names[2][64];
    for (size_t i = 0; i < 2 * sizeof uris / sizeof *uris; i++) {
        keyring_pin_variables(uris[i / 2], names);
        if (names[i % 2][0])
            unsetenv(names[i % 2]);
    }
}

/* Who may write to a hook may do anything as the user of the agent. */
static bool may_run(int dir, const char *name) {
    struct stat st;
    return fstatat(dir, name, &st, 0) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0100) && !(st.st_mode & 022) && (st.st_uid == 0 || st.st_uid == geteuid());
}

/* And who may write to their directory may put any program there. */
static int check_dir(int dir, const char *path, struct err *err) {
    struct stat st;
    if (fstat(dir, &st) == 0 && !(st.st_mode & 022) && (st.st_uid == 0 || st.st_uid == geteuid()))
        return 0;
    return err_set(err, MUSTER_EINVALID, "No hook in %s is run: others than root and the agent's user may write to that directory. Take that right away (chmod go-w, chown).", path);
}

/* What a hook prints is nothing that the agent says: it goes where messages go. */
static void become(const struct session *s, const char *path, const char *event) {
    char where[KEYRING_URI_MAX];
    int nothing = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    signal(SIGCHLD, SIG_DFL);
    if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        _exit(126);
    if (nothing > STDERR_FILENO)
        close(nothing);
    if (place_where(&s->place, place_current(&s->place), where, NULL) || hooks_environment(s->o->dir, &s->state, s->state.gateway, where, NULL) || setenv("MUSTER_EVENT", event, 1))
        _exit(126);
    hooks_hide_pins(s->o, where);
    execl(path, path, event, (char *)NULL);
    _exit(127);
}

static int wait_for(pid_t pid) {
    int status = 0;
    for (int64_t end = clock_mono_ms() + HOOK_MS; clock_mono_ms() < end;) {
        pid_t done = waitpid(pid, &status, WNOHANG);
        if (done == pid)
            return status;
        if (done < 0 && errno != EINTR)
            return LOST;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    kill(-pid, SIGKILL);
    waitpid(pid, &status, 0);
    return status;
}

static int run_one(const struct session *s, const char name[NAME_MAX + 1], const char *event, struct err *err) {
    char path[OPTIONS_VALUE_MAX + NAME_MAX + 2];
    snprintf(path, sizeof path, "%s/%.*s", s->o->hooks, NAME_MAX, name);
    struct sigaction before, plain = {.sa_handler = SIG_DFL}; /* where children are ignored nobody hears how they end */
    fflush(NULL);
    sigaction(SIGCHLD, &plain, &before);
    pid_t pid = fork();
    if (pid == 0)
        become(s, path, event);
    int status = pid < 0 ? 0 : wait_for(pid);
    sigaction(SIGCHLD, &before, NULL);
    if (pid < 0)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return err_set(err, MUSTER_EINVALID, "The hook %s failed (%s %d); all of them are run again at the next pass.", path, WIFSIGNALED(status) ? "signal" : "exit status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

int hooks_run(const struct session *s, const char *event, struct err *err) {
    char names[HOOKS_MAX][NAME_MAX + 1];
    size_t n = 0;
    CLEANUP(fd_close) int dir = open(s->o->hooks, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int again = dir < 0 ? -1 : fcntl(dir, F_DUPFD_CLOEXEC, 0);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d)
        return errno == ENOENT ? 0 : err_set(err, MUSTER_EIO, "The hooks in %s cannot be read: %s.", s->o->hooks, strerror(errno));
    if (check_dir(dir, s->o->hooks, err)) {
        closedir(d);
        return err ? err->code : MUSTER_EINVALID;
    }
    for (struct dirent *e; n < HOOKS_MAX && (e = readdir(d));) {
        if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof names[0])
            continue;
        if (may_run(dir, e->d_name))
            snprintf(names[n++], sizeof names[0], "%s", e->d_name);
        else
            session_say(s, "%s/%s is not run: a hook is a program that nobody but root and the agent's user may write to", s->o->hooks, e->d_name);
    }
    bool more = readdir(d) != NULL;
    closedir(d);
    if (n == HOOKS_MAX && more)
        return err_set(err, MUSTER_EINVALID, "There are more than %d hooks in %s: none is run, since nobody could say which.", HOOKS_MAX, s->o->hooks);
    qsort(names, n, sizeof names[0], by_name);
    int rc = 0;
    for (size_t i = 0; i < n; i++) { /* each is told, whatever became of those before */
        int failed = run_one(s, names[i], event, rc ? NULL : err);
        rc = rc ? rc : failed;
    }
    return rc;
}
