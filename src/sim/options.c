/* options: see options.h. */
#include "sim/options.h"

#include <stddef.h>
#include <string.h>

#include "base/clock.h"
#include "base/man.h"
#include "base/shell.h"
#include "base/span.h"

#define DEVICES_MAX 10000000
#define AT_ONCE_MAX 1000000
#define TIME_MAX ((int64_t)365 * CLOCK_DAY)

const char *const STEP_NAMES[STEPS] = {"enrol", "poll", "renew"};
const char *const MANNER_NAMES[MANNERS] = {"wrong-id", "clone", "storm", "impatient", "huge-body", "broken-tls", "slow-read"};

static const char *const STEP_HELP[STEPS] = {
    "Each device that has no certificate gets one; of those that brought one along, it is the first request",
    "Each device asks, every so often, for so long",
    "Each device renews its certificate by EST, and uses the new one",
};
static const char *const MANNER_HELP[MANNERS] = {
    "asks to renew under another device's ID",
    "asks for a certificate for another device's key, as an image that was copied with its key does",
    "connects again as soon as it was answered",
    "comes again at once when it is told to wait",
    "sends a body of 64 MiB where a request for a certificate is expected",
    "says bytes that are no TLS",
    "reads its answer a byte a second",
};

enum kind { TEXT, FILE_NAME, FOLDER, NUMBER, TIME, SWITCH, MANNER };

static const struct option_row {
    const char *name, *value, *help;
    enum kind kind;
    size_t at;
    int64_t least, most;
} OPTIONS[] = {
#define AT(field) offsetof(struct sim_options, field)
    {"credentials", "FILE", "credentials.zip, or a directory with what is in one: devices enrol with its provisioning key, and it names the gateway", FILE_NAME, AT(credentials)},
    {"method", "est|devices", "With --credentials: by EST, with a key that the device makes (default), or by POST /devices, as a stock client does", TEXT, AT(method)},
    {"devices", "N", "How many enrol with the credentials (default: those that are in --state, else 1)", NUMBER, AT(devices), 1, DEVICES_MAX},
    {"prefix", "TEXT", "They are called TEXT-1, TEXT-2 and so on (default sim)", TEXT, AT(prefix)},
    {"codes", "FILE", "CSV of device IDs and one-time codes (muster device invite): those devices enrol with them", FILE_NAME, AT(codes)},
    {"issued", "DIR", "What `muster ca issue --from` wrote: those devices have their certificate already", FOLDER, AT(issued)},
    {"state", "DIR", "Keys and certificates are kept there (mode 0600), so that the next run goes on with the same devices; else in memory alone", FOLDER, AT(state)},
    {"gateway", "URL", "The gateway, where the credentials do not name it, or another one than they do: https://HOST:PORT", TEXT, AT(gateway)},
    {"ca", "FILE", "What the gateway's certificate is known by, where there are no credentials (server-ca.pem)", FILE_NAME, AT(ca)},
    {"account", "NAME", "The account, as label of EST's paths; needed with --codes where the host name does not say it", TEXT, AT(account)},
    {"my-gateway", "HOST", "The gateway's host, once more: that it is yours, and may be loaded. Needed for any that is not this machine", TEXT, AT(mine)},
    {"over", "TIME", "Devices begin a step within this time, each at a moment that follows from its ID (default 0s: all at once)", TIME, AT(over), 0, TIME_MAX},
    {"every", "TIME", "How often each device polls (default 60s)", TIME, AT(every), 1, TIME_MAX},
    {"for", "TIME", "How long a step of polling lasts, or misbehaviour alone (default 60s)", TIME, AT(lasts), 0, TIME_MAX},
    {"poisson", NULL, "Moments are drawn at random with the same rate, and not spread evenly", SWITCH, AT(poisson)},
    {"workers", "N", "Closed loop: so many devices at a time, each next one when one is done, as fast as answers come; --over and --every do not count", NUMBER, AT(workers), 1, AT_ONCE_MAX},
    {"at-once", "N", "At most so many connections at a time; who finds none waits, and that counts as latency (default: as many as the system allows, at most 10000)", NUMBER, AT(at_once), 1, AT_ONCE_MAX},
    {"impatient", NULL, "Nobody obeys Retry-After", SWITCH, AT(impatient)},
    {"give-up", "TIME", "How long a device tries to enrol or to renew before it counts as failed (default 10m)", TIME, AT(give_up), 0, TIME_MAX},
    {"timeout", "TIME", "How long one request may take (default 60s)", TIME, AT(timeout), 1, TIME_MAX},
    {"path", "PATH", "What is polled (default /devices, which the gateway answers itself: 405 says that the device is let in)", TEXT, AT(path)},
    {"same-key", NULL, "Devices renew for the key that they have, and not for a new one", SWITCH, AT(same_key)},
    {"misbehave", "KIND=N", "The last N devices behave badly from the end of the first enrolment on, beside the others; may be repeated", MANNER, 0},
    {"json", NULL, "Print the report as one JSON object", SWITCH, AT(json)},
    {"help", NULL, "Show this", SWITCH, AT(help)},
    {"version", NULL, "Show the version", SWITCH, AT(version)},
};
#define OPTIONS_N (sizeof OPTIONS / sizeof *OPTIONS)

static int index_of(const char *const *names, int n, struct span name) {
    for (int i = 0; i < n; i++)
        if (span_eq_str(name, names[i]))
            return i;
    return -1;
}

static const struct option_row *find(const char *name, size_t n) {
    for (size_t i = 0; i < OPTIONS_N; i++)
        if (strlen(OPTIONS[i].name) == n && !memcmp(OPTIONS[i].name, name, n))
            return &OPTIONS[i];
    return NULL;
}

/* As everywhere, and milliseconds: "250ms". */
static bool read_time(struct span text, int64_t *ms) {
    int64_t seconds;
    uint64_t n;
    if (span_ends(text, SPAN_LIT("ms")) && span_to_u64(span_sub(text, 0, text.n - 2), &n) && n <= (uint64_t)TIME_MAX * 1000) {
        *ms = (int64_t)n;
        return true;
    }
    if (clock_parse_span(text, &seconds) || seconds < 0 || seconds > TIME_MAX)
        return false;
    *ms = seconds * 1000;
    return true;
}

static int take_manner(struct sim_options *o, struct span text, struct err *err) {
    long equals = span_index(text, '=');
    uint64_t n = 0;
    int manner = equals < 0 ? -1 : index_of(MANNER_NAMES, MANNERS, span_sub(text, 0, (size_t)equals));
    if (manner < 0 || !span_to_u64(span_sub(text, (size_t)equals + 1, text.n), &n) || n < 1 || n > DEVICES_MAX)
        return err_set(err, MUSTER_EUSAGE, "--misbehave takes KIND=N, such as storm=10; the kinds are in --help.");
    o->misbehave[manner] = (size_t)n;
    return 0;
}

static int take_value(struct sim_options *o, const struct option_row *row, const char *value, struct err *err) {
    struct span text = span_str(value);
    uint64_t n;
    switch (row->kind) {
    case MANNER:
        return take_manner(o, text, err);
    case NUMBER:
        if (!span_to_u64(text, &n) || n < (uint64_t)row->least || n > (uint64_t)row->most)
            return err_set(err, MUSTER_EUSAGE, "--%s takes a number between %lld and %lld, not \"%s\".", row->name, (long long)row->least, (long long)row->most, value);
        *(int64_t *)((char *)o + row->at) = (int64_t)n;
        return 0;
    case TIME:
        if (!read_time(text, (int64_t *)((char *)o + row->at)) || *(int64_t *)((char *)o + row->at) < row->least)
            return err_set(err, MUSTER_EUSAGE, "--%s takes a length of time such as 90s, 10m or 250ms, not \"%s\".", row->name, value);
        return 0;
    case TEXT:
    case FILE_NAME:
    case FOLDER:
        *(const char **)((char *)o + row->at) = value;
        return value[0] ? 0 : err_set(err, MUSTER_EUSAGE, "--%s needs a value.", row->name);
    case SWITCH:
        break;
    }
    return MUSTER_EINTERNAL;
}

static int take_option(struct sim_options *o, int argc, char **argv, int *i, struct err *err) {
    const char *word = argv[*i], *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    const struct option_row *row = n > 2 && word[1] == '-' ? find(word + 2, n - 2) : NULL;
    if (!strcmp(word, "-h"))
        row = find("help", 4);
    if (!row)
        return err_set(err, MUSTER_EUSAGE, "%.*s is not an option; see --help.", (int)n, word);
    if (!row->value && equals)
        return err_set(err, MUSTER_EUSAGE, "--%s takes no value.", row->name);
    if (!row->value) {
        *(bool *)((char *)o + row->at) = true;
        return 0;
    }
    if (!equals && *i + 1 >= argc)
        return err_set(err, MUSTER_EUSAGE, "--%s needs a value.", row->name);
    return take_value(o, row, equals ? equals + 1 : argv[++*i], err);
}

static int take_step(struct sim_options *o, const char *word, struct err *err) {
    int step = index_of(STEP_NAMES, STEPS, span_str(word));
    if (step < 0)
        return err_set(err, MUSTER_EUSAGE, "\"%s\" is no step; there are enrol, poll and renew.", word);
    if (o->n_steps == STEPS_MAX)
        return err_set(err, MUSTER_EUSAGE, "That are more than %d steps.", STEPS_MAX);
    o->steps[o->n_steps++] = (enum step)step;
    return 0;
}

static int check(const struct sim_options *o, struct err *err) {
    size_t bad = 0;
    for (int i = 0; i < MANNERS; i++)
        bad += o->misbehave[i];
    if (!o->n_steps && !bad)
        return err_set(err, MUSTER_EUSAGE, "What the devices do is missing: enrol, poll or renew, or several; see --help.");
    if (!o->credentials && !o->codes && !o->issued && !o->state)
        return err_set(err, MUSTER_EUSAGE, "There are no devices: --credentials, --codes, --issued or --state says which.");
    if (o->method && strcmp(o->method, "est") && strcmp(o->method, "devices"))
        return err_set(err, MUSTER_EUSAGE, "--method takes est or devices.");
    if (o->devices > 0 && !o->credentials && !o->state)
        return err_set(err, MUSTER_EUSAGE, "--devices says how many enrol with --credentials; those of --codes and --issued are counted there.");
    if (o->path && o->path[0] != '/')
        return err_set(err, MUSTER_EUSAGE, "--path begins with a slash.");
    for (const char *p = o->path ? o->path : ""; *p; p++)
        if (*p <= ' ' || *p > '~')
            return err_set(err, MUSTER_EUSAGE, "--path has characters that no path has.");
    return 0;
}

int sim_options_read(int argc, char **argv, struct sim_options *o, struct err *err) {
    *o = (struct sim_options){.devices = -1, .prefix = "sim", .path = "/devices", .every = 60000, .lasts = 60000, .give_up = 600000, .timeout = 60000};
    for (int i = 1; i < argc; i++) {
        if (i == 1 && (!strcmp(argv[i], "help-man") || !strcmp(argv[i], "completion"))) {
            o->command = argv[i];
            o->rest = argv + i + 1;
            o->help = i + 1 < argc && (!strcmp(argv[i + 1], "--help") || !strcmp(argv[i + 1], "-h"));
            return 0;
        }
        int rc = argv[i][0] == '-' ? take_option(o, argc, argv, &i, err) : take_step(o, argv[i], err);
        if (rc)
            return rc;
    }
    return o->help || o->version ? 0 : check(o, err);
}

/* --- what is said of them ----------------------------------------------------------------------------------------------------------- */

static const char ABOUT[] = "muster-sim: a fleet of simulated devices in one process, for load planning, demonstrations and tests.\n\n"
                            "muster-sim STEP… [OPTION…]\n\nThe fleet does the steps one after another:\n\n";
static const char EXITS[] = "Exit status: 0 all devices did what they were to do; 1 some did not, or the run was ended early; 2 wrong usage.\n";

void sim_options_help(FILE *out) {
    fputs(ABOUT, out);
    for (int i = 0; i < STEPS; i++)
        fprintf(out, "  %-11s %s\n", STEP_NAMES[i], STEP_HELP[i]);
    fputs("  completion  Print the shell's script for completion of command lines: " SHELLS "\n\nOptions:\n", out);
    for (size_t i = 0; i < OPTIONS_N; i++)
        fprintf(out, "  --%s%s%s\n        %s\n", OPTIONS[i].name, OPTIONS[i].value ? " " : "", OPTIONS[i].value ? OPTIONS[i].value : "", OPTIONS[i].help);
    fputs("\nKinds of misbehaviour:\n", out);
    for (int i = 0; i < MANNERS; i++)
        fprintf(out, "  %-11s %s\n", MANNER_NAMES[i], MANNER_HELP[i]);
    fprintf(out, "\n%s", EXITS);
}

static void man_row(FILE *out, const char *name, const char *value, const char *help) {
    fprintf(out, "*%s*%s%s%s\n\t", name, value ? " _" : "", value ? value : "", value ? "_" : "");
    man_text(out, help);
    fputs(".\n\n", out);
}

void sim_options_man(FILE *out) {
    fputs("# STEPS\n\n", out);
    for (int i = 0; i < STEPS; i++)
        man_row(out, STEP_NAMES[i], NULL, STEP_HELP[i]);
    fputs("# OPTIONS\n\n", out);
    for (size_t i = 0; i < OPTIONS_N; i++) {
        char name[64];
        snprintf(name, sizeof name, "--%s", OPTIONS[i].name);
        man_row(out, name, OPTIONS[i].value, OPTIONS[i].help);
    }
    fputs("# MISBEHAVIOUR\n\n", out);
    for (int i = 0; i < MANNERS; i++)
        man_row(out, MANNER_NAMES[i], NULL, MANNER_HELP[i]);
}

static void complete_value(FILE *out, const struct option_row *row, const char *typed, const char *before) {
    if (row->kind == FILE_NAME || row->kind == FOLDER)
        shell_offer_files(out, row->kind == FOLDER);
    else if (row->kind == MANNER)
        for (int i = 0; i < MANNERS; i++) {
            char kind[32];
            snprintf(kind, sizeof kind, "%s=", MANNER_NAMES[i]);
            shell_offer(out, typed, before, kind, MANNER_HELP[i]);
        }
    else
        shell_offer_choices(out, typed, before, row->value);
}

void sim_options_complete(FILE *out, int n, char **words) {
    char option[64], before[68];
    const char *typed = n ? words[n - 1] : "";
    if (n > 1 && !strcmp(words[0], "completion")) {
        shell_offer_choices(out, typed, "", SHELLS);
        return;
    }
    if (shell_option_value(n, words, option, &typed, before)) {
        const struct option_row *row = find(option, strlen(option));
        if (row && row->value) {
            complete_value(out, row, typed, before);
            return;
        }
    }
    if (typed[0] == '-') {
        for (size_t i = 0; i < OPTIONS_N; i++) {
            char name[64];
            snprintf(name, sizeof name, "--%s", OPTIONS[i].name);
            shell_offer(out, typed, "", name, OPTIONS[i].help);
        }
        return;
    }
    for (int i = 0; i < STEPS; i++)
        shell_offer(out, typed, "", STEP_NAMES[i], STEP_HELP[i]);
}
