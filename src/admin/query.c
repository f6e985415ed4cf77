/* query: holds a request's query against the Q rows of answers.def; see internal.h.  A filter that was misspelt, or whose value a script had
 * not set, would answer with a whole fleet otherwise. */
#include "admin/internal.h"
#include "admin/schema.h"
#include "http/uri.h"

static bool is_known(size_t route, struct span name) {
    if (ROUTE_ANSWERS[route].answer.kind == ANSWER_PAGE && (span_eq_str(name, "cursor") || span_eq_str(name, "limit")))
        return true;
    for (size_t i = 0; i < ROUTE_QUERY_N; i++)
        if (ROUTE_QUERY[i].route == route && span_eq_str(name, ROUTE_QUERY[i].name))
            return true;
    return false;
}

/* What every ID begins with, and the beginning of a list. */
static bool may_be_empty(struct span name) { return span_eq_str(name, "prefix") || span_eq_str(name, "cursor"); }

static struct span next_pair(struct span *query) {
    long amp = span_index(*query, '&');
    struct span pair = amp < 0 ? *query : span_sub(*query, 0, (size_t)amp);
    *query = amp < 0 ? SPAN_NONE : span_sub(*query, (size_t)amp + 1, query->n);
    return pair;
}

/* The decoded name of a pair, and whether it has a value. */
static struct span name_of(struct http_exchange *x, struct span pair, bool *value) {
    long eq = span_index(pair, '=');
    *value = eq >= 0 && (size_t)eq + 1 < pair.n;
    return uri_decode(http_exchange_arena(x), eq < 0 ? pair : span_sub(pair, 0, (size_t)eq), true);
}

int query_check(struct http_exchange *x, const struct admin_route *r, struct err *err) {
    struct span rest = http_query(x);
    while (rest.n) {
        bool value, other;
        struct span pair = next_pair(&rest), name = name_of(x, pair, &value);
        int shown = (int)(name.n < 64 ? name.n : 64);
        if (!pair.n)
            continue;
        if (!name.p)
            return err_set(err, MUSTER_ENOMEM, NULL);
        if (!is_known((size_t)(r - ADMIN_ROUTES), name))
            return err_set(err, MUSTER_EINVALID, "There is no query parameter \"%.*s\" here.", shown, (const char *)name.p);
        if (!value && !may_be_empty(name))
            return err_set(err, MUSTER_EINVALID, "The query parameter \"%.*s\" is empty; leave it out where nothing is meant.", shown, (const char *)name.p);
        for (struct span later = rest; later.n;)
            if (span_eq(name_of(x, next_pair(&later), &other), name))
                return err_set(err, MUSTER_EINVALID, "The query parameter \"%.*s\" is given twice.", shown, (const char *)name.p);
    }
    return 0;
}
