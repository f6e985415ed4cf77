/* options: what the agent is told, by its command line and by its configuration, from one table that --help, the manual page and completion come
 * from as well.
 *
 * A configuration has lines `name = value` with the long names of the options, blank lines and comments that begin with #.  What the command
 * line says wins. */
#ifndef MUSTER_AGENT_OPTIONS_H
#define MUSTER_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

#define OPTIONS_VALUE_MAX 1024
#define OPTIONS_CONFIG "/etc/muster-agent.conf"
#define OPTIONS_DIR "/var/lib/muster-agent"

/* Texts "" where nobody said anything and there is no default. */
struct options {
    char dir[OPTIONS_VALUE_MAX], config[OPTIONS_VALUE_MAX], credentials[OPTIONS_VALUE_MAX], gateway[OPTIONS_VALUE_MAX], account[OPTIONS_VALUE_MAX];
    char device_id[OPTIONS_VALUE_MAX], device_id_file[OPTIONS_VALUE_MAX], device_id_command[OPTIONS_VALUE_MAX], device_id_from[OPTIONS_VALUE_MAX];
    char hooks[OPTIONS_VALUE_MAX], sysroot[OPTIONS_VALUE_MAX];
    char key[OPTIONS_VALUE_MAX], credentials_key[OPTIONS_VALUE_MAX], key_timeout[OPTIONS_VALUE_MAX], proxy[OPTIONS_VALUE_MAX];
    bool keep_credentials, set_clock, accept_time, now, stay, with_pin, json, help, version;
    bool names_device; /* the command line does, by any of the four */
};

enum command { COMMAND_NONE, COMMAND_PROVISION, COMMAND_RUN, COMMAND_STATUS, COMMAND_CHECK, COMMAND_EXPLAIN, COMMAND_EXEC, COMMAND_HELP_MAN, COMMAND_COMPLETION };

struct command_row {
    enum command command;
    const char *name, *args, *help; /* help NULL: not shown */
};
extern const struct command_row AGENT_COMMANDS[];
extern const size_t AGENT_COMMANDS_N;

void options_init(struct options *o); /* the defaults */
/* Reads the command line, and the configuration that it names (or the usual one, where that is there).  *rest: the words behind the command,
 * for exec and completion.  MUSTER_EUSAGE, or MUSTER_ECONFIG with file and line. */
int options_read(int argc, char **argv, struct options *o, enum command *command, char ***rest, struct err *err) MUSTER_MUST_CHECK;
/* One text of `name = value` lines, for options_read and the library; `from` names it in errors. */
int options_text(struct options *o, const char *from, const char *text, size_t n, struct err *err) MUSTER_MUST_CHECK;

/* Reads the configuration that they name, or the usual one, where that is there. */
int options_config(struct options *o, struct err *err) MUSTER_MUST_CHECK;

void options_help(FILE *out, enum command command); /* COMMAND_NONE: all of it */
void options_man(FILE *out);                        /* the tables, for scdoc */
/* Candidates for the last of the words, as base/shell.h has them. */
void options_complete(FILE *out, int n, char **words);

#endif
