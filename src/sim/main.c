/* muster-sim: thousands of simulated devices in one process.  Reads what it is told, plays it, and prints the report: for people, or as one
 * JSON object.  It sends nothing to a machine other than its own unless its user says that the gateway there is his. */
#include <locale.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/secret.h"
#include "base/shell.h"
#include "sim/play.h"

static int fail(const struct err *err) {
    const char *fix = err_fix(err->code);
    fprintf(stderr, "muster-sim: %s\n", err_text(err));
    if (err->code != MUSTER_EUSAGE && fix[0])
        fprintf(stderr, "%s (%s)\n", fix, err_code(err->code));
    return err_exit(err->code);
}

static int completion(char **words) {
    int n = 0;
    while (words[n])
        n++;
    if (n >= 2 && !strcmp(words[0], "words") && !strcmp(words[1], "--")) {
        sim_options_complete(stdout, n - 2, words + 2);
        return 0;
    }
    if (n == 1 && shell_script(stdout, words[0], "muster-sim"))
        return 0;
    fputs("muster-sim: completion is for one of " SHELLS ".\n", stderr);
    return 2;
}

static int print_json(const struct played *p, const struct fleet *f) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(1u << 20);
    CLEANUP_JSON json_t *o = json_object();
    json_t *steps = json_array(), *manners = json_array();
    json_set_str(o, "gateway", f->gateway);
    json_set_int(o, "devices", (int64_t)f->n);
    json_set_bool(o, "cut_short", p->cut_short);
    for (size_t i = 0; i < p->n_steps; i++)
        json_array_append_new(steps, tally_json(p->steps[i]));
    for (int i = 0; i < MANNERS; i++)
        if (p->manners[i])
            json_array_append_new(manners, tally_json(p->manners[i]));
    json_set(o, "steps", steps);
    json_set(o, "misbehaviour", manners);
    if (json_write_pretty(&out, o))
        return 1;
    return fwrite(out.p, 1, out.n, stdout) == out.n && fflush(stdout) == 0 ? 0 : 1;
}

static void print_text(const struct played *p) {
    for (size_t i = 0; i < p->n_steps; i++)
        tally_print(p->steps[i], stdout);
    for (int i = 0; i < MANNERS; i++)
        if (p->manners[i])
            tally_print(p->manners[i], stdout);
    if (p->cut_short)
        puts("It was ended before its time.");
}

static int play(const struct sim_options *o) {
    CLEANUP(fleet_fini) struct fleet fleet = FLEET_INIT;
    CLEANUP(loop_free) struct loop *loop = NULL;
    CLEANUP(client_free) struct client *client = NULL;
    CLEANUP(played_fini) struct played played = {.n_steps = 0};
    struct err err = ERR_INIT;
    int rc = fleet_open(o, &fleet, &err);
    if (!rc && !(loop = loop_new(&err)))
        rc = err.code;
    if (rc || (rc = client_new(loop, fleet.gateway, &fleet.anchors, o->mine, o->timeout, &client, &err)) || (rc = play_run(o, &fleet, loop, client, &played, &err)))
        return fail(&err);
    if (o->json && print_json(&played, &fleet))
        return 1;
    if (!o->json)
        print_text(&played);
    return !played_well(&played);
}

int main(int argc, char **argv) {
    struct sim_options o = {.devices = -1};
    struct err err = ERR_INIT;
    setlocale(LC_CTYPE, "C.UTF-8");
    umask(077);
    signal(SIGPIPE, SIG_IGN); /* gateways close on whoever misbehaves */
    int rc = secret_init() ? err_set(&err, MUSTER_EINTERNAL, "The libraries do not start.") : sim_options_read(argc, argv, &o, &err);
    if (rc)
        return fail(&err);
    if (o.version) {
        puts("muster-sim " MUSTER_VERSION);
        return 0;
    }
    if (o.command && !strcmp(o.command, "help-man")) {
        sim_options_man(stdout);
        return 0;
    }
    if (o.help) {
        sim_options_help(stdout);
        return 0;
    }
    return o.command ? completion(o.rest) : play(&o);
}
