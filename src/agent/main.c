/* muster-agent: a device's half of Muster.  Parses, dispatches, and turns errors into text and exit status: 0 done, 1 refused or failed, 2 wrong usage, 75
 * (EX_TEMPFAIL) not yet. */
#include <curl/curl.h>
#include <errno.h>
#include <locale.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/report.h"
#include "base/clock.h"
#include "base/secret.h"
#include "base/shell.h"

#define NOT_YET 75
#define PATIENCE 120    /* seconds that a gateway may ask to wait within a pass */
#define ATTEMPTS 4
#define LOOK_EVERY 900  /* seconds, for `run --stay` */

static mode_t callers_mask;
static char **words; /* of the command line */

static void say(const char *line) {
    fputs("muster-agent: ", stderr);
    report_text(stderr, line);
    fputc('\n', stderr);
}

static int fail(const struct err *err) {
    const char *fix = report_fix(err->code);
    say(err_text(err));
    if (err->code != MUSTER_EUSAGE)
        fprintf(stderr, "%s (%s)\n", fix[0] ? fix : "`muster-agent explain` says what to do.", err_code(err->code));
    bool later = err->retry_after > 0 || err->code == MUSTER_ENETWORK || err->code == MUSTER_ELOCKED;
    return later ? NOT_YET : err_exit(err->code);
}

static int print(const json_t *o, bool json) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1u << 20);
    if (!json) {
        report_print(stdout, o);
        return 0;
    }
    if (json_write_pretty(&text, o))
        return 1;
    return fwrite(text.p, 1, text.n, stdout) == text.n && fflush(stdout) == 0 ? 0 : 1;
}

/* --- commands -------------------------------------------------------------------------------------------------------------------------------------- */

static int one_pass(const struct options *o, enum command command, struct err *err) {
    CLEANUP(session_fini) struct session s = SESSION_INIT;
    s.say = say;
    int rc = session_open(&s, o, true, err);
    if (rc)
        return rc;
    return command == COMMAND_PROVISION ? provision(&s, err) : renew_pass(&s, err);
}

/* A gateway that is busy says when to come again; a short time is waited for here. */
static int pass(const struct options *o, enum command command, struct err *err) {
    int rc = 0;
    for (int i = 0; i < ATTEMPTS; i++) {
        *err = ERR_INIT;
        rc = one_pass(o, command, err);
        if (rc == 0 || err->retry_after <= 0 || err->retry_after > PATIENCE || o->now)
            return rc;
        if (i + 1 < ATTEMPTS)
            nanosleep(&(struct timespec){.tv_sec = err->retry_after}, NULL);
    }
    return rc;
}

/* Who asks for JSON gets it, of a device too that was never provisioned. */
static int nothing_there(const struct options *o, int rc, const struct err *err, bool status) {
    if (rc != MUSTER_ENOTFOUND || !o->json)
        return fail(err);
    CLEANUP_JSON json_t *said = report_nothing(o->dir, err_text(err), status);
    (void)print(said, true);
    return 1;
}

static int show_status(const struct options *o) {
    CLEANUP(session_fini) struct session s = SESSION_INIT;
    struct err err = ERR_INIT;
    int rc = session_open(&s, o, false, &err);
    if (rc)
        return nothing_there(o, rc, &err, true);
    CLEANUP_JSON json_t *status = report_status(&s);
    return print(status, o->json);
}

/* What only time is the matter with is a failure once the identity has ended, or is about to: nobody should find that green.  *due: seconds until it is to be renewed. */
static const char *worry(const struct options *o, bool not_yet, int64_t *due) {
    CLEANUP(session_fini) struct session s = SESSION_INIT;
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    unsigned current = session_open(&s, o, false, NULL) ? 0 : place_current(&s.place);
    if (!current || place_identity(&s.place, current, &id, NULL) || !id.cert || true_time_behind(&s.time))
        return NULL;
    int64_t left = id.cert->not_after - true_time_now(&s.time);
    *due = renew_at(id.cert, s.state.device_id) - true_time_now(&s.time);
    if (!not_yet && !session_wait(&s))
        return NULL;
    return left < 0 ? "this device's certificate has ended" : left < (id.cert->not_after - id.cert->not_before) / 10 ? "this device's certificate ends soon, and could not be renewed so far" : NULL;
}

/* Nobody comes later than the certificate is to be renewed, nor more often than once a minute. */
static int64_t pause_for(int64_t retry_after, int64_t due) {
    int64_t pause = retry_after > 0 && retry_after < LOOK_EVERY ? retry_after : LOOK_EVERY;
    return due > 60 && due < pause ? due : due > 0 && due <= 60 ? 60 : pause;
}

/* A module that hangs stays in this process for ever: another one looks again, under the same number. */
static int begin_anew(int status) {
    size_t n = 1;
    for (size_t i = 1; words[i]; i++)
        if (strcmp(words[i], "--now") != 0 && strcmp(words[i], "--accept-time") != 0)
            words[n++] = words[i];
    words[n] = NULL;
    fflush(NULL);
    nanosleep(&(struct timespec){.tv_sec = LOOK_EVERY}, NULL);
    umask(callers_mask);
    execv("/proc/self/exe", words);
    return status; /* no /proc: whoever started it does so again */
}

static int work(struct options *o, enum command command) {
    struct err err = ERR_INIT;
    for (;;) {
        int rc = pass(o, command, &err), status = rc ? fail(&err) : 0;
        if (rc == MUSTER_ENOTFOUND && command == COMMAND_RUN && !o->credentials[0])
            status = NOT_YET; /* a device that was given nothing yet is no failure of its timer */
        int64_t due = LOOK_EVERY;
        const char *worries = command == COMMAND_RUN && (status == 0 || status == NOT_YET) ? worry(o, status == NOT_YET, &due) : NULL;
        if (worries) {
            say(worries);
            status = 1;
        }
        if (!o->stay)
            return rc || !o->json ? status : show_status(o);
        o->now = o->accept_time = false; /* they were said once */
        if (keyring_hangs())
            return begin_anew(status);
        nanosleep(&(struct timespec){.tv_sec = (time_t)pause_for(err.retry_after, due)}, NULL);
    }
}

static int check(const struct options *o, bool explain) {
    CLEANUP(session_fini) struct session s = SESSION_INIT;
    struct err err = ERR_INIT;
    int rc = session_open(&s, o, false, &err);
    if (rc)
        return nothing_there(o, rc, &err, false);
    CLEANUP_JSON json_t *said = report_check(&s);
    bool admitted = report_admitted(said);
    if (explain || o->json) {
        rc = print(said, o->json);
        return rc || !admitted;
    }
    if (admitted) {
        const char *in = json_string_value(json_object_get(said, "key_in"));
        bool file = !in || !strcmp(in, "file");
        printf("%s is admitted%s.\n", s.state.device_id, file ? "" : !strcmp(in, "tpm2") ? "; its key is in the TPM" : "; its key is in a token");
    } else {
        say(json_string_value(json_object_get(said, "reason")));
        fputs("See `muster-agent explain`.\n", stderr);
    }
    return !admitted;
}

static int exec_command(const struct options *o, char **command) {
    CLEANUP(session_fini) struct session s = SESSION_INIT;
    CLEANUP(identity_fini) struct identity id = IDENTITY_INIT;
    struct err err = ERR_INIT;
    int rc = command[0] ? session_open(&s, o, false, &err) : err_set(&err, MUSTER_EUSAGE, "The command to run is missing: muster-agent exec -- COMMAND…");
    unsigned current = rc ? 0 : place_current(&s.place);
    if (!rc && current && place_identity(&s.place, current, &id, NULL) == 0 && id.hidden)
        rc = err_set(&err, MUSTER_EINVALID, "This user may not read the key in %s/current; run the command as the owner of that directory.", o->dir);
    else if (!rc && !identity_whole(&id))
        rc = err_set(&err, MUSTER_ENOTFOUND, "This device has no identity yet; `muster-agent provision` gets it one.");
    if (!rc)
        session_recover(&s, &id);
    if (rc || (rc = hooks_environment(o->dir, &s.state, id.gateway, id.where, &err)))
        return fail(&err);
    if (!o->with_pin)
        hooks_hide_pins(o, id.where);
    umask(callers_mask);
    execvp(command[0], command);
    fprintf(stderr, "muster-agent: %s cannot be run: %s.\n", command[0], strerror(errno));
    return errno == ENOENT ? 127 : 126;
}

static int completion(char **rest) {
    int n = 0;
    while (rest[n])
        n++;
    if (n >= 2 && !strcmp(rest[0], "words") && !strcmp(rest[1], "--")) {
        options_complete(stdout, n - 2, rest + 2);
        return 0;
    }
    if (n == 1 && shell_script(stdout, rest[0], "muster-agent"))
        return 0;
    fputs("muster-agent: completion is for one of " SHELLS ".\n", stderr);
    return 2;
}

static int dispatch(struct options *o, enum command command, char **rest) {
    switch (command) {
    case COMMAND_PROVISION:
    case COMMAND_RUN:
        return work(o, command);
    case COMMAND_STATUS:
        return show_status(o);
    case COMMAND_CHECK:
    case COMMAND_EXPLAIN:
        return check(o, command == COMMAND_EXPLAIN);
    case COMMAND_EXEC:
        return exec_command(o, rest);
    case COMMAND_HELP_MAN:
        options_man(stdout);
        return 0;
    case COMMAND_COMPLETION:
        return completion(rest);
    case COMMAND_NONE:
        break;
    }
    options_help(stdout, COMMAND_NONE);
    return 0;
}

int main(int argc, char **argv) {
    static struct options o;
    struct err err = ERR_INIT;
    enum command command;
    char **rest;
    setlocale(LC_CTYPE, "C.UTF-8");
    callers_mask = umask(022);
    words = argv;
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* a core would have the key in it; what is exec'd is dumpable again */
    if (secret_init() || curl_global_init(CURL_GLOBAL_DEFAULT)) {
        fputs("muster-agent: The libraries do not start.\n", stderr);
        return 1;
    }
    int rc = options_read(argc, argv, &o, &command, &rest, &err);
    if (rc)
        return fail(&err);
    if (o.version) {
        puts("muster-agent " MUSTER_VERSION);
        return 0;
    }
    if (o.help) {
        options_help(stdout, command);
        return 0;
    }
    int status = dispatch(&o, command, rest);
    keyring_exit(status);
    return status;
}
