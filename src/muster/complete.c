/* complete: see complete.h.  Reads what was typed the way main.c parses it, but takes no offence at anything. */
#include "muster/complete.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/shell.h"
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"

#define PATIENCE 2 /* seconds; somebody waits at a prompt */

struct typed {
    const struct command *command;
    const char *noun, *first, *data, *account; /* first: of a verb of two words */
    size_t n_args;
};

static const struct {
    const char *name, *value, *help;
} globals[] = {{"data", "DIR", "The server's data directory"}, {"json", NULL, "Print the answer as JSON"}, {"yes", NULL, "Go on where a command asks"},
               {"help", NULL, "Explain the command"}, {"version", NULL, "Print the version"}};
#define GLOBALS_N (sizeof globals / sizeof *globals)

static const struct command *find(const char *noun, const char *verb) {
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (strcmp(COMMANDS[i].noun, noun) == 0 && strcmp(COMMANDS[i].verb, verb) == 0)
            return &COMMANDS[i];
    return NULL;
}

/* How help names the value of an option of the command, NULL: it is a flag, or none. */
static const char *value_of(const struct command *c, const char *option) {
    for (size_t i = 0; i < GLOBALS_N; i++)
        if (strcmp(globals[i].name, option) == 0)
            return globals[i].value;
    if (!c)
        return NULL;
    if (c->account && strcmp(option, "account") == 0)
        return "ACCOUNT";
    for (size_t i = 0; i < COMMAND_OPTIONS && c->options[i].name; i++)
        if (strcmp(c->options[i].name, option) == 0)
            return c->options[i].to == TO_BODY_BOOL ? "yes|no" : strcmp(option, "account") == 0 ? "ACCOUNT" : c->options[i].value;
    return NULL;
}

/* --- names that the server knows ------------------------------------------------------------------------------------------------------- */

static void too_long(int signal) { _exit(1); }

static void offer_names(FILE *out, const struct typed *t, const char *typed, const char *before, const char *path, const char *field, const char *help_field) {
    struct err err = ERR_INIT;
    CLEANUP(api_free) struct api *api = NULL;
    CLEANUP_JSON json_t *page = NULL;
    json_t *one;
    size_t i;
    signal(SIGALRM, too_long);
    alarm(PATIENCE);
    if (api_open(t->data, &api, &err) || api_json(api, "GET", path, NULL, &page, NULL, &err))
        return;
    alarm(0);
    json_array_foreach(json_object_get(page, "items"), i, one) {
        const char *name = json_string_value(json_object_get(one, field)), *help = json_string_value(json_object_get(one, help_field));
        bool plain = help && !span_has_control(span_str(help));
        if (name)
            shell_offer(out, typed, before, name, plain ? help : NULL);
    }
}

static void offer_account_names(FILE *out, const struct typed *t, const char *typed, const char *before) {
    offer_names(out, t, typed, before, "/api/v1/accounts?limit=1000", "id", "kind");
}

/* Keys by name, roots by id, invitations by device ID, of the account that was named; without one nobody could tell which are meant. */
static void offer_of_account(FILE *out, const struct typed *t, const char *typed, const char *before, const char *kind, const char *field, const char *help_field) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    if (!t->account)
        return;
    buf_adds(&path, "/api/v1/accounts/");
    api_encode(&path, t->account);
    buf_addf(&path, "/%s?limit=1000", kind);
    if (buf_ok(&path))
        offer_names(out, t, typed, before, buf_str(&path), field, help_field);
}

/* `value`: the name that help has for it. */
static void offer_value(FILE *out, const struct typed *t, const char *value, const char *typed, const char *before) {
    if (strcmp(value, "FILE") == 0 || strcmp(value, "SHA256|FILE") == 0 || strcmp(value, "DIR") == 0)
        shell_offer_files(out, value[0] == 'D');
    else if (strcmp(value, "ACCOUNT") == 0)
        offer_account_names(out, t, typed, before);
    else if (strcmp(value, "KEY") == 0)
        offer_of_account(out, t, typed, before, "keys", "name", "state");
    else if (strcmp(value, "ROOT") == 0)
        offer_of_account(out, t, typed, before, "roots", "id", "subject");
    else if (strcmp(value, "CSR") == 0)
        offer_of_account(out, t, typed, before, "csrs", "device_id", "state");
    else if (strcmp(value, "INVITATION") == 0)
        offer_of_account(out, t, typed, before, "invitations", "device_id", "state");
    else if (strchr(value, '|'))
        shell_offer_choices(out, typed, before, value);
}

static void offer_argument(FILE *out, const struct typed *t, const char *typed) {
    const struct command *c = t->command;
    const struct arg_row *a = t->n_args < COMMAND_ARGS ? &c->args[t->n_args] : NULL;
    if (!a || !a->name)
        return;
    /* A NAME that stands in the path is one that exists already. */
    bool existing = c->path && strstr(c->path, "/accounts/{name}");
    offer_value(out, t, a->file ? "FILE" : existing ? "ACCOUNT" : a->name, typed, "");
}

/* --- words of the table ------------------------------------------------------------------------------------------------------------------ */

static void offer_nouns(FILE *out, const char *typed) {
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (i == 0 || strcmp(COMMANDS[i].noun, COMMANDS[i - 1].noun) != 0)
            shell_offer(out, typed, "", COMMANDS[i].noun, COMMANDS[i].verb[0] ? NULL : COMMANDS[i].help);
}

/* Of a verb of two words one after the other. */
static void offer_verbs(FILE *out, const char *noun, const char *first, const char *typed) {
    char before[64] = "";
    for (size_t i = 0; i < COMMANDS_N; i++) {
        const char *verb = COMMANDS[i].verb, *blank = strchr(verb, ' ');
        size_t n = blank ? (size_t)(blank - verb) : strlen(verb);
        if (strcmp(COMMANDS[i].noun, noun) != 0 || (first && (!blank || strlen(first) != n || strncmp(verb, first, n))))
            continue;
        if (first || !blank) {
            shell_offer(out, typed, "", first ? blank + 1 : verb, COMMANDS[i].help);
        } else if (strncmp(before, verb, n + 1)) {
            snprintf(before, sizeof before, "%.*s", (int)n, verb);
            shell_offer(out, typed, "", before, NULL);
            before[n] = ' '; /* as the next one of them has it there */
        }
    }
}

static void offer_option(FILE *out, const char *typed, const char *name, const char *help) {
    char option[80];
    snprintf(option, sizeof option, "--%s", name);
    shell_offer(out, typed, "", option, help);
}

static void offer_options(FILE *out, const struct command *c, const char *typed) {
    for (size_t i = 0; c && i < COMMAND_OPTIONS && c->options[i].name; i++)
        offer_option(out, typed, c->options[i].name, c->options[i].help);
    if (c && c->account)
        offer_option(out, typed, "account", "The account");
    for (size_t i = 0; i < GLOBALS_N; i++)
        offer_option(out, typed, globals[i].name, globals[i].help);
}

static void read_verb(struct typed *t, const char *word) {
    char verb[64];
    snprintf(verb, sizeof verb, "%s%s%s", t->first ? t->first : "", t->first ? " " : "", word);
    t->command = find(t->noun, verb);
    if (!t->command && !t->first && command_begins(t->noun, word))
        t->first = word;
}

/* The words before the last one. */
static void read_words(struct typed *t, int n, char **words) {
    for (int i = 0; i + 1 < n; i++) {
        char option[64], before[68];
        const char *value;
        if (words[i][0] == '-' && words[i][1]) { /* with "=": complete; else looked at together with the next word */
            if (shell_option_value(i + 1, words, option, &value, before) && before[0]) {
                t->data = strcmp(option, "data") == 0 ? value : t->data;
                t->account = strcmp(option, "account") == 0 ? value : t->account;
            }
        } else if (strcmp(words[i], "=") == 0) {
            continue; /* bash, between an option and its value */
        } else if (shell_option_value(i + 1, words, option, &value, before) && value_of(t->command, option)) {
            t->data = strcmp(option, "data") == 0 ? value : t->data;
            t->account = strcmp(option, "account") == 0 ? value : t->account;
        } else if (!t->noun) {
            t->noun = words[i];
            t->command = find(words[i], "");
        } else if (!t->command) {
            read_verb(t, words[i]);
        } else {
            t->n_args++;
        }
    }
}

void complete_words(FILE *out, int n, char **words) {
    struct typed t = {0};
    char option[64], before[68];
    const char *typed, *last = n ? words[n - 1] : "", *value;
    read_words(&t, n, words);
    if (shell_option_value(n, words, option, &typed, before) && (value = value_of(t.command, option)))
        offer_value(out, &t, value, typed, before);
    else if (last[0] == '-')
        offer_options(out, t.command, last);
    else if (!t.noun)
        offer_nouns(out, last);
    else if (!t.command)
        offer_verbs(out, t.noun, t.first, last);
    else
        offer_argument(out, &t, last);
}
