/* musterd: the server.  Finds the command in the table (commands.c) and turns errors into text and exit status: 0 done, 1 failed, 2 wrong
 * usage or configuration. */
#include "base/log.h"
#include "base/secret.h"
#include "musterd/options.h"
#include "musterd/title.h"

static int fail(const struct err *err) {
    fprintf(stderr, "musterd: %s\n", err_text(err));
    if (err->code != MUSTER_EUSAGE)
        fprintf(stderr, "%s (%s)\n", err_fix(err->code), err_code(err->code));
    return err_exit(err->code);
}

int main(int argc, char **argv) {
    struct err err = ERR_INIT;
    struct options options;
    const struct command *command;
    bool help, version;
    if (secret_init())
        return fail(&(struct err){.code = MUSTER_EINTERNAL});
    log_init("musterd", LOG_INFO);
    if (argc >= 4 && strcmp(argv[1], "completion") == 0 && strcmp(argv[2], "words") == 0 && strcmp(argv[3], "--") == 0) {
        complete_words(stdout, argc - 4, argv + 4);
        return fflush(stdout) || ferror(stdout);
    }
    if (options_parse(argc, argv, &options, &command, &help, &version, &err))
        return fail(&err);
    if (version)
        return printf("musterd %s\n", MUSTER_VERSION) < 0;
    if (help || !command) {
        options_help(help ? stdout : stderr, command);
        return help ? 0 : 2;
    }
    title_init(argc, argv);
    return command->run(&options, &err) ? fail(&err) : 0;
}
