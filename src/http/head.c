/* head: the strict reader of a request's head; see head.h.  Called by conn_read.c alone. */
#include "http/head.h"

#include "http/uri.h"

/* RFC 9110, 5.6.2: tchar. */
static bool is_tchar(uint8_t c) {
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return true;
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

bool head_is_token(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (!is_tchar(s.p[i]))
            return false;
    return s.n > 0;
}

static uint8_t fold(uint8_t c) {
    if (c >= 'A' && c <= 'Z')
        return (uint8_t)(c + 32);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '-';
}

bool head_names_alike(struct span a, struct span b) {
    for (size_t i = 0; i < a.n && i < b.n; i++)
        if (fold(a.p[i]) != fold(b.p[i]))
            return false;
    return a.n == b.n;
}

static int malformed(struct err *err, const char *text) { return err_set(err, MUSTER_EHTTPMALFORMED, "%s", text); }

static int too_large(const struct head_scan *st, const struct head_limits *limits, struct err *err) {
    if (st->lines == 0) /* the request line alone fills it */
        return err_set(err, MUSTER_EHTTPURI, "The request line is longer than %zu bytes.", limits->bytes);
    return err_set(err, MUSTER_EHTTPHEAD, "The request's header is larger than %zu bytes.", limits->bytes);
}

int head_scan(struct head_scan *st, struct span bytes, const struct head_limits *limits, struct err *err) {
    while (st->at < bytes.n && st->end == 0) {
        uint8_t c = bytes.p[st->at];
        if (st->at >= limits->bytes)
            return too_large(st, limits, err);
        if (c == '\r') {
            if (st->at + 1 == bytes.n)
                break; /* its LF may be on the way */
            if (bytes.p[st->at + 1] != '\n')
                return malformed(err, "The header has a CR that no LF follows.");
            if (st->line == st->at && st->lines == 0)
                return malformed(err, "There is an empty line before the request line.");
            if (st->line == st->at)
                st->end = st->at + 2;
            st->at += 2;
            st->line = st->at;
            st->lines++;
        } else if (c == '\n') {
            return malformed(err, "The header has a LF without a CR before it.");
        } else if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return malformed(err, "The header has a control character.");
        } else {
            st->at++;
        }
    }
    if (st->end > limits->bytes) {
        st->end = 0;
        return too_large(st, limits, err);
    }
    return 0;
}

/* HTTP-version (RFC 9112, 2.3): two digits; anything well-formed but 1.1 has a status of its own. */
static int read_version(struct span v, const struct head_limits *limits, struct http_head *out, struct err *err) {
    if (span_eq_str(v, "HTTP/1.1"))
        return 0;
    if (limits->old_version && span_eq_str(v, "HTTP/1.0")) {
        out->close = out->old = true;
        return 0;
    }
    bool wellformed = v.n == 8 && span_starts(v, SPAN_LIT("HTTP/")) && v.p[5] >= '0' && v.p[5] <= '9' && v.p[6] == '.' &&
                      v.p[7] >= '0' && v.p[7] <= '9';
    if (!wellformed)
        return malformed(err, "The request line does not end in HTTP/1.1.");
    return err_set(err, MUSTER_EHTTPVERSION, "The request is of %.*s; this server speaks HTTP/1.1.", SPAN_FMT(v));
}

/* origin-form only (RFC 9112, 3.2.1).  absolute-form is for proxies, which this is not; it would give the request two host names. */
static int read_target(struct span t, const struct head_limits *limits, struct http_head *out, struct err *err) {
    size_t max = limits->target < HEAD_TARGET_MAX ? limits->target : HEAD_TARGET_MAX;
    if (t.n > max)
        return err_set(err, MUSTER_EHTTPURI, "The request's target is longer than %zu bytes.", max);
    if (t.n == 0 || t.p[0] != '/')
        return malformed(err, "The request's target is not a path that begins with '/'.");
    long mark = span_index(t, '?');
    out->target = t;
    out->path = mark < 0 ? t : span_sub(t, 0, (size_t)mark);
    out->query = mark < 0 ? SPAN_NONE : span_sub(t, (size_t)mark + 1, t.n);
    int rc = limits->names_in_path ? uri_check_path_of_names(out->path, err) : uri_check_path(out->path, err);
    return rc ? rc : uri_check_query(out->query, err);
}

static int read_request_line(struct span line, const struct head_limits *limits, struct http_head *out, struct err *err) {
    long first = span_index(line, ' ');
    if (first < 0)
        return malformed(err, "The request line does not have three parts.");
    struct span rest = span_sub(line, (size_t)first + 1, line.n);
    long second = span_index(rest, ' ');
    if (second < 0)
        return malformed(err, "The request line does not have three parts.");
    out->method = span_sub(line, 0, (size_t)first);
    /* The version first: an HTTP/2 preface should hear that, not that its "*" is no path. */
    int rc = read_version(span_sub(rest, (size_t)second + 1, rest.n), limits, out, err);
    if (rc)
        return rc;
    if (!head_is_token(out->method) || out->method.n > HEAD_METHOD_MAX)
        return malformed(err, "The request's method is not valid.");
    return read_target(span_sub(rest, 0, (size_t)second), limits, out, err);
}

/* Names that RFC 9110 (and 6265 for Cookie) allow once; two of them would leave it to chance which one counts. */
static bool is_single(struct span name) {
    static const char *const names[] = {
        "Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Authorization", "Expect", "Range", "If-Range",
        "If-Modified-Since", "If-Unmodified-Since", "User-Agent", "Referer", "From", "Date", "Max-Forwards",
        "Proxy-Authorization", "Cookie", "Content-Range", "Content-Location",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (span_eq_nocase(name, span_str(names[i])))
            return true;
    return false;
}

static int read_field(struct span line, const struct head_limits *limits, struct http_field *fields, size_t *n, struct err *err) {
    if (line.p[0] == ' ' || line.p[0] == '\t')
        return malformed(err, "A header field is folded over two lines.");
    long colon = span_index(line, ':');
    if (colon < 0)
        return malformed(err, "A header field has no colon.");
    struct span name = span_sub(line, 0, (size_t)colon);
    if (name.n && (name.p[name.n - 1] == ' ' || name.p[name.n - 1] == '\t'))
        return malformed(err, "A header field has a blank before its colon.");
    if (!head_is_token(name))
        return malformed(err, "A header field's name is not valid.");
    size_t max = limits->fields < HEAD_FIELDS_MAX ? limits->fields : HEAD_FIELDS_MAX;
    if (*n >= max)
        return err_set(err, MUSTER_EHTTPHEAD, "There are more than %zu header fields.", max);
    if (is_single(name))
        for (size_t i = 0; i < *n; i++)
            if (span_eq_nocase(fields[i].name, name))
                return err_set(err, MUSTER_EHTTPMALFORMED, "The header field %.*s stands there twice.", SPAN_FMT(name));
    /* Control characters were refused by head_scan; bytes from 0x80 are RFC 9110's obs-text and stay opaque. */
    fields[(*n)++] = (struct http_field){name, span_trim(span_sub(line, (size_t)colon + 1, line.n))};
    return 0;
}

static bool is_digits(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

bool head_read_length(struct span v, uint64_t *length) {
    /* Digits only and in a range that leaves no room for overflow: "+5", "0x5", "5, 5" and "" are none. */
    return is_digits(v) && v.n <= 18 && span_to_u64(v, length);
}

bool head_list_next(struct span *list, struct span *member) {
    if (list->n == 0)
        return false;
    long comma = span_index(*list, ',');
    *member = span_trim(comma < 0 ? *list : span_sub(*list, 0, (size_t)comma));
    *list = comma < 0 ? SPAN_NONE : span_sub(*list, (size_t)comma + 1, list->n);
    return true;
}

static bool is_host_name(struct span s) {
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
        if (!ok)
            return false;
    }
    return s.n > 0 && s.n <= 255;
}

/* "[" IPv6 "]": the characters, not the grammar; it is compared, never resolved. */
static bool is_host_literal(struct span s) {
    for (size_t i = 1; i + 1 < s.n; i++) {
        uint8_t c = s.p[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':' || c == '.';
        if (!ok)
            return false;
    }
    return s.n > 3 && s.n <= 48;
}

static int take_host(struct span v, struct http_head *out, struct err *err) {
    struct span host = v, port = SPAN_NONE;
    if (v.n && v.p[0] == '[') {
        long end = span_index(v, ']');
        host = end < 0 ? SPAN_NONE : span_sub(v, 0, (size_t)end + 1);
        port = span_sub(v, host.n, v.n);
    } else {
        long colon = span_index(v, ':');
        if (colon >= 0) {
            host = span_sub(v, 0, (size_t)colon);
            port = span_sub(v, (size_t)colon, v.n);
        }
    }
    bool ok = host.n && (host.p[0] == '[' ? is_host_literal(host) : is_host_name(host));
    if (ok && port.n)
        ok = port.p[0] == ':' && port.n <= 6 && is_digits(span_sub(port, 1, port.n));
    if (!ok)
        return malformed(err, "The value of Host is not a host name with an optional port.");
    out->host = host;
    return 0;
}

static int take_length(struct span v, struct http_head *out, struct err *err) {
    if (!head_read_length(v, &out->length))
        return malformed(err, "The value of Content-Length is not a decimal number.");
    out->has_length = true;
    return 0;
}

static int take_coding(struct span v, struct http_head *out, struct err *err) {
    if (v.n == 0)
        return malformed(err, "Transfer-Encoding is empty.");
    if (!span_eq_nocase(v, SPAN_LIT("chunked")))
        return err_set(err, MUSTER_EHTTPNOTIMPL, "The only transfer coding that is understood is chunked, alone.");
    out->chunked = true;
    return 0;
}

static int take_connection(struct span v, struct http_head *out, struct err *err) {
    for (struct span one; head_list_next(&v, &one);) {
        if (one.n && !head_is_token(one))
            return malformed(err, "The value of Connection is not a list of names.");
        if (span_eq_nocase(one, SPAN_LIT("close")))
            out->close = true;
    }
    return 0;
}

/* The fields that decide where the message ends and whom it is for. */
static int read_framing(struct http_head *out, struct err *err) {
    bool host = false;
    for (size_t i = 0; i < out->n_fields; i++) {
        struct span name = out->fields[i].name, value = out->fields[i].value;
        int rc = 0;
        if (span_eq_nocase(name, SPAN_LIT("Host"))) {
            host = true;
            rc = take_host(value, out, err);
        } else if (span_eq_nocase(name, SPAN_LIT("Content-Length"))) {
            rc = take_length(value, out, err);
        } else if (span_eq_nocase(name, SPAN_LIT("Transfer-Encoding"))) {
            rc = take_coding(value, out, err);
        } else if (span_eq_nocase(name, SPAN_LIT("Connection"))) {
            rc = take_connection(value, out, err);
        } else if (span_eq_nocase(name, SPAN_LIT("Expect"))) {
            if (!span_eq_nocase(value, SPAN_LIT("100-continue")))
                rc = err_set(err, MUSTER_EHTTPEXPECT, NULL);
            out->expect_continue = !out->old; /* RFC 9110, 10.1.1 */
        }
        if (rc)
            return rc;
    }
    if (!host && !out->old)
        return malformed(err, "The request has no Host.");
    if (out->old && out->chunked)
        return malformed(err, "The request is of HTTP/1.0 and has a Transfer-Encoding.");
    if (out->has_length && out->chunked)
        return malformed(err, "The request has both Content-Length and Transfer-Encoding.");
    return 0;
}

struct span head_line(struct span *rest) {
    long cr = span_index(*rest, '\r');
    if (cr < 0 || (size_t)cr + 1 >= rest->n || rest->p[cr + 1] != '\n')
        return SPAN_NONE;
    struct span line = span_of(rest->p, (size_t)cr);
    *rest = span_sub(*rest, (size_t)cr + 2, rest->n);
    return line;
}

int head_read_fields(struct span rest, const struct head_limits *limits, struct http_field *fields, size_t *n, struct err *err) {
    *n = 0;
    for (;;) {
        struct span line = head_line(&rest);
        if (!line.p)
            return malformed(err, "The header does not end in an empty line.");
        if (line.n == 0)
            break;
        int rc = read_field(line, limits, fields, n, err);
        if (rc)
            return rc;
    }
    return rest.n ? malformed(err, "Bytes follow the end of the header.") : 0;
}

int head_read(struct span bytes, const struct head_limits *limits, struct http_head *out, struct err *err) {
    struct http_field *fields = out->fields;
    *out = (struct http_head){.fields = fields};
    struct span rest = bytes, line = head_line(&rest);
    if (!line.p)
        return malformed(err, "The header does not end in an empty line.");
    int rc = read_request_line(line, limits, out, err);
    if (!rc)
        rc = head_read_fields(rest, limits, fields, &out->n_fields, err);
    return rc ? rc : read_framing(out, err);
}
