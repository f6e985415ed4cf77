/* options: the command line of musterd, from the table of commands. */
#ifndef MUSTER_MUSTERD_OPTIONS_H
#define MUSTER_MUSTERD_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

#define OPTIONS_HOSTS_MAX 32

enum option {
    OPT_DATA, OPT_CONFIG, OPT_HOST, OPT_LISTEN, OPT_ADMIN, OPT_MASTER_KEY, OPT_MASTER_KEY_FILE, OPT_ACCOUNT, OPT_PASSPHRASE_FILE, OPT_RECIPIENT, OPT_RECIPIENT_KEY, OPT_WITHOUT_MASTER_KEY, OPT_OUTPUT, OPT_JSON,
    OPTIONS_N
};

struct options {
    const char *value[OPTIONS_N]; /* NULL: not given; of a flag: "" */
    const char *hosts[OPTIONS_HOSTS_MAX];
    size_t n_hosts;
    const char *word; /* the argument, where the command has one */
};

struct command {
    const char *noun, *verb; /* verb "": none */
    const char *word;        /* how help names its argument; NULL: it has none */
    unsigned takes, needs;   /* bits 1 << enum option; needs is a part of takes */
    bool hidden;             /* of help and manual */
    int (*run)(const struct options *o, struct err *err);
    const char *help, *more; /* one sentence; what else the manual says, or NULL */
};

extern const struct command COMMANDS[];
extern const size_t COMMANDS_N;

/* *command NULL: none was named.  *help, *version: asked for. MUSTER_EUSAGE. */
int options_parse(int argc, char **argv, struct options *out, const struct command **command, bool *help, bool *version, struct err *err) MUSTER_MUST_CHECK;
void options_help(FILE *out, const struct command *c); /* NULL: of all */
/* musterd(8) and musterd.conf(5) in scdoc's language. */
int options_man(const struct options *o, struct err *err);
int options_config_man(const struct options *o, struct err *err);
/* How help names an option's value, NULL: a flag; its one sentence. */
const char *options_name(enum option i);
const char *options_value(enum option i);
const char *options_summary(enum option i);

/* complete.c: the scripts of shells, and what these ask: what may stand in the place of the last of n words; base/shell.h. */
int completion_run(const struct options *o, struct err *err);
void complete_words(FILE *out, int n, char **words);

#endif
