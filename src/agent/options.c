/* options: see options.h. */
#include "agent/options.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/man.h"
#include "base/shell.h"
#include "keyring/keyring.h"

#define CONFIG_MAX 16384

enum kind { TEXT, FILE_NAME, FOLDER, SWITCH };
enum { FOR_CONFIG = 1, FOR_LINE = 2 }; /* where an option may stand */

static const struct option_row {
    const char *name, *value, *help;
    enum kind kind;
    int where;
    unsigned commands; /* bits of enum command; 0: all */
    size_t at;
} OPTIONS[] = {
#define AT(field) offsetof(struct options, field)
#define ENROLS (1u << COMMAND_PROVISION | 1u << COMMAND_RUN)
#define ASKS (ENROLS | 1u << COMMAND_CHECK | 1u << COMMAND_EXPLAIN)
    {"dir", "DIR", "The agent's directory (default " OPTIONS_DIR "); what other programs use is in DIR/current", FOLDER, FOR_CONFIG | FOR_LINE, 0, AT(dir)},
    {"config", "FILE", "The configuration (default " OPTIONS_CONFIG ", where that is there)", FILE_NAME, FOR_LINE, 0, AT(config)},
    {"credentials", "PATH", "credentials.zip, a directory with what is in one, or a directory with client.pem, pkey.pem and root.crt. Default: the first that is there of "
     "/var/sota/sota_provisioning_credentials.zip, /etc/muster-agent/credentials.zip, /var/sota/import and /etc/muster-agent/import", FILE_NAME, FOR_CONFIG | FOR_LINE, ENROLS, AT(credentials)},
    {"credentials-key", "URI", "Where the key of the factory's client.pem lies, if not in pkey.pem beside it: pkcs11:… or tpm2:0x81…, which a file pkey.uri beside it may say as well; see KEYS IN "
     "HARDWARE", TEXT, FOR_CONFIG | FOR_LINE, ENROLS, AT(credentials_key)},
    {"key", "file|tpm2|pkcs11:", "Where this device's keys are made: file (DIR/current/pkey.pem), tpm2[:…] or pkcs11:…; see KEYS IN HARDWARE. Default: where the key that it has lies, and for the first "
     "one file", TEXT, FOR_CONFIG | FOR_LINE, ENROLS, AT(key)},
    {"key-timeout", "SECONDS", "How long a token or a TPM may take for one answer, 1 to 600 (default 60)", TEXT, FOR_CONFIG | FOR_LINE, ASKS, AT(key_timeout)},
    {"gateway", "URL", "The gateway, where another one than the credentials name is to be used; a device that is in goes over to it once it is admitted there", TEXT, FOR_CONFIG | FOR_LINE, ENROLS, AT(gateway)},
    {"proxy", "http://HOST:PORT", "The HTTP proxy to the gateway (CONNECT); those that the environment names are not used", TEXT, FOR_CONFIG | FOR_LINE, ASKS, AT(proxy)},
    {"account", "NAME", "The account, as label of EST's paths; needed where neither the certificate nor the host name says it", TEXT, FOR_CONFIG | FOR_LINE, ENROLS, AT(account)},
    {"device-id", "ID", "The device ID that is enrolled", TEXT, FOR_CONFIG | FOR_LINE, ENROLS, AT(device_id)},
    {"device-id-file", "FILE", "A file that holds the device ID, one line", FILE_NAME, FOR_CONFIG | FOR_LINE, ENROLS, AT(device_id_file)},
    {"device-id-command", "COMMAND", "A command of the shell that prints the device ID, one line", TEXT, FOR_CONFIG | FOR_LINE, ENROLS, AT(device_id_command)},
    {"device-id-from", "machine-id|serial|mac", "Where the device ID comes from otherwise: a UUID derived from /etc/machine-id (default); the serial number that the firmware names, "
     "by DMI or device tree; the address of the first network card", TEXT, FOR_CONFIG | FOR_LINE, ENROLS, AT(device_id_from)},
    {"hooks", "DIR", "Programs that are run after a change, in the order of their names (default /etc/muster-agent/hooks.d)", FOLDER, FOR_CONFIG | FOR_LINE, ENROLS, AT(hooks)},
    {"keep-credentials", NULL, "Leave the provisioning key where it is after the device has enrolled (for an image that others are made of)", SWITCH, FOR_CONFIG | FOR_LINE, ENROLS, AT(keep_credentials)},
    {"set-clock", NULL, "Set the system's clock to the time that the gateway signed, where it was wrong", SWITCH, FOR_CONFIG | FOR_LINE, ENROLS, AT(set_clock)},
    {"sysroot", "DIR", "Where /etc/machine-id, /sys, and the usual places of credentials are looked for (default /)", FOLDER, FOR_CONFIG | FOR_LINE, ENROLS, AT(sysroot)},
    {"now", NULL, "Ask now, whatever time the gateway named or its failures ask for, and renew although it is early", SWITCH, FOR_LINE, ENROLS, AT(now)},
    {"accept-time", NULL, "Ask what time it is, and accept what the gateway signs at once, though a later one was accepted before, or it is far ahead of this device's clock", SWITCH, FOR_LINE, ENROLS,
     AT(accept_time)},
    {"stay", NULL, "Do not end: sleep, and look again when something is due", SWITCH, FOR_LINE, 1u << COMMAND_RUN, AT(stay)},
    {"with-pin", NULL, "Leave the variable in the command's environment that the key's PIN comes from (pin-source=env:…)", SWITCH, FOR_LINE, 1u << COMMAND_EXEC, AT(with_pin)},
    {"json", NULL, "Print the answer as one JSON object", SWITCH, FOR_LINE, ENROLS | 1u << COMMAND_STATUS | 1u << COMMAND_CHECK | 1u << COMMAND_EXPLAIN, AT(json)},
    {"help", NULL, "Show this", SWITCH, FOR_LINE, 0, AT(help)},
    {"version", NULL, "Show the version", SWITCH, FOR_LINE, 0, AT(version)},
};
#define OPTIONS_N (sizeof OPTIONS / sizeof *OPTIONS)

const struct command_row AGENT_COMMANDS[] = {
    {COMMAND_PROVISION, "provision", "", "Get this device its identity: enrol it with shared credentials, or take over its own certificate; harmless where that is done"},
    {COMMAND_RUN, "run", "", "Do what is due and end: provision, renew, take over new anchors, run hooks. For a timer"},
    {COMMAND_STATUS, "status", "", "What identity there is, until when, and what comes next; asks nobody"},
    {COMMAND_CHECK, "check", "", "Ask the gateway whether it admits this device; exit status 0: it does"},
    {COMMAND_EXPLAIN, "explain", "", "The same, with which side refuses, why, and what to do about it"},
    {COMMAND_EXEC, "exec", "-- COMMAND…", "Run a command with the paths of the identity in its environment"},
    {COMMAND_HELP_MAN, "help-man", "", NULL},
    {COMMAND_COMPLETION, "completion", "bash|zsh|fish", "Print the shell's script for completion of command lines"},
};
const size_t AGENT_COMMANDS_N = sizeof AGENT_COMMANDS / sizeof *AGENT_COMMANDS;

static const struct command_row *find_command(const char *name) {
    for (size_t i = 0; i < AGENT_COMMANDS_N; i++)
        if (!strcmp(AGENT_COMMANDS[i].name, name))
            return &AGENT_COMMANDS[i];
    return NULL;
}

static bool applies(const struct option_row *o, enum command c) { return !o->commands || c == COMMAND_NONE || o->commands & 1u << c; }

static const struct option_row *find_option(const char *name, size_t n, int where) {
    for (size_t i = 0; i < OPTIONS_N; i++)
        if (OPTIONS[i].where & where && strlen(OPTIONS[i].name) == n && !memcmp(OPTIONS[i].name, name, n))
            return &OPTIONS[i];
    return NULL;
}

static char *text_of(struct options *o, const struct option_row *row) { return (char *)o + row->at; }
static bool *switch_of(struct options *o, const struct option_row *row) { return (bool *)((char *)o + row->at); }

static void put(struct options *o, const char *field, const struct option_row *row) { snprintf(text_of(o, row), OPTIONS_VALUE_MAX, "%s", field); }

void options_init(struct options *o) {
    memset(o, 0, sizeof *o);
    snprintf(o->dir, sizeof o->dir, "%s", OPTIONS_DIR);
    snprintf(o->hooks, sizeof o->hooks, "/etc/muster-agent/hooks.d");
    snprintf(o->device_id_from, sizeof o->device_id_from, "machine-id");
}

/* What is wrong with the name of a key, or of a place for keys; NULL: nothing. */
static const char *key_fault(const char *value, enum keyring_use use) {
    static _Thread_local char text[520];
    struct err why = ERR_INIT;
    bool file = keyring_place(value) == KEYRING_FILE;
    if (use == KEYRING_A_PLACE && file)
        return strcmp(value, "file") ? "is neither file, nor tpm2[:…], nor pkcs11:…" : NULL;
    if (keyring_check(value, use, &why) == 0)
        return NULL;
    snprintf(text, sizeof text, "cannot be used. %.*s", (int)strlen(err_text(&why)) - 1, err_text(&why));
    return text;
}

/* What is wrong with a value, or NULL. */
static const char *fault_of(const struct option_row *row, const char *value) {
    uint64_t seconds;
    if (strlen(value) >= OPTIONS_VALUE_MAX)
        return "is too long";
    if (row->at == AT(gateway) && strncmp(value, "https://", 8))
        return "does not begin with https://";
    if (row->at == AT(proxy))
        return !strncmp(value, "http://", 7) && strlen(value) < 256 ? NULL : "does not begin with http://, or is too long";
    if (row->at == AT(device_id_from) && strcmp(value, "machine-id") && strcmp(value, "serial") && strcmp(value, "mac"))
        return "is none of machine-id, serial and mac";
    if (row->at == AT(account) && (strlen(value) > 63 || strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(value)))
        return "is no account's name";
    if (row->at == AT(key_timeout))
        return span_to_u64(span_str(value), &seconds) && seconds >= 1 && seconds <= 600 ? NULL : "is no number from 1 to 600";
    if (value[0] && (row->at == AT(key) || row->at == AT(credentials_key)))
        return key_fault(value, row->at == AT(key) ? KEYRING_A_PLACE : KEYRING_A_KEY);
    return value[0] ? NULL : "is empty";
}

/* --- the configuration ---------------------------------------------------------------------------------------------------------------- */

static int take_line(struct options *o, const char *from, int line, struct span text, struct err *err) {
    long equals = span_index(text, '=');
    struct span name = span_trim(span_sub(text, 0, equals < 0 ? 0 : (size_t)equals)), value = span_trim(span_sub(text, (size_t)(equals + 1), text.n));
    char held[OPTIONS_VALUE_MAX];
    if (equals < 0)
        return err_set(err, MUSTER_ECONFIG, "%s, line %d: it is not `name = value`.", from, line);
    const struct option_row *row = find_option((const char *)name.p, name.n, FOR_CONFIG);
    if (!row)
        return err_set(err, MUSTER_ECONFIG, "%s, line %d: there is no setting of that name.", from, line);
    if (value.n >= sizeof held || (value.n && memchr(value.p, 0, value.n)))
        return err_set(err, MUSTER_ECONFIG, "%s, line %d: the value is too long.", from, line);
    snprintf(held, sizeof held, "%.*s", SPAN_FMT(value));
    if (row->kind == SWITCH) {
        if (strcmp(held, "yes") && strcmp(held, "no"))
            return err_set(err, MUSTER_ECONFIG, "%s, line %d: %s takes yes or no.", from, line, row->name);
        *switch_of(o, row) = !strcmp(held, "yes");
        return 0;
    }
    const char *fault = fault_of(row, held);
    if (fault)
        return err_set(err, MUSTER_ECONFIG, "%s, line %d: the value of %s %s.", from, line, row->name, fault);
    put(o, held, row);
    return 0;
}

int options_text(struct options *o, const char *from, const char *text, size_t n, struct err *err) {
    struct span rest = span_of(text, n);
    for (int line = 1; rest.n; line++) {
        long end = span_index(rest, '\n');
        struct span one = span_sub(rest, 0, end < 0 ? rest.n : (size_t)end);
        if (one.n && one.p[one.n - 1] == '\r')
            one.n--;
        one = span_trim(one);
        rest = end < 0 ? SPAN_NONE : span_sub(rest, (size_t)end + 1, rest.n);
        int rc = one.n == 0 || one.p[0] == '#' ? 0 : take_line(o, from, line, one, err);
        if (rc)
            return rc;
    }
    return 0;
}

int options_config(struct options *o, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(CONFIG_MAX);
    const char *path = o->config[0] ? o->config : OPTIONS_CONFIG;
    struct stat st;
    int rc = file_read(AT_FDCWD, path, &text, err);
    if (!rc && stat(path, &st) == 0 && S_ISREG(st.st_mode) && ((st.st_mode & 022) || (st.st_uid != 0 && st.st_uid != geteuid())))
        return err_set(err, MUSTER_ECONFIG, "%s may be written to by others than root and this user, and names commands that are run. Take that right away (chmod go-w, chown).", path);
    if (rc == MUSTER_ENOTFOUND && !o->config[0])
        return 0;
    return rc ? rc : options_text(o, path, buf_str(&text), text.n, err);
}

/* --- the command line ------------------------------------------------------------------------------------------------------------------- */

/* Twice over: once for what names the configuration, and again for what wins over it. */
static int read_line(int argc, char **argv, struct options *o, enum command *command, char ***rest, struct err *err) {
    *command = COMMAND_NONE;
    *rest = argv + argc;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!strcmp(word, "--") && *command == COMMAND_EXEC) {
            *rest = argv + i + 1;
            return 0;
        }
        if (word[0] != '-' || !word[1]) {
            const struct command_row *c = *command ? NULL : find_command(word);
            if (!c)
                return err_set(err, MUSTER_EUSAGE, *command ? "%s is a word too many; see --help." : "There is no command %s; see --help.", word);
            *command = c->command;
            if (c->command == COMMAND_COMPLETION) {
                *rest = argv + i + 1;
                o->help = i + 1 < argc && (!strcmp(argv[i + 1], "--help") || !strcmp(argv[i + 1], "-h"));
                return 0;
            }
            continue;
        }
        if (!strcmp(word, "-h"))
            word = "--help";
        const char *equals = strchr(word, '=');
        size_t n = equals ? (size_t)(equals - word) : strlen(word);
        const struct option_row *row = n > 2 && word[1] == '-' ? find_option(word + 2, n - 2, FOR_LINE) : NULL;
        if (!row)
            return err_set(err, MUSTER_EUSAGE, "%s is not an option; see --help.", word);
        if (!row->value && equals)
            return err_set(err, MUSTER_EUSAGE, "--%s takes no value.", row->name);
        if (!row->value) {
            *switch_of(o, row) = true;
            continue;
        }
        const char *value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : "";
        const char *fault = fault_of(row, value);
        if (fault)
            return err_set(err, MUSTER_EUSAGE, "--%s %s: the value %s.", row->name, row->value, fault);
        put(o, value, row);
        o->names_device = o->names_device || (row->at >= AT(device_id) && row->at <= AT(device_id_from));
    }
    return 0;
}

static int check_words(int argc, char **argv, enum command command, struct err *err) {
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        const char *word = argv[i];
        size_t n = strcspn(word, "=");
        const struct option_row *row = !strncmp(word, "--", 2) ? find_option(word + 2, n - 2, FOR_LINE) : NULL;
        if (row && !applies(row, command))
            return err_set(err, MUSTER_EUSAGE, "--%s is not an option of this command; see its --help.", row->name);
        i += row && row->value && !word[n];
    }
    return 0;
}

int options_read(int argc, char **argv, struct options *o, enum command *command, char ***rest, struct err *err) {
    options_init(o);
    int rc = read_line(argc, argv, o, command, rest, err);
    if (rc || o->help || o->version || *command == COMMAND_HELP_MAN || *command == COMMAND_COMPLETION)
        return rc;
    if (*command == COMMAND_NONE)
        return err_set(err, MUSTER_EUSAGE, "A command is missing; see --help.");
    if ((rc = check_words(argc, argv, *command, err)) || (rc = options_config(o, err)))
        return rc;
    return read_line(argc, argv, o, command, rest, err);
}

/* --- what is said of them ----------------------------------------------------------------------------------------------------------------- */

static void help_options(FILE *out, enum command command) {
    fputs("\nOptions:\n", out);
    for (size_t i = 0; i < OPTIONS_N; i++)
        if (OPTIONS[i].where & FOR_LINE && applies(&OPTIONS[i], command))
            fprintf(out, "  --%s%s%s\n        %s\n", OPTIONS[i].name, OPTIONS[i].value ? " " : "", OPTIONS[i].value ? OPTIONS[i].value : "", OPTIONS[i].help);
}

static const char EXITS[] = "Exit status: 0 done; 1 refused or failed; 2 wrong usage; 75 not yet: the gateway asked to wait or could not be reached, or,\nfor run, there are no credentials yet.\n";

void options_help(FILE *out, enum command command) {
    if (command == COMMAND_NONE)
        fputs("muster-agent: gets, keeps and renews this device's certificate.\n\n", out);
    for (size_t i = 0; i < AGENT_COMMANDS_N; i++) {
        const struct command_row *c = &AGENT_COMMANDS[i];
        if (command == COMMAND_NONE && c->help)
            fprintf(out, "  %-11s %s\n", c->name, c->help);
        else if (c->command == command && c->help)
            fprintf(out, "muster-agent %s%s%s\n\n%s.\n", c->name, c->args[0] ? " " : "", c->args, c->help);
    }
    if (command != COMMAND_COMPLETION)
        help_options(out, command);
    fprintf(out, "\n%s", EXITS);
}

void options_man(FILE *out) {
    fputs("# COMMANDS\n\n", out);
    for (size_t i = 0; i < AGENT_COMMANDS_N; i++) {
        if (!AGENT_COMMANDS[i].help)
            continue;
        fprintf(out, "*%s*%s%s\n\t", AGENT_COMMANDS[i].name, AGENT_COMMANDS[i].args[0] ? " " : "", AGENT_COMMANDS[i].args);
        man_text(out, AGENT_COMMANDS[i].help);
        fputs(".\n\n", out);
    }
    fputs("# OPTIONS\n\n", out);
    for (size_t i = 0; i < OPTIONS_N; i++) {
        fprintf(out, "*--%s*", OPTIONS[i].name);
        if (OPTIONS[i].value)
            fprintf(out, " _%s_", OPTIONS[i].value);
        fputs("\n\t", out);
        man_text(out, OPTIONS[i].help);
        fprintf(out, ".%s\n\n", OPTIONS[i].where & FOR_CONFIG ? "" : " Not in the configuration.");
    }
}

void options_complete(FILE *out, int n, char **words) {
    char option[64], before[68];
    const char *typed = n ? words[n - 1] : "";
    enum command command = COMMAND_NONE;
    for (int i = 0; i + 1 < n && command == COMMAND_NONE; i++) {
        const struct command_row *c = find_command(words[i]);
        command = c ? c->command : COMMAND_NONE;
    }
    if (shell_option_value(n, words, option, &typed, before)) {
        const struct option_row *row = find_option(option, strlen(option), FOR_LINE);
        if (row && (row->kind == FILE_NAME || row->kind == FOLDER))
            shell_offer_files(out, row->kind == FOLDER);
        else if (row && row->value)
            shell_offer_choices(out, typed, before, row->value);
        if (row && row->value)
            return;
    }
    if (typed[0] == '-') {
        for (size_t i = 0; i < OPTIONS_N; i++) {
            char name[64];
            snprintf(name, sizeof name, "--%s", OPTIONS[i].name);
            if (OPTIONS[i].where & FOR_LINE && applies(&OPTIONS[i], command))
                shell_offer(out, typed, "", name, OPTIONS[i].help);
        }
    } else if (command == COMMAND_NONE) {
        for (size_t i = 0; i < AGENT_COMMANDS_N; i++)
            if (AGENT_COMMANDS[i].help)
                shell_offer(out, typed, "", AGENT_COMMANDS[i].name, AGENT_COMMANDS[i].help);
    } else if (command == COMMAND_COMPLETION) {
        shell_offer_choices(out, typed, "", SHELLS);
    }
}
