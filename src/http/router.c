/* router: a table of routes; see router.h and route.h.  Immutable once made, so that servers on several loops share it. */
#include "http/route.h"

#include "http/head.h"

struct http_router {
    const struct http_route *rows;
    size_t n;
    size_t literal[]; /* of each: bytes in front of its first parameter, by which most are out */
};

enum segment_kind { SEGMENT_LITERAL, SEGMENT_PARAM, SEGMENT_REST };

/* Takes the segment up to the next '/' off `path`; *more: whether a '/' followed it. */
static struct span next_segment(struct span *path, bool *more) {
    long slash = span_index(*path, '/');
    struct span s = slash < 0 ? *path : span_sub(*path, 0, (size_t)slash);
    *more = slash >= 0;
    *path = slash < 0 ? SPAN_NONE : span_sub(*path, (size_t)slash + 1, path->n);
    return s;
}

/* The kind of a row's segment, and its name without braces. */
static enum segment_kind kind_of(struct span segment, struct span *name) {
    *name = segment;
    if (segment.n < 3 || segment.p[0] != '{' || segment.p[segment.n - 1] != '}')
        return SEGMENT_LITERAL;
    bool rest = segment.p[1] == '*';
    *name = span_sub(segment, rest ? 2 : 1, segment.n - (rest ? 3 : 2));
    return rest ? SEGMENT_REST : SEGMENT_PARAM;
}

static bool match_path(const struct http_route *row, struct span path, struct route_match *m) {
    struct span pattern = span_sub(span_str(row->path), 1, (size_t)-1);
    bool more = true, pattern_more = true;
    *m = (struct route_match){.row = row};
    path = span_sub(path, 1, path.n);
    while (more && pattern_more) {
        struct span name, whole = path, have = next_segment(&path, &more);
        enum segment_kind kind = kind_of(next_segment(&pattern, &pattern_more), &name);
        if (kind == SEGMENT_LITERAL) {
            if (!span_eq(have, name))
                return false;
            continue;
        }
        struct span raw = kind == SEGMENT_REST ? whole : have;
        if (raw.n == 0)
            return false;
        m->params[m->n++] = (struct route_param){name, raw};
        if (kind == SEGMENT_REST)
            return true;
    }
    return more == pattern_more;
}

static void allow_add(struct buf *allow, const char *method) {
    buf_adds(allow, allow->n ? ", " : "");
    buf_adds(allow, method);
}

int route_find(const struct http_router *r, struct span method, struct span path, struct route_match *m, struct buf *allow) {
    struct span wanted = span_eq_str(method, "HEAD") ? SPAN_LIT("GET") : method;
    bool sole = false;
    for (size_t i = 0; i < r->n; i++) {
        if (path.n < r->literal[i] || memcmp(path.p, r->rows[i].path, r->literal[i]) != 0 || !match_path(&r->rows[i], path, m))
            continue;
        if (span_eq_str(wanted, r->rows[i].method))
            return 0;
        sole = sole || r->rows[i].sole;
        allow_add(allow, r->rows[i].method);
        if (strcmp(r->rows[i].method, "GET") == 0)
            allow_add(allow, "HEAD");
    }
    *m = (struct route_match){.sole = sole};
    return allow->n ? MUSTER_EHTTPMETHOD : MUSTER_ENOTFOUND;
}

static int refuse(struct err *err, const struct http_route *row, const char *why) {
    return err_set(err, MUSTER_EINVALID, "The route %s %s %s.", row->method, row->path, why);
}

static int check_row(const struct http_route *row, struct err *err) {
    if (!head_is_token(span_str(row->method)) || strcmp(row->method, "HEAD") == 0)
        return refuse(err, row, "has a method that no row may have");
    if (row->path[0] != '/')
        return refuse(err, row, "does not begin with '/'");
    if (!row->handler)
        return refuse(err, row, "has no handler");
    struct span path = span_sub(span_str(row->path), 1, (size_t)-1), names[ROUTE_PARAMS_MAX];
    size_t n = 0;
    for (bool more = true; more;) {
        struct span name, segment = next_segment(&path, &more);
        enum segment_kind kind = kind_of(segment, &name);
        if (segment.n == 0 && more)
            return refuse(err, row, "has an empty segment");
        if (kind == SEGMENT_LITERAL && (span_index(segment, '{') >= 0 || span_index(segment, '}') >= 0))
            return refuse(err, row, "has a segment that is part name and part parameter");
        if (kind == SEGMENT_REST && more)
            return refuse(err, row, "goes on after {*…}");
        if (kind == SEGMENT_LITERAL)
            continue;
        if (n == ROUTE_PARAMS_MAX)
            return refuse(err, row, "has too many parameters");
        for (size_t i = 0; i < n; i++)
            if (span_eq(names[i], name))
                return refuse(err, row, "names a parameter twice");
        names[n++] = name;
    }
    return 0;
}

/* Whether some path matches both. */
static bool overlap(const struct http_route *a, const struct http_route *b) {
    struct span pa = span_sub(span_str(a->path), 1, (size_t)-1), pb = span_sub(span_str(b->path), 1, (size_t)-1);
    bool more_a = true, more_b = true;
    while (more_a && more_b) {
        struct span name_a, name_b;
        enum segment_kind ka = kind_of(next_segment(&pa, &more_a), &name_a), kb = kind_of(next_segment(&pb, &more_b), &name_b);
        bool empty_a = ka == SEGMENT_LITERAL && name_a.n == 0, empty_b = kb == SEGMENT_LITERAL && name_b.n == 0;
        if (ka == SEGMENT_REST || kb == SEGMENT_REST) /* takes anything but nothing at all */
            return ka == SEGMENT_REST ? !empty_b : !empty_a;
        if (ka == SEGMENT_LITERAL && kb == SEGMENT_LITERAL ? !span_eq(name_a, name_b) : empty_a || empty_b)
            return false;
    }
    return more_a == more_b;
}

struct http_router *http_router_new(const struct http_route *rows, size_t n, struct err *err) {
    for (size_t i = 0; i < n; i++) {
        if (check_row(&rows[i], err))
            return NULL;
        for (size_t j = 0; j < i; j++)
            if (strcmp(rows[i].method, rows[j].method) == 0 && overlap(&rows[i], &rows[j])) {
                err_set(err, MUSTER_EINVALID, "The routes %s %s and %s can match the same request.", rows[i].method, rows[i].path,
                        rows[j].path);
                return NULL;
            }
    }
    struct http_router *r = malloc(sizeof *r + n * sizeof *r->literal);
    if (!r) {
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    r->rows = rows;
    r->n = n;
    for (size_t i = 0; i < n; i++)
        r->literal[i] = strcspn(rows[i].path, "{");
    return r;
}

void http_router_free(struct http_router *r) { free(r); }
