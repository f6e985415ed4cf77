/* special: the commands that their row cannot say alone; see command.h. */
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/file_arg.h"
#include "muster/print.h"

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
    if ((rc = file_arg_may_write(out, err)) || (rc = api_call(in->api, "POST", buf_str(&path), body, &zip, NULL, err)))
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

#define WAIT_MS 15000 /* for lists that are about to be made: behind `account create` and `root rotate` a moment */
#define NAP_MS 200
#define QUIET_MS 1000

static int get_file(struct invocation *in, const char *path, bool waits, struct api_answer *out, struct err *err) {
    const int64_t begin = clock_mono_ms(), end = begin + WAIT_MS;
    for (bool told = false;;) {
        int rc = api_call(in->api, "GET", path, NULL, out, NULL, err);
        if (rc != MUSTER_EUNAVAILABLE || !waits || clock_mono_ms() > end)
            return rc;
        if (!told && (told = clock_mono_ms() > begin + QUIET_MS))
            print_message("It is waited for: ", err_text(err));
        api_answer_fini(out);
        *out = (struct api_answer){0};
        *err = ERR_INIT;
        nanosleep(&(struct timespec){.tv_nsec = NAP_MS * 1000000L}, NULL);
    }
}

/* The list is what it is, and who reads it is not told what it lacks. */
static void warn_of_list(const json_t *list) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(4096);
    const char *issuer = json_string_value(json_object_get(list, "issuer")), *made = json_string_value(json_object_get(list, "this_update")), *why = json_string_value(json_object_get(list, "failing"));
    const bool behind = json_is_true(json_object_get(list, "behind"));
    if (!why) /* what changes meanwhile is for who asks later */
        return;
    buf_addf(&text, "the list of %s is of %s%s. No newer one can be made: %s", issuer ? issuer : "a CA", made ? made : "before", behind ? ", and lacks what has changed since" : "", why);
    print_message("warning: ", buf_str(&text));
}

static void warn_of_lists(struct invocation *in, bool all) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP_JSON json_t *answer = NULL;
    struct err err = ERR_INIT;
    size_t i;
    json_t *one;
    if (command_path(in, all ? "/api/v1/accounts/{account}/crls" : "/api/v1/accounts/{account}/crls/{crl}", &path, &err) || api_json(in->api, "GET", buf_str(&path), NULL, &answer, NULL, &err)) {
        print_message("warning: whether the lists are the newest cannot be told: ", err_text(&err));
        return;
    }
    if (!all)
        warn_of_list(answer);
    json_array_foreach(json_object_get(answer, "items"), i, one)
        warn_of_list(one);
}

/* crl export, root bundle: what another program reads. */
int command_file_export(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP(api_answer_fini) struct api_answer list = {0};
    const char *out = invocation_option(in, "output");
    const bool all = in->command->args[0].name && !in->args[0], lists = !strcmp(in->command->noun, "crl");
    int rc = command_path(in, all ? "/api/v1/accounts/{account}/crl-file" : in->command->path, &path, err);
    if (rc || (rc = get_file(in, buf_str(&path), lists, &list, err)) || (rc = file_arg_write(out ? out : "-", buf_span(&list.body), false, err)))
        return rc;
    if (lists)
        warn_of_lists(in, all);
    if (!in->json || !out || !strcmp(out, "-"))
        return 0;
    CLEANUP_JSON json_t *answer = json_object();
    json_set_str(answer, "id", in->args[0]);
    json_set_str(answer, "file", out);
    json_set_int(answer, "bytes", (int64_t)list.body.n);
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

int command_cert_list(struct invocation *in, struct err *err) {
    struct command row = server_row(in, in->account ? in->command->path : "/api/v1/certificates");
    struct invocation other = *in;
    other.command = &row;
    if (!in->account)
        row.columns = "id account device_id state expired key_name created not_after revoked reason";
    return command_run(&other, err);
}

int command_refusal(struct invocation *in, struct err *err) {
    struct command row = server_row(in, in->account ? in->command->path : in->args[0] ? "/api/v1/refusals/{refusal}" : "/api/v1/refusals");
    struct invocation other = *in;
    other.command = &row;
    return command_run(&other, err);
}

static void add_count(struct buf *line, const json_t *said, const char *what, const char *of) {
    const json_t *all = json_object_get(said, of);
    json_int_t n = json_integer_value(json_object_get(said, what));
    if (n && json_is_integer(all))
        buf_addf(line, ", %s %lld of %lld", what, (long long)n, (long long)json_integer_value(all));
    else if (n)
        buf_addf(line, ", %s %lld", what, (long long)n);
}

static void say_verifying(struct buf *line, const json_t *said) {
    const char *account = json_string_value(json_object_get(said, "account"));
    if (account)
        buf_addf(line, " %s", account);
    add_count(line, said, "entries", "entries_all");
    add_count(line, said, "devices", "devices_all");
    add_count(line, said, "certificates", "certificates_all");
    add_count(line, said, "accounts", "");
}

int command_audit_verify(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP_JSON json_t *body = json_object(), *answer = NULL;
    const char *head = invocation_option(in, "head"), *server_only = invocation_option(in, "server-only");
    int rc = command_path(in, in->account ? in->command->path : "/api/v1/audit/verify", &path, err);
    if (rc)
        return rc;
    if (server_only && in->account)
        return err_set(err, MUSTER_EUSAGE, "--server-only goes without --account.");
    if (!in->account)
        json_set_bool(body, "accounts", !server_only);
    if (head) {
        CLEANUP(buf_fini) struct buf file = BUF_INIT(65536);
        json_t *doc;
        if ((rc = file_arg_read(head, &file, err)))
            return rc;
        if (!(doc = json_parse(buf_span(&file), err)))
            return err_prefix(err, "%s", head);
        json_set(body, "head", doc);
    }
    api_wait_long(in->api, "Verifying", buf_str(&path), say_verifying);
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
