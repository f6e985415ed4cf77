/* special: the commands that their row cannot say alone; see command.h. */
#include <unistd.h>

#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/file_arg.h"
#include "muster/print.h"

#define IMPORT_BATCH 2000
#define IMPORT_MAX (256u << 20)

static int show(struct invocation *in, const json_t *answer, struct err *err) {
    print_warnings(answer);
    if (in->json)
        return print_json(answer, err);
    print_object(answer);
    return 0;
}

int command_key_create(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP(api_answer_fini) struct api_answer zip = {0};
    CLEANUP_JSON json_t *body = NULL, *key = NULL;
    const char *out = invocation_option(in, "output");
    int rc = command_path(in, in->command->path, &path, err);
    if (rc || (rc = command_body(in, &body, err)))
        return rc;
    if (strcmp(out, "-") && access(out, F_OK) == 0)
        return err_set(err, MUSTER_EEXISTS, "%s exists already; a credential is not overwritten.", out);
    if ((rc = api_call(in->api, "POST", buf_str(&path), body, &zip, NULL, err)))
        return rc;
    if ((rc = file_arg_write(out, buf_span(&zip.body), true, err)))
        return err_prefix(err, "The key %s was made but its file was not written; blacklist it and make another", zip.key_id);
    buf_addf(&path, "/%s", zip.key_id);
    if ((rc = api_json(in->api, "GET", buf_str(&path), NULL, &key, NULL, err)))
        return rc;
    if (!strcmp(out, "-")) {
        fprintf(stderr, "key %s\n", zip.key_id);
        return 0;
    }
    if (!in->json)
        fprintf(stderr, "The credentials are in %s. They were not kept on the server.\n", out);
    return show(in, key, err);
}

static int import_batch(struct invocation *in, const char *path, json_t *items, size_t *done, struct err *err) {
    CLEANUP_JSON json_t *body = json_object();
    CLEANUP_JSON json_t *answer = NULL;
    size_t n = json_array_size(items);
    if (n == 0)
        return 0;
    json_set(body, "items", json_incref(items));
    int rc = api_json(in->api, "POST", path, body, &answer, NULL, err);
    if (rc)
        return err_prefix(err, "After %zu announced devices", *done);
    *done += n;
    json_array_clear(items);
    if (!in->json && isatty(STDERR_FILENO))
        fprintf(stderr, "\r%zu announced", *done);
    return 0;
}

/* One line of the import file as an item of the list; blank lines are passed over. */
static int import_line(json_t *items, struct span line, size_t number, struct err *err) {
    if (span_trim(line).n == 0)
        return 0;
    json_t *item = json_parse(line, err);
    if (!item)
        return err_prefix(err, "Line %zu", number);
    if (!json_is_string(json_object_get(item, "device_id"))) {
        json_decref(item);
        return err_set(err, MUSTER_EINVALID, "Line %zu has no device_id.", number);
    }
    return json_array_append_new(items, item) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

int command_device_import(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf file = BUF_INIT(IMPORT_MAX);
    CLEANUP_JSON json_t *items = json_array();
    CLEANUP_JSON json_t *answer = json_object();
    size_t done = 0, number = 0;
    int rc = command_path(in, in->command->path, &path, err);
    if (rc || (rc = file_arg_read(in->args[0], &file, err)))
        return rc;
    for (struct span rest = buf_span(&file); rest.n;) {
        long end = span_index(rest, '\n');
        struct span line = span_sub(rest, 0, end < 0 ? rest.n : (size_t)end);
        rest = span_sub(rest, line.n + 1, rest.n);
        if ((rc = import_line(items, line, ++number, err)))
            return rc;
        if (json_array_size(items) == IMPORT_BATCH && (rc = import_batch(in, buf_str(&path), items, &done, err)))
            return rc;
    }
    if ((rc = import_batch(in, buf_str(&path), items, &done, err)))
        return rc;
    if (!in->json && isatty(STDERR_FILENO) && done)
        fputc('\n', stderr);
    json_set_str(answer, "id", in->account);
    json_set_int(answer, "imported", (int64_t)done);
    return show(in, answer, err);
}

/* device revoke|quarantine: one device, or all of a provisioning key's. */
int command_device_act(struct invocation *in, struct err *err) {
    const char *key = invocation_option(in, "key"), *since = invocation_option(in, "since");
    if (!key && since)
        return err_set(err, MUSTER_EUSAGE, "--since goes with --key.");
    if (!key && !in->args[0])
        return err_set(err, MUSTER_EUSAGE, "Name a DEVICE, or --key KEY.");
    if (key && in->args[0])
        return err_set(err, MUSTER_EUSAGE, "Name a DEVICE or --key KEY, not both.");
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP_JSON json_t *body = NULL, *answer = NULL;
    int rc = command_body(in, &body, err);
    if (rc)
        return rc;
    if (key) {
        buf_adds(&path, "/api/v1/accounts/");
        api_encode(&path, in->account ? in->account : "-");
        buf_adds(&path, "/keys/");
        api_encode(&path, key);
        buf_adds(&path, "/devices");
        json_set_str(body, "action", in->command->verb);
        if (since)
            json_set_str(body, "since", since);
    } else if ((rc = command_path(in, in->command->path, &path, err)))
        return rc;
    rc = command_confirmed(in, "POST", buf_str(&path), body, NULL, &answer, err);
    return rc ? rc : show(in, answer, err);
}

int command_root_export(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP(api_answer_fini) struct api_answer pem = {0};
    const char *out = invocation_option(in, "output");
    int rc = command_path(in, in->command->path, &path, err);
    if (rc || (rc = api_call(in->api, "GET", buf_str(&path), NULL, &pem, NULL, err)))
        return rc;
    if (!in->json)
        return file_arg_write(out ? out : "-", buf_span(&pem.body), false, err);
    CLEANUP_JSON json_t *answer = json_object();
    json_set_str(answer, "id", in->args[0]);
    json_set_span(answer, "certificate", buf_span(&pem.body));
    if (out && (rc = file_arg_write(out, buf_span(&pem.body), false, err)))
        return rc;
    return print_json(answer, err);
}

/* The account's log, or the server's without --account: the same row, another path. */
static struct command server_row(const struct invocation *in, const char *path) {
    struct command row = *in->command;
    row.path = path;
    row.run = NULL;
    return row;
}

int command_audit_list(struct invocation *in, struct err *err) {
    bool head = !strcmp(in->command->verb, "head");
    struct command row = server_row(in, in->account ? in->command->path : head ? "/api/v1/audit/head" : "/api/v1/audit");
    struct invocation other = *in;
    other.command = &row;
    other.json = in->json || head; /* `audit verify --head` reads it back */
    return command_run(&other, err);
}

/* 0: admitted; a refusal is an answer, and exit status 1. */
int command_explain(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP_JSON json_t *body = NULL, *answer = NULL;
    if (!in->args[0] == !invocation_option(in, "refusal"))
        return err_set(err, MUSTER_EUSAGE, "Name a CHAIN, or --refusal ID.");
    int rc = command_path(in, in->command->path, &path, err);
    if (rc || (rc = command_body(in, &body, err)) || (rc = api_json(in->api, "POST", buf_str(&path), body, &answer, NULL, err)) || (rc = show(in, answer, err)))
        return rc;
    const char *verdict = json_string_value(json_object_get(answer, "verdict")), *code = json_string_value(json_object_get(answer, "code"));
    if (verdict && !strcmp(verdict, "admitted"))
        return 0;
    int why = code ? err_from_code(code) : 0;
    return err_set(err, why && err_exit(why) == 1 ? why : MUSTER_ECERTUNTRUSTED, "The gateway would refuse it: %s", json_string_value(json_object_get(answer, "reason")));
}

int command_refusal(struct invocation *in, struct err *err) {
    struct command row = server_row(in, in->account ? in->command->path : in->args[0] ? "/api/v1/refusals/{refusal}" : "/api/v1/refusals");
    struct invocation other = *in;
    other.command = &row;
    return command_run(&other, err);
}

int command_audit_verify(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP_JSON json_t *body = json_object(), *answer = NULL;
    const char *head = invocation_option(in, "head");
    int rc = command_path(in, in->account ? in->command->path : "/api/v1/audit/verify", &path, err);
    if (rc)
        return rc;
    if (head) {
        CLEANUP(buf_fini) struct buf file = BUF_INIT(65536);
        json_t *doc;
        if ((rc = file_arg_read(head, &file, err)))
            return rc;
        if (!(doc = json_parse(buf_span(&file), err)))
            return err_prefix(err, "%s", head);
        json_set(body, "head", doc);
    }
    if ((rc = api_json(in->api, "POST", buf_str(&path), body, &answer, NULL, err)) || (rc = show(in, answer, err)))
        return rc;
    if (json_is_true(json_object_get(answer, "ok")))
        return 0;
    const char *reason = json_string_value(json_object_get(answer, "reason"));
    return err_set(err, MUSTER_ECORRUPT, "The audit log does not verify: %s", reason ? reason : "no reason was given.");
}

int command_webhook_test(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP_JSON json_t *answer = NULL;
    int rc = command_path(in, in->command->path, &path, err);
    if (rc || (rc = api_json(in->api, "POST", buf_str(&path), NULL, &answer, NULL, err)) || (rc = show(in, answer, err)))
        return rc;
    if (json_is_true(json_object_get(answer, "delivered")))
        return 0;
    const char *why = json_string_value(json_object_get(answer, "error"));
    if (why)
        return err_set(err, MUSTER_ENETWORK, "The event was not delivered: %s", why);
    return err_set(err, MUSTER_ENETWORK, "The event was not delivered: the receiver answered %lld.", (long long)json_integer_value(json_object_get(answer, "status")));
}
