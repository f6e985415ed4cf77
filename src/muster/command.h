/* command: the table of subcommands.  A row says what the user types, which request of the operators' API it becomes, and how
 * the answer is shown; --help, the man page and the argument parser read the same row.  What a row cannot say has a `run` of its own. */
#ifndef MUSTER_MUSTER_COMMAND_H
#define MUSTER_MUSTER_COMMAND_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/cleanup.h"

#define COMMAND_ARGS 2
#define COMMAND_OPTIONS 16

/* Where an option's value goes; TO_BODY_FILE: the content of the file that it names; TO_BODY_RESET: null for
 * each member that it names; TO_QUERY_KEY: the digest of the public key that it names (key_digest.h). */
enum option_to { TO_BODY_TEXT, TO_BODY_INT, TO_BODY_SPAN, TO_BODY_BOOL, TO_BODY_FLAG, TO_BODY_LIST, TO_BODY_NULLABLE_INT, TO_BODY_FILE, TO_BODY_RESET, TO_QUERY, TO_QUERY_KEY, TO_LOCAL, TO_LOCAL_LIST };

struct option_row {
    const char *name;  /* without "--" */
    const char *value; /* how help names the value; NULL: a flag */
    enum option_to to;
    const char *field; /* JSON member or query parameter; NULL: `name` with '-' as '_' */
    const char *help;
    bool required;
};

struct arg_row {
    const char *name;  /* upper case in help; lower case is the placeholder in `path` and the key in values */
    const char *field; /* body member that takes it; with `file` its content; NULL: a placeholder of the path only */
    bool file;         /* a path to read (“-”: standard input) */
    bool optional;
    bool many;         /* the last argument of a row: that and all that follow, in invocation.rest */
};

struct invocation;
struct command {
    const char *noun, *verb; /* verb: "" none; may be of two words ("kit create") */
    struct arg_row args[COMMAND_ARGS];
    const char *method, *path;
    bool local;        /* needs no server: no --data, no environment; has a run of its own */
    bool account;      /* takes --account (required unless account_free) */
    bool account_free; /* an object named by its id needs no --account */
    const char *confirm_query; /* where a confirmed number goes: a query parameter, or NULL: "confirm" in the body */
    const char *columns; /* of a list: "id state=device_id …" (header from the name); NULL: shows one object */
    struct option_row options[COMMAND_OPTIONS];
    int (*run)(struct invocation *in, struct err *err); /* NULL: the row says it all */
    const char *help;  /* one sentence */
};

extern const struct command COMMANDS[];
extern const size_t COMMANDS_N;

/* Whether a verb of two words begins with that one. */
bool command_begins(const char *noun, const char *word);

/* What the user typed, parsed. */
struct invocation {
    const struct command *command;
    struct api *api;
    bool json, yes;
    const char *account;
    const char *args[COMMAND_ARGS];
    const char **rest; /* of an argument that may be many: all of them, args[i] included */
    size_t n_rest;
    const char *option[COMMAND_OPTIONS][65]; /* values of each option in order, ended by NULL; flags: "" */
    size_t option_n[COMMAND_OPTIONS];
};

/* The last value of an option, or NULL. */
const char *invocation_option(const struct invocation *in, const char *name);
/* Its values, ended by NULL; NULL: none. */
const char *const *invocation_values(const struct invocation *in, const char *name);
/* Performs the row's request (asking where the server wants a confirmation) and prints the answer. */
int command_run(struct invocation *in, struct err *err) MUSTER_MUST_CHECK;
/* Pieces of it, for rows with a run of their own. */
int command_body(const struct invocation *in, json_t **body, struct err *err) MUSTER_MUST_CHECK;
int command_path(const struct invocation *in, const char *path, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
int command_confirmed(struct invocation *in, const char *method, const char *path, json_t *body, const char *confirm_query, json_t **answer,
                      struct err *err) MUSTER_MUST_CHECK;

/* The rows with a run of their own. */
int command_status(struct invocation *in, struct err *err);
int command_forecast(struct invocation *in, struct err *err);
int command_key_create(struct invocation *in, struct err *err);
int command_device_import(struct invocation *in, struct err *err);
int command_csr_import(struct invocation *in, struct err *err);
int command_export(struct invocation *in, struct err *err);
int command_device_act(struct invocation *in, struct err *err);
int command_root_export(struct invocation *in, struct err *err);
int command_file_export(struct invocation *in, struct err *err);
int command_audit_list(struct invocation *in, struct err *err);
int command_audit_verify(struct invocation *in, struct err *err);
int command_cert_list(struct invocation *in, struct err *err);
int command_refusal(struct invocation *in, struct err *err);
int command_ca_init(struct invocation *in, struct err *err);
int command_ca_issue(struct invocation *in, struct err *err);
int command_ca_csr(struct invocation *in, struct err *err);
int command_ca_sign(struct invocation *in, struct err *err);
int command_ca_prove(struct invocation *in, struct err *err);
int command_ca_list(struct invocation *in, struct err *err);
int command_ca_show(struct invocation *in, struct err *err);
int command_factory_request(struct invocation *in, struct err *err);
int command_factory_start(struct invocation *in, struct err *err);
int command_factory_issue(struct invocation *in, struct err *err);
int command_factory_manifest(struct invocation *in, struct err *err);
int command_factory_reconcile(struct invocation *in, struct err *err);
int command_kit_create(struct invocation *in, struct err *err);
int command_kit_revoke(struct invocation *in, struct err *err);
int command_ca_revoke(struct invocation *in, struct err *err);
int command_ca_crl(struct invocation *in, struct err *err);
int command_ca_install(struct invocation *in, struct err *err);
int command_key_install(struct invocation *in, struct err *err);
int command_explain(struct invocation *in, struct err *err);
int command_webhook_test(struct invocation *in, struct err *err);

#endif
