/* muster: the operators' command line.  Parses, dispatches by the table of commands.c, and turns errors into text and exit status:
 * 0 done, 1 refused or failed, 2 wrong usage. */
#include <locale.h>

#include "base/secret.h"
#include "base/shell.h"
#include "keyring/keyring.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/complete.h"
#include "muster/help.h"
#include "muster/print.h"

struct globals {
    const char *data;
    bool json, yes, help, version;
};

static int fail(const struct err *err) {
    print_message("muster: ", err_text(err));
    const char *fix = err_fix(err->code);
    if (err->code != MUSTER_EUSAGE && fix[0])
        fprintf(stderr, "%s (%s)\n", fix, err_code(err->code));
    return err_exit(err->code);
}

/* "--name value", "--name=value" or "-o value": the value, or NULL where it is missing. */
static const char *value_of(int argc, char **argv, int *i) {
    char *equals = strchr(argv[*i], '=');
    if (argv[*i][1] == '-' && equals)
        return equals + 1;
    return *i + 1 < argc ? argv[++*i] : NULL;
}

static bool named(const char *arg, const char *name) {
    size_t n = strlen(name);
    if (!strcmp(arg, "-o"))
        return !strcmp(name, "output");
    return !strncmp(arg, "--", 2) && !strncmp(arg + 2, name, n) && (arg[2 + n] == '\0' || arg[2 + n] == '=');
}

static int take_global(struct globals *g, int argc, char **argv, int *i, bool *taken, struct err *err) {
    const char *a = argv[*i];
    *taken = true;
    if (!strcmp(a, "--json"))
        g->json = true;
    else if (!strcmp(a, "--yes"))
        g->yes = true;
    else if (!strcmp(a, "--help") || !strcmp(a, "-h"))
        g->help = true;
    else if (!strcmp(a, "--version"))
        g->version = true;
    else if (named(a, "data")) {
        g->data = value_of(argc, argv, i);
        return g->data ? 0 : err_set(err, MUSTER_EUSAGE, "--data needs a directory.");
    } else
        *taken = false;
    return 0;
}

/* What help names "a|b|c" is one of these words; one in capitals is the place of a key, a URI. */
static int check_choice(const struct option_row *o, const char *value, struct err *err) {
    if (o->to != TO_LOCAL || !o->value || !strchr(o->value, '|'))
        return 0;
    for (const char *word = o->value, *end; *word; word = end + strspn(end, "|")) {
        end = word + strcspn(word, "|");
        if (*word >= 'A' && *word <= 'Z' && strchr(value, ':'))
            return 0;
        if (strlen(value) == (size_t)(end - word) && !strncmp(value, word, (size_t)(end - word)))
            return 0;
    }
    return err_set(err, MUSTER_EUSAGE, "--%s takes %s, not \"%s\".", o->name, o->value, value);
}

static int take_option(struct invocation *in, int argc, char **argv, int *i, struct err *err) {
    for (size_t k = 0; k < COMMAND_OPTIONS && in->command->options[k].name; k++) {
        const struct option_row *o = &in->command->options[k];
        if (!named(argv[*i], o->name))
            continue;
        if (!o->value && strchr(argv[*i], '=')) /* "--again=no" is not meant as --again */
            return err_set(err, MUSTER_EUSAGE, "--%s takes no value.", o->name);
        const char *value = o->value ? value_of(argc, argv, i) : "";
        if (!value)
            return err_set(err, MUSTER_EUSAGE, "--%s needs a value: %s.", o->name, o->value);
        int rc = check_choice(o, value, err);
        if (rc)
            return rc;
        size_t max = o->to == TO_BODY_LIST || o->to == TO_BODY_RESET || o->to == TO_LOCAL_LIST ? 64 : 1;
        if (in->option_n[k] == max)
            return err_set(err, MUSTER_EUSAGE, max == 1 ? "--%s is given twice." : "--%s is given too often.", o->name);
        in->option[k][in->option_n[k]++] = value;
        return 0;
    }
    if (in->command->account && named(argv[*i], "account")) {
        if (in->account)
            return err_set(err, MUSTER_EUSAGE, "--account is given twice.");
        in->account = value_of(argc, argv, i);
        return in->account && *in->account ? 0 : err_set(err, MUSTER_EUSAGE, "--account needs a name.");
    }
    return err_set(err, MUSTER_EUSAGE, "%s is not an option of `muster %s%s%s`; see its --help.", argv[*i], in->command->noun, *in->command->verb ? " " : "", in->command->verb);
}

static int check_complete(const struct invocation *in, struct err *err) {
    const struct command *c = in->command;
    for (size_t i = 0; i < COMMAND_ARGS && c->args[i].name; i++)
        if (!in->args[i] && !c->args[i].optional)
            return err_set(err, MUSTER_EUSAGE, "`muster %s%s%s` needs %s.", c->noun, *c->verb ? " " : "", c->verb, c->args[i].name);
    for (size_t i = 0; i < COMMAND_OPTIONS && c->options[i].name; i++)
        if (c->options[i].required && !in->option_n[i])
            return err_set(err, MUSTER_EUSAGE, "`muster %s%s%s` needs --%s %s.", c->noun, *c->verb ? " " : "", c->verb, c->options[i].name, c->options[i].value);
    if (c->account && !c->account_free && !in->account)
        return err_set(err, MUSTER_EUSAGE, "`muster %s%s%s` needs --account NAME.", c->noun, *c->verb ? " " : "", c->verb);
    return 0;
}

static inline void free_words(const char **words) { free(words); }
DEFINE_CLEANUP(free_words, const char **)

static const struct command *find(const char *noun, const char *verb) {
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (!strcmp(COMMANDS[i].noun, noun) && !strcmp(COMMANDS[i].verb, verb))
            return &COMMANDS[i];
    return NULL;
}

static bool known_noun(const char *noun) {
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (!strcmp(COMMANDS[i].noun, noun))
            return true;
    return false;
}

/* Words in order; options may stand anywhere behind the verb, global ones anywhere. */
static int parse(struct globals *g, struct invocation *in, int argc, char **argv, const char **said, struct err *err) {
    const char *noun = NULL;
    const char *first = NULL; /* of a verb of two words */
    char verb[64];
    size_t n_args = 0;
    bool only_words = false, taken;
    for (int i = 1; i < argc; i++) {
        int rc = 0;
        if (!only_words && !strcmp(argv[i], "--")) {
            only_words = true;
            continue;
        }
        if (!only_words && argv[i][0] == '-' && argv[i][1]) {
            if ((rc = take_global(g, argc, argv, &i, &taken, err)))
                return rc;
            if (!taken)
                rc = in->command ? take_option(in, argc, argv, &i, err) : err_set(err, MUSTER_EUSAGE, "%s is not an option; see `muster --help`.", argv[i]);
            if (rc)
                return rc;
        } else if (!noun) {
            noun = argv[i];
            in->command = find(noun, "");
        } else if (!in->command) {
            snprintf(verb, sizeof verb, "%s%s%s", first ? first : "", first ? " " : "", argv[i]);
            if (!(in->command = find(noun, verb)) && !first && command_begins(noun, argv[i]))
                first = argv[i];
            else if (!in->command)
                return err_set(err, MUSTER_EUSAGE, "`muster %s %s` is not a command; see `muster --help`.", noun, verb);
        } else {
            bool another = n_args && in->command->args[n_args - 1].many;
            if (!another && (n_args == COMMAND_ARGS || !in->command->args[n_args].name))
                return err_set(err, MUSTER_EUSAGE, "`%s` is one word too many for `muster %s %s`.", argv[i], in->command->noun, in->command->verb);
            if (!another)
                in->args[n_args++] = argv[i];
            if (in->command->args[n_args - 1].many)
                in->rest[in->n_rest++] = argv[i];
        }
    }
    if (noun && !in->command && !known_noun(noun))
        return err_set(err, MUSTER_EUSAGE, "`muster %s` is not a command; see `muster --help`.", noun);
    if (noun && !in->command && !g->help)
        return err_set(err, MUSTER_EUSAGE, "`muster %s%s%s` needs a word more; see `muster %s --help`.", noun, first ? " " : "", first ? first : "", noun);
    *said = noun;
    return 0;
}

/* completion SHELL, and what the scripts that this prints ask. */
static int completion(int argc, char **argv, struct err *err) {
    if (argc >= 4 && strcmp(argv[2], "words") == 0 && strcmp(argv[3], "--") == 0)
        complete_words(stdout, argc - 4, argv + 4);
    else if (argc != 3 || !shell_script(stdout, argv[2], "muster"))
        return err_set(err, MUSTER_EUSAGE, "`muster completion` needs one of " SHELLS ".");
    return fflush(stdout) || ferror(stdout) ? err_set(err, MUSTER_EIO, "Standard output cannot be written.") : 0;
}

int main(int argc, char **argv) {
    struct err err = ERR_INIT;
    struct globals g = {0};
    static struct invocation in; /* large, and once a process */
    if (secret_init())
        return fail(&(struct err){.code = MUSTER_EINTERNAL});
    if (argc == 2 && strcmp(argv[1], "help-man") == 0) { /* for the build of muster(1) */
        help_man(stdout);
        return fflush(stdout) || ferror(stdout);
    }
    if (argc >= 2 && strcmp(argv[1], "completion") == 0)
        return completion(argc, argv, &err) ? fail(&err) : 0;
    const char *noun = NULL;
    CLEANUP(free_words) const char **rest = calloc((size_t)argc + 1, sizeof *rest);
    if (!(in.rest = rest))
        return fail(&(struct err){.code = MUSTER_ENOMEM});
    int rc = parse(&g, &in, argc, argv, &noun, &err);
    if (rc)
        return fail(&err);
    if (g.version)
        return printf("muster %s\n", MUSTER_VERSION) < 0;
    if (g.help) {
        if (in.command)
            help_command(stdout, in.command);
        else if (noun)
            help_noun(stdout, noun);
        else
            help_all(stdout);
        return fflush(stdout) || ferror(stdout);
    }
    if (!in.command) {
        help_all(stderr);
        return 2;
    }
    if ((rc = check_complete(&in, &err)))
        return fail(&err);
    CLEANUP(api_free) struct api *api = NULL;
    if (!in.command->local && (rc = api_open(g.data, &api, &err)))
        return fail(&err);
    in.api = api;
    in.json = g.json;
    in.yes = g.yes;
    rc = in.command->run ? in.command->run(&in, &err) : command_run(&in, &err);
    if (!rc && (fflush(stdout) || ferror(stdout)))
        rc = err_set(&err, MUSTER_EIO, "Standard output cannot be written.");
    int status = rc ? fail(&err) : 0;
    keyring_exit(status);
    return status;
}
