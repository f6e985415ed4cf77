/* schema: see schema.h. */
#include "admin/schema.h"

#include "registry/certificate.h"
#include "registry/crl.h"
#include "registry/line_told.h"

#define TEXT .type = VALUE_TEXT
#define INT .type = VALUE_INT
#define BOOL .type = VALUE_BOOL
#define UUID .type = VALUE_UUID
#define TIME .type = VALUE_TIME
#define DIGEST .type = VALUE_DIGEST
#define HEX .type = VALUE_HEX
#define BASE64 .type = VALUE_BASE64
#define URL .type = VALUE_URL
#define PEM .type = VALUE_PEM
#define SPAN .type = VALUE_SPAN
#define WHEN .type = VALUE_WHEN
#define OBJECT .type = VALUE_OBJECT
#define WORD(X) .type = VALUE_WORD, .words = &WORDS_##X
#define ONE_OF(text) .type = VALUE_ONE_OF, .choice = text
#define REF(name) .type = VALUE_REF, .ref = SCHEMA_##name
#define LIST(what) .list = true, what
#define EITHER(what) .or_text = true, what

const struct schema_row SCHEMA_ROWS[] = {
#define S(id, text) {.kind = ROW_SCHEMA, .name = #id, .summary = text, .schema = SCHEMA_##id},
#define EXTENDS(id) {.kind = ROW_EXTENDS, .schema = SCHEMA_##id},
#define F(id, of, there, text) {.kind = ROW_FIELD, .name = #id, .summary = text, .when = WHEN_##there, .what = {of}},
#include "admin/schemas.def"
#undef S
#undef EXTENDS
#undef F
};
const size_t SCHEMA_ROWS_N = sizeof SCHEMA_ROWS / sizeof *SCHEMA_ROWS;

enum { /* the number of a route in ADMIN_ROUTES */
#define R(NAME, method, path, scope, roles, body_max, summary) ROUTE_##NAME,
#include "admin/routes.def"
#undef R
    ROUTES_N
};

#define ONE(name) .kind = ANSWER_ONE, .schema = SCHEMA_##name
#define PAGE(name) .kind = ANSWER_PAGE, .schema = SCHEMA_##name
#define EITHER_OF(a, b) .kind = ANSWER_EITHER, .schema = SCHEMA_##a, .other = SCHEMA_##b
#define FILE(type) .kind = ANSWER_FILE, .media = type
#define DOCUMENT .kind = ANSWER_DOCUMENT
#define PROBLEM .kind = ANSWER_PROBLEM

#define A(NAME, code, of, takes) [ROUTE_##NAME] = {.status = code, .answer = {of}, .body = SCHEMA_##takes},
#define ALSO(NAME, code, of)
#define Q(NAME, parameter, of, text)
#define H(NAME, field, of, text)
#define P(parameter, text)
const struct route_answer ROUTE_ANSWERS[] = {
#include "admin/answers.def"
};
#undef A

/* Two rows of one route are an error of the initialiser; so many rows as routes are one for each. */
#define A(NAME, code, of, takes) +1
_Static_assert(ROUTES_N == 0
#include "admin/answers.def"
               , "every route of routes.def has one A row in answers.def");
#undef A
#define A(NAME, code, of, takes)

#undef ALSO
#define ALSO(NAME, code, of) {ROUTE_##NAME, code, {of}},
const struct route_also ROUTE_ALSO[] = {
#include "admin/answers.def"
};
const size_t ROUTE_ALSO_N = sizeof ROUTE_ALSO / sizeof *ROUTE_ALSO;
#undef ALSO
#define ALSO(NAME, code, of)

#undef Q
#define Q(NAME, parameter, of, text) {ROUTE_##NAME, parameter, {of}, text},
const struct route_value ROUTE_QUERY[] = {
#include "admin/answers.def"
};
const size_t ROUTE_QUERY_N = sizeof ROUTE_QUERY / sizeof *ROUTE_QUERY;
#undef Q
#define Q(NAME, parameter, of, text)

#undef H
#define H(NAME, field, of, text) {ROUTE_##NAME, field, {of}, text},
const struct route_value ROUTE_FIELDS[] = {
#include "admin/answers.def"
};
const size_t ROUTE_FIELDS_N = sizeof ROUTE_FIELDS / sizeof *ROUTE_FIELDS;
#undef H
#define H(NAME, field, of, text)

#undef P
#define P(parameter, text) {parameter, text},
static const char *const parameters[][2] = {
#include "admin/answers.def"
};

const char *path_parameter(const char *name, size_t n) {
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        if (strlen(parameters[i][0]) == n && memcmp(parameters[i][0], name, n) == 0)
            return parameters[i][1];
    return NULL;
}
