/* schema: schemas.def and answers.def as tables, for openapi.c: what the bodies of the operators' API hold, and what each route takes and
 * answers.  Nothing here is looked at while a request is served; that answers have these shapes is seen by the integration tests. */
#ifndef MUSTER_ADMIN_SCHEMA_H
#define MUSTER_ADMIN_SCHEMA_H

#include "registry/webhook.h"

enum schema {
    SCHEMA_NONE,
#define S(name, summary) SCHEMA_##name,
#define EXTENDS(name)
#define F(name, what, when, summary)
#include "admin/schemas.def"
#undef S
#undef EXTENDS
#undef F
    SCHEMA_COUNT
};

enum value_type {
    VALUE_TEXT, VALUE_INT, VALUE_BOOL, VALUE_UUID, VALUE_TIME, VALUE_DIGEST, VALUE_HEX, VALUE_BASE64, VALUE_URL, VALUE_PEM, VALUE_SPAN, VALUE_WHEN, VALUE_OBJECT,
    VALUE_WORD, VALUE_ONE_OF, VALUE_REF
};
struct value {
    enum value_type type;
    bool list, or_text;
    enum schema ref;            /* VALUE_REF */
    const struct words *words;  /* VALUE_WORD */
    const char *choice;         /* VALUE_ONE_OF: "a|b" */
};

enum when { WHEN_ALWAYS, WHEN_OR_NULL, WHEN_MAYBE, WHEN_MAYBE_NULL };
/* The rows of schemas.def in their order: a schema, then its fields. */
struct schema_row {
    enum { ROW_SCHEMA, ROW_EXTENDS, ROW_FIELD } kind;
    const char *name, *summary;
    enum schema schema;         /* ROW_SCHEMA: itself, ROW_EXTENDS: the other one */
    enum when when;
    struct value what;
};
extern const struct schema_row SCHEMA_ROWS[];
extern const size_t SCHEMA_ROWS_N;

struct answer {
    enum { ANSWER_ONE, ANSWER_PAGE, ANSWER_EITHER, ANSWER_FILE, ANSWER_DOCUMENT, ANSWER_PROBLEM } kind;
    enum schema schema, other;
    const char *media;          /* ANSWER_FILE */
};
/* One a route, in the order of ADMIN_ROUTES. */
struct route_answer {
    int status;
    struct answer answer;
    enum schema body;           /* SCHEMA_NONE: the request has none */
};
extern const struct route_answer ROUTE_ANSWERS[];

/* Rows about a route, by its number in ADMIN_ROUTES. */
struct route_also {
    size_t route;
    int status;
    struct answer answer;
};
extern const struct route_also ROUTE_ALSO[];
extern const size_t ROUTE_ALSO_N;
struct route_value {            /* a query parameter, or a header field of the answer */
    size_t route;
    const char *name;
    struct value what;
    const char *summary;
};
extern const struct route_value ROUTE_QUERY[], ROUTE_FIELDS[];
extern const size_t ROUTE_QUERY_N, ROUTE_FIELDS_N;
/* What a {parameter} of a path is; n bytes of name.  NULL: it has no row. */
const char *path_parameter(const char *name, size_t n);

#endif
