/* help: texts from the command table; see help.h. */
#include "muster/help.h"

#include <string.h>

#include "base/man.h"

static void usage(FILE *out, const struct command *c) {
    fprintf(out, "muster %s%s%s", c->noun, c->verb[0] ? " " : "", c->verb);
    for (size_t i = 0; i < COMMAND_ARGS && c->args[i].name; i++)
        fprintf(out, c->args[i].optional ? " [%s%s]" : " %s%s", c->args[i].name, c->args[i].many ? "…" : "");
    if (c->account)
        fprintf(out, c->account_free ? " [--account A]" : " --account A");
    for (size_t i = 0; i < COMMAND_OPTIONS && c->options[i].name; i++)
        if (c->options[i].required)
            fprintf(out, " --%s %s", c->options[i].name, c->options[i].value);
    for (size_t i = 0; i < COMMAND_OPTIONS && c->options[i].name; i++)
        if (!c->options[i].required)
            fprintf(out, c->options[i].value ? " [--%s %s%s" : " [--%s%s%s", c->options[i].name, c->options[i].value ? c->options[i].value : "",
                    c->options[i].to == TO_BODY_LIST || c->options[i].to == TO_BODY_RESET || c->options[i].to == TO_LOCAL_LIST ? "]…" : "]");
    fputc('\n', out);
}

static void globals(FILE *out) {
    fputs("\nFor every command:\n"
          "  --data DIR         the server's data directory (on the server itself)\n"
          "  --json             print the answer as JSON: lists as an array, all else as one object\n"
          "  --yes              go on where a command shows its reach and asks\n"
          "  --help, --version\n"
          "\nCompletion of command lines: `muster completion bash|zsh|fish` prints the shell's script.\n"
          "\nElsewhere than on the server: MUSTER_URL (https://host:port), MUSTER_TOKEN_FILE (mode 0600) and MUSTER_CA (PEM).\n"
          "Exit status: 0 done, 1 refused or failed, 2 wrong usage.\n",
          out);
}

void help_all(FILE *out) {
    fputs("muster: devices, provisioning keys, fleet roots and operators of a Muster server.\n\n", out);
    for (size_t i = 0; i < COMMANDS_N; i++)
        fprintf(out, "  %-10s %-14s %s\n", COMMANDS[i].noun, COMMANDS[i].verb, COMMANDS[i].help);
    globals(out);
}

void help_noun(FILE *out, const char *noun) {
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (!strcmp(COMMANDS[i].noun, noun))
            fprintf(out, "  %-10s %-14s %s\n", COMMANDS[i].noun, COMMANDS[i].verb, COMMANDS[i].help);
    globals(out);
}

void help_command(FILE *out, const struct command *c) {
    usage(out, c);
    fprintf(out, "\n%s\n", c->help);
    if (c->options[0].name)
        fputs("\nOptions:\n", out);
    for (size_t i = 0; i < COMMAND_OPTIONS && c->options[i].name; i++)
        fprintf(out, "  --%s%s%s\n        %s%s\n", c->options[i].name, c->options[i].value ? " " : "", c->options[i].value ? c->options[i].value : "",
                c->options[i].help, c->options[i].required ? " (required)" : "");
    if (c->account)
        fprintf(out, "  --account A\n        %s\n",
                c->account_free ? "The account; needed where the object is named by name or device ID, not where by id" : "The account (required)");
    globals(out);
}

void help_man(FILE *out) {
    for (size_t i = 0; i < COMMANDS_N; i++) {
        const struct command *c = &COMMANDS[i];
        fprintf(out, "*%s%s%s*", c->noun, c->verb[0] ? " " : "", c->verb);
        for (size_t k = 0; k < COMMAND_ARGS && c->args[k].name; k++)
            fprintf(out, c->args[k].optional ? " \\[%s%s\\]" : " %s%s", c->args[k].name, c->args[k].many ? "…" : "");
        fputs("\n\t", out);
        man_text(out, c->help);
        fputs("\n\n", out);
        for (size_t k = 0; k < COMMAND_OPTIONS && c->options[k].name; k++) {
            fprintf(out, "\t*--%s*", c->options[k].name);
            if (c->options[k].value) {
                fputc(' ', out);
                man_text(out, c->options[k].value);
            }
            fputs("\n\t\t", out);
            man_text(out, c->options[k].help);
            fputs("\n\n", out);
        }
    }
}
