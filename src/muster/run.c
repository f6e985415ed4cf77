/* run: what the rows of the command table have in common: building the request, asking where something dangerous wants a
 * confirmation, walking pages, printing.  See command.h. */
#include <errno.h>

#include "base/clock.h"
#include "base/hex.h"
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/file_arg.h"
#include "muster/key_digest.h"
#include "muster/print.h"
#include "muster/run_part.h"

#define PAGE 500

const char *invocation_option(const struct invocation *in, const char *name) {
    for (size_t i = 0; i < COMMAND_OPTIONS && in->command->options[i].name; i++)
        if (!strcmp(in->command->options[i].name, name))
            return in->option_n[i] ? in->option[i][in->option_n[i] - 1] : NULL;
    return NULL;
}

const char *const *invocation_values(const struct invocation *in, const char *name) {
    for (size_t i = 0; i < COMMAND_OPTIONS && in->command->options[i].name; i++)
        if (!strcmp(in->command->options[i].name, name))
            return in->option_n[i] ? (const char *const *)in->option[i] : NULL;
    return NULL;
}

static void field_name(const struct option_row *o, char out[64]) {
    snprintf(out, 64, "%s", o->field ? o->field : o->name);
    for (char *p = out; !o->field && *p; p++)
        if (*p == '-')
            *p = '_';
}

static int set_int(json_t *body, const char *name, const char *field, const char *text, bool nullable, struct err *err) {
    uint64_t v;
    if (nullable && !strcmp(text, "none")) {
        json_set(body, field, json_null());
        return 0;
    }
    if (!span_to_u64(span_str(text), &v) || v > INT64_MAX)
        return err_set(err, MUSTER_EUSAGE, "--%s takes a whole number%s, not \"%s\".", name, nullable ? " or none" : "", text);
    json_set_int(body, field, (int64_t)v);
    return 0;
}

/* A length of time: 30d, 12h, or seconds. */
static int set_span(json_t *body, const char *name, const char *field, const char *text, struct err *err) {
    int64_t seconds;
    uint64_t v;
    if (span_to_u64(span_str(text), &v) && v <= INT64_MAX)
        seconds = (int64_t)v;
    else if (clock_parse_span(span_str(text), &seconds))
        return err_set(err, MUSTER_EUSAGE, "--%s takes a length of time such as 30d, 12h or 900 (seconds), not \"%s\".", name, text);
    json_set_int(body, field, seconds);
    return 0;
}

static int set_bool(json_t *body, const char *name, const char *field, const char *text, struct err *err) {
    bool yes = !strcmp(text, "yes") || !strcmp(text, "true") || !strcmp(text, "on");
    if (!yes && strcmp(text, "no") && strcmp(text, "false") && strcmp(text, "off"))
        return err_set(err, MUSTER_EUSAGE, "--%s takes yes or no, not \"%s\".", name, text);
    json_set_bool(body, field, yes);
    return 0;
}

static int set_file(json_t *body, const char *field, const char *path, struct err *err) {
    CLEANUP(buf_wipe) struct buf text = BUF_INIT(16u << 20);
    int rc = file_arg_read(path, &text, err);
    if (rc)
        return rc;
    if (!span_is_utf8(buf_span(&text)))
        return err_set(err, MUSTER_EINVALID, "%s is not a text file; give it in PEM.", path);
    json_set_span(body, field, buf_span(&text));
    return 0;
}

/* A member by the name of the option that sets it, or by its own. */
static void member_named(const struct command *c, const char *name, char field[64]) {
    for (const struct option_row *o = c->options; o < c->options + COMMAND_OPTIONS && o->name; o++)
        if (!strcmp(o->name, name)) {
            field_name(o, field);
            return;
        }
    field_name(&(struct option_row){.name = name}, field);
}

static int body_option(const struct command *c, json_t *body, const struct option_row *o, const char *const *values, size_t n, struct err *err) {
    char field[64];
    field_name(o, field);
    switch (o->to) {
    case TO_BODY_TEXT:
        json_set_str(body, field, values[n - 1]);
        return 0;
    case TO_BODY_INT:
        return set_int(body, o->name, field, values[n - 1], false, err);
    case TO_BODY_SPAN:
        return set_span(body, o->name, field, values[n - 1], err);
    case TO_BODY_NULLABLE_INT:
        return set_int(body, o->name, field, values[n - 1], true, err);
    case TO_BODY_BOOL:
        return set_bool(body, o->name, field, values[n - 1], err);
    case TO_BODY_FILE:
        return set_file(body, field, values[n - 1], err);
    case TO_BODY_FLAG:
        json_set_bool(body, field, true);
        return 0;
    case TO_BODY_LIST: {
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, json_string(values[i]));
        json_set(body, field, list);
        return 0;
    }
    case TO_BODY_RESET:
        for (size_t i = 0; i < n; i++) {
            member_named(c, values[i], field);
            json_set(body, field, json_null());
        }
        return 0;
    case TO_QUERY:
    case TO_QUERY_KEY:
    case TO_LOCAL:
    case TO_LOCAL_LIST:
        return 0;
    }
    return 0;
}

int command_body(const struct invocation *in, json_t **out, struct err *err) {
    CLEANUP_JSON json_t *body = json_object();
    int rc;
    for (size_t i = 0; i < COMMAND_ARGS && in->command->args[i].name; i++) {
        const struct arg_row *a = &in->command->args[i];
        if (!a->field || !in->args[i])
            continue;
        if (!a->file) {
            json_set_str(body, a->field, in->args[i]);
            continue;
        }
        if ((rc = set_file(body, a->field, in->args[i], err)))
            return rc;
    }
    for (size_t i = 0; i < COMMAND_OPTIONS && in->command->options[i].name; i++)
        if (in->option_n[i] && (rc = body_option(in->command, body, &in->command->options[i], in->option[i], in->option_n[i], err)))
            return rc;
    *out = TAKE(body);
    return 0;
}

static const char *placeholder(const struct invocation *in, const char *name, size_t n) {
    if (n == 7 && !strncmp(name, "account", 7))
        return in->account ? in->account : "-"; /* "-": the server finds the account by the object's id */
    for (size_t i = 0; i < COMMAND_ARGS && in->command->args[i].name; i++)
        if (strlen(in->command->args[i].name) == n && !strncasecmp(in->command->args[i].name, name, n))
            return in->args[i];
    return NULL;
}

static int add_query(struct buf *out, const struct option_row *o, const char *value, struct err *err) {
    char digest[2 * PKI_HASH_LEN + 1];
    struct hash spki;
    int rc = o->to == TO_QUERY_KEY ? key_digest_named(value, &spki, err) : 0;
    if (rc)
        return rc;
    if (o->to == TO_QUERY_KEY)
        hex_encode(hash_span(&spki), digest);
    api_encode(out, o->to == TO_QUERY_KEY ? digest : o->value ? value : "yes");
    return 0;
}

int command_path(const struct invocation *in, const char *path, struct buf *out, struct err *err) {
    for (const char *p = path; *p; p++) {
        if (*p != '{') {
            buf_addc(out, (uint8_t)*p);
            continue;
        }
        size_t n = strcspn(++p, "}");
        const char *value = placeholder(in, p, n);
        if (!value || !*value)
            return err_set(err, MUSTER_EUSAGE, "%.*s is missing.", (int)n, p);
        api_encode(out, value);
        p += n;
    }
    bool first = !strchr(path, '?');
    for (size_t i = 0; i < COMMAND_OPTIONS && in->command->options[i].name; i++) {
        const struct option_row *o = &in->command->options[i];
        if ((o->to != TO_QUERY && o->to != TO_QUERY_KEY) || !in->option_n[i])
            continue;
        char field[64];
        field_name(o, field);
        buf_addf(out, "%c%s=", first ? '?' : '&', field);
        int rc = add_query(out, o, in->option[i][in->option_n[i] - 1], err);
        if (rc)
            return rc;
        first = false;
    }
    return buf_check(out, err);
}

/* Shows the reach and asks on a terminal; elsewhere only --yes goes on. */
bool run_agreed(const struct invocation *in, const char *reach) {
    char line[16];
    print_message("", reach);
    if (in->yes)
        return true;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        fprintf(stderr, "Nothing was changed. Repeat with --yes to go on.\n");
        return false;
    }
    fprintf(stderr, "Go on? Type yes: ");
    return fgets(line, sizeof line, stdin) && !strcmp(line, "yes\n");
}

int command_confirmed(struct invocation *in, const char *method, const char *path, json_t *body, const char *confirm_query, json_t **answer,
                      struct err *err) {
    CLEANUP_JSON json_t *problem = NULL;
    int rc = api_json(in->api, method, path, body, answer, &problem, err);
    if (rc != MUSTER_ECONFIRM)
        return rc;
    json_int_t count = json_integer_value(json_object_get(problem, "count"));
    if (!run_agreed(in, err_text(err)))
        return rc;
    CLEANUP(buf_fini) struct buf again = BUF_INIT(16384);
    buf_adds(&again, path);
    if (confirm_query)
        buf_addf(&again, "%c%s=%lld", strchr(path, '?') ? '&' : '?', confirm_query, (long long)count);
    else
        json_set_int(body, "confirm", count);
    *err = ERR_INIT;
    return api_json(in->api, method, buf_str(&again), body, answer, NULL, err);
}

/* Page by page: a list may have a million items.  Where a later page fails, what was printed before is no whole JSON document. */
static int run_list(struct invocation *in, const char *path, struct err *err) {
    CLEANUP(buf_fini) struct buf at = BUF_INIT(16384);
    struct print_list list;
    char cursor[1024] = "";
    print_list_begin(&list, in->json ? NULL : in->command->columns);
    for (;;) {
        CLEANUP_JSON json_t *page = NULL;
        buf_clear(&at);
        buf_addf(&at, "%s%climit=%d", path, strchr(path, '?') ? '&' : '?', PAGE);
        if (cursor[0]) {
            buf_adds(&at, "&cursor=");
            api_encode(&at, cursor);
        }
        int rc = api_json(in->api, "GET", buf_str(&at), NULL, &page, NULL, err);
        if (rc)
            return rc;
        const json_t *items = json_object_get(page, "items");
        if (!json_is_array(items))
            return err_set(err, MUSTER_ENETWORK, "The server's answer is not a page of a list.");
        if ((rc = print_list_items(&list, items, err)))
            return rc;
        const char *next = json_string_value(json_object_get(page, "next"));
        if (!next)
            break;
        if (!strcmp(next, cursor) || strlen(next) >= sizeof cursor)
            return err_set(err, MUSTER_ENETWORK, "The server's pages do not come to an end.");
        snprintf(cursor, sizeof cursor, "%s", next);
    }
    print_list_end(&list);
    return 0;
}

int command_run(struct invocation *in, struct err *err) {
    const struct command *c = in->command;
    CLEANUP(buf_fini) struct buf path = BUF_INIT(16384);
    int rc = command_path(in, c->path, &path, err);
    if (rc)
        return rc;
    if (c->columns)
        return run_list(in, buf_str(&path), err);
    CLEANUP_JSON json_t *body = NULL;
    CLEANUP_JSON json_t *answer = NULL;
    bool with_body = strcmp(c->method, "GET") && strcmp(c->method, "DELETE");
    if (with_body && (rc = command_body(in, &body, err)))
        return rc;
    bool empty = with_body && !json_object_size(body);
    if (empty && !strcmp(c->method, "PATCH"))
        return err_set(err, MUSTER_EUSAGE, "Nothing to change was named; see `muster %s %s --help`.", c->noun, c->verb);
    bool bodyless = with_body && !strcmp(c->noun, "key") && !strcmp(c->verb, "blacklist");
    rc = command_confirmed(in, c->method, buf_str(&path), bodyless ? NULL : body, c->confirm_query, &answer, err);
    if (rc)
        return rc;
    print_warnings(answer);
    if (in->json)
        return print_json(answer, err);
    print_object(answer);
    return 0;
}
