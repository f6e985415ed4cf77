/* options: see options.h. */
#include "musterd/options.h"

#include <string.h>

#include "base/man.h"

#define BIT(option) (1U << (option))

static const struct {
    const char *name, *value, *help; /* value NULL: a flag */
} OPTIONS[OPTIONS_N] = {
    [OPT_DATA] = {"data", "DIR", "The data directory."},
    [OPT_CONFIG] = {"config", "FILE", "The configuration, musterd.conf(5). Default: DIR/musterd.conf."},
    [OPT_HOST] = {"host", "NAME", "Host name of the gateway as devices know it; may be repeated, the first is the one in URLs. Default: localhost."},
    [OPT_LISTEN] = {"listen", "ADDR:PORT", "Where devices connect. Default: 127.0.0.1:8443; port 0 picks one."},
    [OPT_ADMIN] = {"admin", "ADDR:PORT", "Where operators connect. Default: 127.0.0.1:9443; port 0 picks one."},
    [OPT_MASTER_KEY] = {"master-key", "file|passphrase|credential",
        "Where the vault's master key comes from: file (the default), passphrase (asked on the terminal, or the first line of stdin), or credential."},
    [OPT_MASTER_KEY_FILE] = {"master-key-file", "FILE", "The key file or the credential's file, an absolute path."},
    [OPT_ACCOUNT] = {"account", "A", "The account."},
    [OPT_PASSPHRASE_FILE] = {"passphrase-file", "FILE", "Takes the passphrase from the first line of a file of mode 0600 instead of the terminal; for a credential, all of the file."},
    [OPT_RECIPIENT] = {"recipient", "FILE", "Encrypts to an X25519 public key in PEM instead of a passphrase (`openssl genpkey -algorithm X25519`, `openssl pkey -pubout`)."},
    [OPT_RECIPIENT_KEY] = {"recipient-key", "FILE", "The private half of that key, of mode 0600."},
    [OPT_WITHOUT_MASTER_KEY] = {"without-master-key", NULL, "Leaves DIR/vault/master.key out."},
    [OPT_OUTPUT] = {"output", "FILE", "The file to write, also -o; it must not exist."},
    [OPT_JSON] = {"json", NULL, "Print the result as one JSON object."},
};

const char *options_name(enum option i) { return OPTIONS[i].name; }
const char *options_value(enum option i) { return OPTIONS[i].value; }
const char *options_summary(enum option i) { return OPTIONS[i].help; }

/* --- parsing ------------------------------------------------------------------------------------------------------------------- */

static bool known_noun(const char *noun) {
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (!strcmp(COMMANDS[i].noun, noun))
            return true;
    return false;
}

static const struct command *find(const char *noun, const char *verb) {
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (!strcmp(COMMANDS[i].noun, noun) && !strcmp(COMMANDS[i].verb, verb))
            return &COMMANDS[i];
    return NULL;
}

/* "--name", "--name=value" or "-o": the option, or OPTIONS_N. */
static enum option named(const char *arg) {
    if (!strcmp(arg, "-o"))
        return OPT_OUTPUT;
    for (enum option i = 0; i < OPTIONS_N; i++) {
        size_t n = strlen(OPTIONS[i].name);
        if (!strncmp(arg, "--", 2) && !strncmp(arg + 2, OPTIONS[i].name, n) && (arg[2 + n] == '\0' || arg[2 + n] == '='))
            return i;
    }
    return OPTIONS_N;
}

static int take(struct options *o, enum option which, int argc, char **argv, int *i, struct err *err) {
    const char *equals = strchr(argv[*i], '='), *value = "";
    if (!OPTIONS[which].value && equals)
        return err_set(err, MUSTER_EUSAGE, "--%s takes no value.", OPTIONS[which].name);
    if (OPTIONS[which].value) {
        value = equals && argv[*i][1] == '-' ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (!value || !*value)
            return err_set(err, MUSTER_EUSAGE, "--%s needs a value: %s.", OPTIONS[which].name, OPTIONS[which].value);
    }
    if (which == OPT_HOST) {
        if (o->n_hosts == OPTIONS_HOSTS_MAX)
            return err_set(err, MUSTER_EUSAGE, "--host is given more than %d times.", OPTIONS_HOSTS_MAX);
        o->hosts[o->n_hosts++] = value;
    } else if (o->value[which]) {
        return err_set(err, MUSTER_EUSAGE, "--%s is given twice.", OPTIONS[which].name);
    }
    o->value[which] = value;
    return 0;
}

static int check_complete(const struct options *o, const struct command *c, struct err *err) {
    for (enum option i = 0; i < OPTIONS_N; i++) {
        if (o->value[i] && !(c->takes & BIT(i)))
            return err_set(err, MUSTER_EUSAGE, "--%s is not an option of `musterd %s%s%s`; see its --help.", OPTIONS[i].name, c->noun, *c->verb ? " " : "", c->verb);
        if (!o->value[i] && (c->needs & BIT(i)))
            return err_set(err, MUSTER_EUSAGE, "`musterd %s%s%s` needs --%s %s.", c->noun, *c->verb ? " " : "", c->verb, OPTIONS[i].name, OPTIONS[i].value);
    }
    return c->word && !o->word ? err_set(err, MUSTER_EUSAGE, "`musterd %s` needs %s.", c->noun, c->word) : 0;
}

static int take_word(struct options *o, const char **noun, const struct command **c, const char *word, struct err *err) {
    if (!*noun) {
        if (!known_noun(word))
            return err_set(err, MUSTER_EUSAGE, "`musterd %s` is not a command; see `musterd --help`.", word);
        *noun = word;
        *c = find(word, "");
    } else if (!*c) {
        if (!(*c = find(*noun, word)))
            return err_set(err, MUSTER_EUSAGE, "`musterd %s %s` is not a command; see `musterd --help`.", *noun, word);
    } else if ((*c)->word && !o->word) {
        o->word = word;
    } else {
        return err_set(err, MUSTER_EUSAGE, "`%s` is one word too many for `musterd %s`.", word, *noun);
    }
    return 0;
}

int options_parse(int argc, char **argv, struct options *out, const struct command **command, bool *help, bool *version, struct err *err) {
    const char *noun = NULL;
    *out = (struct options){0};
    *command = NULL;
    *help = *version = false;
    for (int i = 1; i < argc; i++) {
        enum option which = named(argv[i]);
        int rc = 0;
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            *help = true;
        else if (!strcmp(argv[i], "--version"))
            *version = true;
        else if (which != OPTIONS_N)
            rc = take(out, which, argc, argv, &i, err);
        else if (argv[i][0] == '-' && argv[i][1])
            rc = err_set(err, MUSTER_EUSAGE, "%s is not an option; see `musterd --help`.", argv[i]);
        else
            rc = take_word(out, &noun, command, argv[i], err);
        if (rc)
            return rc;
    }
    if (*help || *version)
        return 0;
    if (noun && !*command)
        return err_set(err, MUSTER_EUSAGE, "`musterd %s` is not the whole of a command; see `musterd --help`.", noun);
    return *command ? check_complete(out, *command, err) : 0;
}

/* --- help and manual --------------------------------------------------------------------------------------------------------------- */

static void usage(FILE *out, const struct command *c, const char *bold) {
    fprintf(out, "%smusterd %s%s%s%s", bold, c->noun, *c->verb ? " " : "", c->verb, bold);
    if (c->word)
        fprintf(out, " %s", c->word);
    for (int optional = 0; optional < 2; optional++)
        for (enum option i = 0; i < OPTIONS_N; i++) {
            if (!(c->takes & BIT(i)) || optional == !!(c->needs & BIT(i)))
                continue;
            fprintf(out, " %s%s--%s%s%s%s%s%s", optional ? *bold ? "\\[" : "[" : "", bold, OPTIONS[i].name, bold, OPTIONS[i].value ? " " : "",
                    OPTIONS[i].value ? OPTIONS[i].value : "", optional ? "]" : "", i == OPT_HOST ? "…" : "");
        }
    fputc('\n', out);
}

void options_help(FILE *out, const struct command *c) {
    if (!c) {
        fputs("musterd: the server of Muster: identities and certificates for the devices of a fleet.\n\n", out);
        for (size_t i = 0; i < COMMANDS_N; i++)
            if (!COMMANDS[i].hidden)
                fprintf(out, "  %-10s %-7s %s\n", COMMANDS[i].noun, COMMANDS[i].verb, COMMANDS[i].help);
        fputs("\nOf each command: --help.  Also: --version.\nExit status: 0 done, 1 failed, 2 wrong usage or configuration.\n", out);
        return;
    }
    usage(out, c, "");
    fprintf(out, "\n%s\n", c->help);
    if (c->more)
        fprintf(out, "%s\n", c->more);
    for (enum option i = 0; i < OPTIONS_N; i++)
        if (c->takes & BIT(i))
            fprintf(out, "\n  --%s%s%s\n        %s\n", OPTIONS[i].name, OPTIONS[i].value ? " " : "", OPTIONS[i].value ? OPTIONS[i].value : "", OPTIONS[i].help);
}

static void man_command(FILE *out, const struct command *c) {
    usage(out, c, "*");
    fputc('\t', out);
    man_text(out, c->help);
    if (c->more) {
        fputc(' ', out);
        man_text(out, c->more);
    }
    fputs("\n\n", out);
}

int options_man(const struct options *o, struct err *err) {
    FILE *out = stdout;
    fputs("MUSTERD(8)\n\n# NAME\n\nmusterd - the server of Muster: identities and certificates for the devices of a fleet\n\n# COMMANDS\n\n", out);
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (!COMMANDS[i].hidden)
            man_command(out, &COMMANDS[i]);
    fputs("# OPTIONS\n\n", out);
    for (enum option i = 0; i < OPTIONS_N; i++) {
        fprintf(out, "*--%s*%s%s\n\t", OPTIONS[i].name, OPTIONS[i].value ? " " : "", OPTIONS[i].value ? OPTIONS[i].value : "");
        man_text(out, OPTIONS[i].help);
        fputs("\n\n", out);
    }
    fputs("*--help*, *--version*\n\tWhat they say.\n\n"
          "# SIGNALS\n\n"
          "*SIGTERM*, *SIGINT*\n\tFinishes what is under way, for up to 20 seconds, then ends. Once more: ends at once.\n\n"
          "*SIGHUP*\n\tReads settings and certificates again. Where a new gateway takes over, what is under way has 20 seconds in the old one. Settings that need a restart keep their value, and the log names them.\n\n"
          "# EXIT STATUS\n\n0 done, 1 failed, 2 wrong usage or configuration.\n\n"
          "# ENVIRONMENT\n\n"
          "*CREDENTIALS\\_DIRECTORY*\n\tWhere the credential _master_ is, for master\\_key = credential.\n\n"
          "*NOTIFY\\_SOCKET*\n\tTold when the server is ready and when it ends; sd\\_notify(3).\n\n"
          "# SEE ALSO\n\n*muster*(1), *musterd.conf*(5)\n", out);
    return fflush(out) || ferror(out) ? err_set(err, MUSTER_EIO, "Standard output cannot be written.") : 0;
}
