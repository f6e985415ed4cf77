/* complete: completion of musterd's command lines from its table of commands; options.h, base/shell.h. */
#include <string.h>

#include "base/shell.h"
#include "musterd/options.h"

#define BIT(option) (1U << (option))

int completion_run(const struct options *o, struct err *err) {
    if (!shell_script(stdout, o->word, "musterd"))
        return err_set(err, MUSTER_EUSAGE, "`musterd completion` needs one of " SHELLS ".");
    return fflush(stdout) || ferror(stdout) ? err_set(err, MUSTER_EIO, "Standard output cannot be written.") : 0;
}

static const char *value_of(const char *name) {
    for (enum option i = 0; i < OPTIONS_N; i++)
        if (strcmp(options_name(i), name) == 0)
            return options_value(i);
    return NULL;
}

static void offer_value(FILE *out, const char *value, const char *typed, const char *before) {
    if (strcmp(value, "FILE") == 0 || strcmp(value, "DIR") == 0)
        shell_offer_files(out, value[0] == 'D');
    else if (strchr(value, '|'))
        shell_offer_choices(out, typed, before, value);
}

static void offer_options(FILE *out, const struct command *c, const char *typed) {
    char text[80];
    for (enum option i = 0; c && i < OPTIONS_N; i++) {
        snprintf(text, sizeof text, "--%s", options_name(i));
        if (c->takes & BIT(i))
            shell_offer(out, typed, "", text, options_summary(i));
    }
    shell_offer(out, typed, "", "--help", NULL);
    shell_offer(out, typed, "", "--version", NULL);
}

static void offer_commands(FILE *out, const char *noun, const char *typed) {
    for (size_t i = 0; i < COMMANDS_N; i++) {
        const struct command *c = &COMMANDS[i];
        if (c->hidden)
            continue;
        if (noun && strcmp(c->noun, noun) == 0)
            shell_offer(out, typed, "", c->verb, c->help);
        else if (!noun)
            shell_offer(out, typed, "", c->noun, c->verb[0] ? NULL : c->help);
    }
}

void complete_words(FILE *out, int n, char **words) {
    const struct command *c = NULL;
    const char *noun = NULL, *typed, *last = n ? words[n - 1] : "", *value;
    char option[64], before[68];
    for (int i = 0; i + 1 < n; i++) {
        if (words[i][0] == '-' || strcmp(words[i], "=") == 0 || (shell_option_value(i + 1, words, option, &typed, before) && value_of(option)))
            continue;
        const char *verb = noun && !c ? words[i] : "";
        noun = noun ? noun : words[i];
        for (size_t k = 0; !c && k < COMMANDS_N; k++)
            if (strcmp(COMMANDS[k].noun, noun) == 0 && strcmp(COMMANDS[k].verb, verb) == 0)
                c = &COMMANDS[k];
    }
    if (shell_option_value(n, words, option, &typed, before) && (value = value_of(option)))
        offer_value(out, value, typed, before);
    else if (last[0] == '-')
        offer_options(out, c, last);
    else if (!c)
        offer_commands(out, noun, last);
    else if (c->word)
        shell_offer_choices(out, last, "", c->word);
}
