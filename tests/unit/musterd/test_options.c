/* The command line of musterd: what is taken, what is refused, and that help and manual know every command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "musterd/options.h"

#define BIT(option) (1U << (option))

static int nothing(const struct options *o, struct err *err) { return 0; }

const struct command COMMANDS[] = {
    {"init", "", NULL, BIT(OPT_DATA) | BIT(OPT_HOST) | BIT(OPT_JSON), BIT(OPT_DATA), false, nothing, "Makes it.", NULL},
    {"vault", "export", NULL, BIT(OPT_DATA) | BIT(OPT_OUTPUT), BIT(OPT_DATA) | BIT(OPT_OUTPUT), false, nothing, "Writes it.", "And more."},
    {"self", "", "KIND", BIT(OPT_DATA), BIT(OPT_DATA), true, nothing, "Hidden.", NULL},
};
const size_t COMMANDS_N = 3;

struct parsed {
    int rc;
    struct options options;
    const struct command *command;
    bool help, version;
    struct err err;
};

static struct parsed parse(const char *line) {
    static char words[256];
    char *argv[16] = {(char *)"musterd"};
    int argc = 1;
    struct parsed p = {.err = ERR_INIT};
    snprintf(words, sizeof words, "%s", line);
    for (char *w = words, *next; w && *w; w = next) {
        if ((next = strchr(w, ' ')))
            *next++ = '\0';
        argv[argc++] = w;
    }
    p.rc = options_parse(argc, argv, &p.options, &p.command, &p.help, &p.version, &p.err);
    return p;
}

static void commands_and_their_options_are_taken(void **state) {
    struct parsed p = parse("init --data /d --host a --host=b --json");
    assert_int_equal(p.rc, 0);
    assert_string_equal(p.command->noun, "init");
    assert_string_equal(p.options.value[OPT_DATA], "/d");
    assert_int_equal(p.options.n_hosts, 2);
    assert_string_equal(p.options.hosts[0], "a");
    assert_string_equal(p.options.hosts[1], "b");
    assert_non_null(p.options.value[OPT_JSON]);
    p = parse("vault export -o f --data=/d");
    assert_int_equal(p.rc, 0);
    assert_string_equal(p.command->verb, "export");
    assert_string_equal(p.options.value[OPT_OUTPUT], "f");
    p = parse("self vault --data /d");
    assert_int_equal(p.rc, 0);
    assert_string_equal(p.options.word, "vault");
}

static void help_needs_no_options(void **state) {
    assert_true(parse("--help").help);
    assert_int_equal(parse("init --help").rc, 0);
    assert_true(parse("vault -h").help);
    assert_true(parse("--version").version);
    assert_null(parse("").command);
}

static void wrong_usage_is_refused(void **state) {
    static const char *const wrong[] = {
        "nothing", "init", "init --data", "init --data=", "init --data /d --data /e", "init --data /d --output f", "init --data /d more", "init --data /d --json=1",
        "init --data /d --no-such", "vault --data /d", "vault import --data /d", "vault export --data /d", "self --data /d", "self a b --data /d", "-x",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct parsed p = parse(wrong[i]);
        assert_int_equal(p.rc, MUSTER_EUSAGE);
        assert_int_equal(err_exit(p.rc), 2);
        assert_true(p.err.text[0]);
    }
}

static void too_many_hosts_are_refused(void **state) {
    char *argv[2 + 2 * (OPTIONS_HOSTS_MAX + 1)] = {(char *)"musterd", (char *)"init"};
    int argc = 2;
    struct parsed p;
    while (argc < (int)(sizeof argv / sizeof *argv)) {
        argv[argc++] = (char *)"--host";
        argv[argc++] = (char *)"a";
    }
    assert_int_equal(options_parse(argc, argv, &p.options, &p.command, &p.help, &p.version, &p.err), MUSTER_EUSAGE);
}

static void help_shows_what_is_not_hidden(void **state) {
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    options_help(out, NULL);
    options_help(out, &COMMANDS[1]);
    fclose(out);
    assert_non_null(strstr(text, "init"));
    assert_null(strstr(text, "Hidden."));
    assert_non_null(strstr(text, "musterd vault export --data DIR --output FILE"));
    assert_non_null(strstr(text, "And more."));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_and_their_options_are_taken),
        cmocka_unit_test(help_needs_no_options),
        cmocka_unit_test(wrong_usage_is_refused),
        cmocka_unit_test(too_many_hosts_are_refused),
        cmocka_unit_test(help_shows_what_is_not_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
