/* openapi: the operators' API as an OpenAPI 3.1 document (JSON Schema 2020-12), made of routes.def, answers.def, schemas.def, errors.def
 * and the registry's words.  It is the same on every server of a version and holds nothing of what a server keeps, so that it needs no token. */
#include "admin/internal.h"
#include "admin/schema.h"

#define NULL_TOO(when) ((when) == WHEN_OR_NULL || (when) == WHEN_MAYBE_NULL)

/* --- values ------------------------------------------------------------------------------------------------------------------------- */

static json_t *object_of(const char *key, json_t *value) {
    json_t *o = json_object();
    json_set(o, key, value);
    return o;
}

static json_t *ref_to(const char *kind, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "#/components/%s/%s", kind, name);
    return object_of("$ref", json_string(path));
}

static const char *schema_name(enum schema s) {
    for (size_t i = 0; i < SCHEMA_ROWS_N; i++)
        if (SCHEMA_ROWS[i].kind == ROW_SCHEMA && SCHEMA_ROWS[i].schema == s)
            return SCHEMA_ROWS[i].name;
    return "";
}

static json_t *words_of(const struct value *v) {
    json_t *list = json_array();
    if (v->type == VALUE_WORD) {
        for (int i = 0; i < v->words->n; i++)
            if (v->words->word[i])
                json_array_append_new(list, json_string(v->words->word[i]));
        return list;
    }
    for (const char *at = v->choice; *at; at += *at == '|') {
        size_t n = strcspn(at, "|");
        json_array_append_new(list, json_stringn(at, n));
        at += n;
    }
    return list;
}

static json_t *single(const struct value *v) {
    static const struct {
        const char *type, *format, *pattern;
    } plain[] = {
        [VALUE_TEXT] = {"string", NULL, NULL},
        [VALUE_INT] = {"integer", NULL, NULL},
        [VALUE_BOOL] = {"boolean", NULL, NULL},
        [VALUE_UUID] = {"string", "uuid", "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
        [VALUE_TIME] = {"string", "date-time", "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"},
        [VALUE_DIGEST] = {"string", NULL, "^[0-9a-fA-F]{64}$"},
        [VALUE_HEX] = {"string", NULL, "^([0-9a-f]{2})+$"},
        [VALUE_BASE64] = {"string", NULL, "^[A-Za-z0-9+/]+={0,2}$"},
        [VALUE_URL] = {"string", "uri", "^https?://"},
        [VALUE_PEM] = {"string", NULL, NULL},
        [VALUE_WHEN] = {"string", NULL, NULL},
        [VALUE_OBJECT] = {"object", NULL, NULL},
        [VALUE_WORD] = {"string", NULL, NULL},
        [VALUE_ONE_OF] = {"string", NULL, NULL},
    };
    if (v->type == VALUE_REF)
        return ref_to("schemas", schema_name(v->ref));
    json_t *o = json_object();
    if (v->type == VALUE_SPAN) {
        json_set(o, "type", json_pack("[s, s]", "integer", "string"));
        return o;
    }
    json_set_str(o, "type", plain[v->type].type);
    if (plain[v->type].format)
        json_set_str(o, "format", plain[v->type].format);
    if (plain[v->type].pattern)
        json_set_str(o, "pattern", plain[v->type].pattern);
    if (v->type == VALUE_WORD || v->type == VALUE_ONE_OF)
        json_set(o, "enum", words_of(v));
    return o;
}

static json_t *value_of(const struct value *v) {
    json_t *o = single(v);
    if (v->list) {
        json_t *list = object_of("type", json_string("array"));
        json_set(list, "items", o);
        o = list;
    }
    return v->or_text ? object_of("anyOf", json_pack("[o, {s:s}]", o, "type", "string")) : o;
}

/* The value, or null. */
static json_t *or_null(json_t *o) {
    const char *type = json_string_value(json_object_get(o, "type"));
    json_t *words = json_object_get(o, "enum");
    if (!type)
        return object_of("anyOf", json_pack("[o, {s:s}]", o, "type", "null"));
    json_set(o, "type", json_pack("[s, s]", type, "null"));
    if (words)
        json_array_append_new(words, json_null());
    return o;
}

/* --- schemas ------------------------------------------------------------------------------------------------------------------------- */

static void add_fields(enum schema s, json_t *properties, json_t *required) {
    size_t i = 0;
    while (i < SCHEMA_ROWS_N && !(SCHEMA_ROWS[i].kind == ROW_SCHEMA && SCHEMA_ROWS[i].schema == s))
        i++;
    for (i++; i < SCHEMA_ROWS_N && SCHEMA_ROWS[i].kind != ROW_SCHEMA; i++) {
        const struct schema_row *f = &SCHEMA_ROWS[i];
        if (f->kind == ROW_EXTENDS) {
            add_fields(f->schema, properties, required);
            continue;
        }
        json_t *o = value_of(&f->what);
        if (NULL_TOO(f->when))
            o = or_null(o);
        json_set_str(o, "description", f->summary);
        json_set(properties, f->name, o);
        if (f->when == WHEN_ALWAYS || f->when == WHEN_OR_NULL)
            json_array_append_new(required, json_string(f->name));
    }
}

static json_t *schema_of(const struct schema_row *row) {
    json_t *o = json_object(), *properties = json_object(), *required = json_array();
    add_fields(row->schema, properties, required);
    json_set_str(o, "type", "object");
    json_set_str(o, "description", row->summary);
    json_set(o, "properties", properties);
    json_set(o, "required", required);
    json_set_bool(o, "additionalProperties", false);
    return o;
}

/* An error of one status: only the codes that have it. */
static json_t *problem_of(int status) {
    const struct schema_row row = {.schema = SCHEMA_Problem, .summary = "An error (RFC 9457)"};
    json_t *o = schema_of(&row), *properties = json_object_get(o, "properties"), *codes = json_array();
    for (int i = 0; i < err_count(); i++)
        if (err_http(err_at(i)) == status)
            json_array_append_new(codes, json_string(err_code(err_at(i))));
    json_set(json_object_get(properties, "status"), "const", json_integer(status));
    json_set(json_object_get(properties, "code"), "enum", codes);
    return o;
}

static json_t *page_of_schema(const char *name) {
    json_t *o = json_object(), *properties = json_object(), *items = object_of("type", json_string("array"));
    json_set(items, "items", ref_to("schemas", name));
    json_set(properties, "items", items);
    json_set(properties, "next", json_pack("{s:[s, s], s:s}", "type", "string", "null", "description", "The cursor of the next page; null: this is the last"));
    json_set_str(o, "type", "object");
    json_set(o, "properties", properties);
    json_set(o, "required", json_pack("[s, s]", "items", "next"));
    json_set_bool(o, "additionalProperties", false);
    return o;
}

/* --- answers ----------------------------------------------------------------------------------------------------------------------------- */

#define STATUS_MIN 400
#define STATUS_MAX 599

/* Whether errors.def has an error of the status. */
static bool is_error(int status) {
    for (int i = 0; i < err_count(); i++)
        if (err_http(err_at(i)) == status)
            return true;
    return false;
}

/* Which errors a route can answer, by what it takes. */
static bool can_answer(const struct admin_route *r, int status) {
    bool writes = strcmp(r->method, "GET") != 0, token = r->scope != SCOPE_OPEN, names = strchr(r->path, '{') != NULL;
    switch (status) {
    case 401:
    case 403:
        return token;
    case 404:
        return names || r->body_max > 0;
    case 409:
    case 429:
        return writes;
    case 411:
    case 415:
        return r->body_max > 0;
    case 405: /* of a path without that method, so of no route */
    case 502:
    case 504:
        return false;
    default:
        return true;
    }
}

#define PROBLEM_NAME_MAX 24

static void problem_name(int status, char out[PROBLEM_NAME_MAX]) { snprintf(out, PROBLEM_NAME_MAX, "Problem%d", status); }

static json_t *problem_response(int status) {
    char name[PROBLEM_NAME_MAX];
    problem_name(status, name);
    json_t *o = json_object(), *headers = json_object();
    json_set_str(o, "description", "An error; `code` says which");
    if (status == 429 || status == 503)
        json_set(headers, "Retry-After", json_pack("{s:s, s:{s:s}}", "description", "Seconds to wait", "schema", "type", "integer"));
    if (status == 401)
        json_set(headers, "WWW-Authenticate", json_pack("{s:s, s:{s:s}}", "description", "Bearer", "schema", "type", "string"));
    if (json_object_size(headers))
        json_set(o, "headers", headers);
    else
        json_decref(headers);
    json_set(o, "content", object_of("application/problem+json", object_of("schema", ref_to("schemas", name))));
    return o;
}

static json_t *answer_schema(const struct answer *a) {
    switch (a->kind) {
    case ANSWER_ONE:
        return ref_to("schemas", schema_name(a->schema));
    case ANSWER_PAGE:
        return page_of_schema(schema_name(a->schema));
    case ANSWER_EITHER:
        return object_of("oneOf", json_pack("[o, o]", ref_to("schemas", schema_name(a->schema)), ref_to("schemas", schema_name(a->other))));
    case ANSWER_FILE:
        return NULL;
    case ANSWER_DOCUMENT:
        return object_of("type", json_string("object"));
    case ANSWER_PROBLEM:
        break;
    }
    return json_object();
}

static json_t *answer_of(size_t route, const struct answer *a, bool success) {
    json_t *o = json_object(), *headers = json_object(), *media = json_object(), *schema = answer_schema(a);
    json_set_str(o, "description", success ? "Done" : "Not done, or not all of it");
    for (size_t i = 0; success && i < ROUTE_FIELDS_N; i++)
        if (ROUTE_FIELDS[i].route == route)
            json_set(headers, ROUTE_FIELDS[i].name, json_pack("{s:s, s:o}", "description", ROUTE_FIELDS[i].summary, "schema", value_of(&ROUTE_FIELDS[i].what)));
    if (json_object_size(headers))
        json_set(o, "headers", headers);
    else
        json_decref(headers);
    if (schema)
        json_set(media, "schema", schema);
    json_set(o, "content", object_of(a->kind == ANSWER_FILE ? a->media : "application/json", media));
    return o;
}

static void set_status(json_t *responses, int status, json_t *value) {
    char text[16];
    snprintf(text, sizeof text, "%d", status);
    json_set(responses, text, value);
}

static void set_problem(json_t *responses, int status) {
    char name[PROBLEM_NAME_MAX];
    problem_name(status, name);
    set_status(responses, status, ref_to("responses", name));
}

static json_t *responses_of(size_t route) {
    json_t *o = json_object();
    set_status(o, ROUTE_ANSWERS[route].status, answer_of(route, &ROUTE_ANSWERS[route].answer, true));
    for (int status = STATUS_MIN; status <= STATUS_MAX; status++)
        if (is_error(status) && can_answer(&ADMIN_ROUTES[route], status))
            set_problem(o, status);
    for (size_t i = 0; i < ROUTE_ALSO_N; i++)
        if (ROUTE_ALSO[i].route == route && ROUTE_ALSO[i].answer.kind == ANSWER_PROBLEM)
            set_problem(o, ROUTE_ALSO[i].status);
        else if (ROUTE_ALSO[i].route == route)
            set_status(o, ROUTE_ALSO[i].status, answer_of(route, &ROUTE_ALSO[i].answer, ROUTE_ALSO[i].status < 400));
    return o;
}

/* --- routes -------------------------------------------------------------------------------------------------------------------------------- */

static json_t *parameter(const char *name, size_t n, const char *in, const char *summary, json_t *schema) {
    json_t *o = json_object();
    json_set(o, "name", json_stringn(name, n));
    json_set_str(o, "in", in);
    json_set_bool(o, "required", strcmp(in, "path") == 0);
    json_set_str(o, "description", summary ? summary : "The name of the object");
    json_set(o, "schema", schema);
    return o;
}

static json_t *parameters_of(size_t route) {
    json_t *list = json_array();
    for (const char *at = ADMIN_ROUTES[route].path; (at = strchr(at, '{'));) {
        at += at[1] == '*' ? 2 : 1;
        size_t n = strcspn(at, "}");
        json_array_append_new(list, parameter(at, n, "path", path_parameter(at, n), object_of("type", json_string("string"))));
    }
    for (size_t i = 0; i < ROUTE_QUERY_N; i++)
        if (ROUTE_QUERY[i].route == route)
            json_array_append_new(list, parameter(ROUTE_QUERY[i].name, strlen(ROUTE_QUERY[i].name), "query", ROUTE_QUERY[i].summary, value_of(&ROUTE_QUERY[i].what)));
    if (ROUTE_ANSWERS[route].answer.kind == ANSWER_PAGE) {
        json_array_append_new(list, ref_to("parameters", "cursor"));
        json_array_append_new(list, ref_to("parameters", "limit"));
    }
    return list;
}

static void lower(const char *from, size_t n, char out[64]) {
    size_t i = 0;
    for (; i < n && i < 63; i++)
        out[i] = (char)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] - 'A' + 'a' : from[i]);
    out[i] = '\0';
}

static json_t *roles_of(const struct admin_route *r) {
    json_t *list = json_array();
    for (int role = 1; role < WORDS_ROLE.n; role <<= 1)
        if (r->roles & (unsigned)role)
            json_array_append_new(list, json_string(word_of(&WORDS_ROLE, role)));
    return list;
}

static json_t *operation_of(size_t route) {
    static const char *const scopes[] = {[SCOPE_OPEN] = "open", [SCOPE_SERVER] = "server", [SCOPE_ACCOUNT] = "account", [SCOPE_ANY] = "any"};
    const struct admin_route *r = &ADMIN_ROUTES[route];
    char id[64], tag[64];
    lower(r->name, strlen(r->name), id);
    lower(r->name, strcspn(r->name, "_"), tag);
    json_t *o = json_object(), *parameters = parameters_of(route);
    json_set_str(o, "operationId", id);
    json_set(o, "tags", json_pack("[s]", tag));
    json_set_str(o, "summary", r->summary);
    if (r->scope == SCOPE_OPEN)
        json_set(o, "security", json_array());
    json_set_str(o, "x-muster-scope", scopes[r->scope]);
    json_set(o, "x-muster-roles", roles_of(r));
    if (json_array_size(parameters))
        json_set(o, "parameters", parameters);
    else
        json_decref(parameters);
    if (ROUTE_ANSWERS[route].body != SCHEMA_NONE) {
        json_t *body = json_object();
        json_set_str(body, "description", "At most as many bytes as x-muster-max says");
        json_set_int(body, "x-muster-max", (int64_t)r->body_max);
        json_set(body, "content", object_of("application/json", object_of("schema", ref_to("schemas", schema_name(ROUTE_ANSWERS[route].body)))));
        json_set(o, "requestBody", body);
    }
    json_set(o, "responses", responses_of(route));
    return o;
}

/* "{*rest}" of the router is "{rest}" here. */
static void path_of_route(const char *path, char out[256]) {
    size_t n = 0;
    for (; *path && n < 255; path++)
        if (*path != '*')
            out[n++] = *path;
    out[n] = '\0';
}

static json_t *paths_of(void) {
    json_t *paths = json_object();
    for (size_t i = 0; i < ADMIN_ROUTES_COUNT; i++) {
        char path[256], method[64];
        path_of_route(ADMIN_ROUTES[i].path, path);
        lower(ADMIN_ROUTES[i].method, strlen(ADMIN_ROUTES[i].method), method);
        json_t *item = json_object_get(paths, path);
        if (!item) {
            item = json_object();
            json_set(paths, path, item);
        }
        json_set(item, method, operation_of(i));
    }
    return paths;
}

static json_t *components_of(void) {
    json_t *o = json_object(), *schemas = json_object(), *responses = json_object(), *parameters = json_object();
    for (size_t i = 0; i < SCHEMA_ROWS_N; i++)
        if (SCHEMA_ROWS[i].kind == ROW_SCHEMA && SCHEMA_ROWS[i].schema != SCHEMA_Problem)
            json_set(schemas, SCHEMA_ROWS[i].name, schema_of(&SCHEMA_ROWS[i]));
    for (int status = STATUS_MIN; status <= STATUS_MAX; status++) {
        char name[PROBLEM_NAME_MAX];
        if (!is_error(status))
            continue;
        problem_name(status, name);
        json_set(schemas, name, problem_of(status));
        json_set(responses, name, problem_response(status));
    }
    json_set(parameters, "cursor", parameter("cursor", 6, "query", "`next` of the page before", object_of("type", json_string("string"))));
    json_set(parameters, "limit", parameter("limit", 5, "query", "The most objects of a page", json_pack("{s:s, s:i, s:i, s:i}", "type", "integer", "minimum", 1, "maximum", PAGE_MAX, "default", 100)));
    json_set(o, "securitySchemes", object_of("token", json_pack("{s:s, s:s, s:s}", "type", "http", "scheme", "bearer", "description", "An operator's token")));
    json_set(o, "schemas", schemas);
    json_set(o, "responses", responses);
    json_set(o, "parameters", parameters);
    return o;
}

static json_t *document(void) {
    json_t *o = json_object();
    json_set_str(o, "openapi", "3.1.0");
    json_set(o, "info", json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "title", "Muster", "description", "The operators' API of musterd.", "version", MUSTER_VERSION, "license", "name",
                                  "Apache License 2.0", "identifier", "Apache-2.0"));
    json_set(o, "security", json_pack("[{s:[]}]", "token"));
    json_set(o, "paths", paths_of());
    json_set(o, "components", components_of());
    return o;
}

void admin_OPENAPI(struct http_exchange *x, void *arg) {
    struct control *c = http_exchange_arg(x);
    if (!c->openapi.n) { /* once a process; anybody may ask */
        CLEANUP_JSON json_t *doc = document();
        c->openapi = BUF_INIT(4u << 20);
        if (json_write(&c->openapi, doc))
            buf_fini(&c->openapi);
    }
    if (c->openapi.n)
        http_reply(x, 200, "application/json", buf_span(&c->openapi));
    else
        reply_code(x, MUSTER_ENOMEM, NULL);
}
