/* reply: answers; see server.h. */
#include "base/secret.h"
#include "http/conn.h"
#include "json/json.h"

static const struct {
    int status;
    const char *phrase;
} phrases[] = {
    {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {206, "Partial Content"}, {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"},
    {304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"}, {400, "Bad Request"},
    {401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"}, {412, "Precondition Failed"}, {416, "Range Not Satisfiable"}, {422, "Unprocessable Content"}, {428, "Precondition Required"},
    {411, "Length Required"}, {413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"}, {417, "Expectation Failed"},
    {421, "Misdirected Request"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
    {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"},
};

#define HEAD_USUAL 400 /* bytes: what an answer's head seldom exceeds */

static const char *phrase_of(int status) {
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "Status";
}

void http_reply_field(struct http_exchange *x, const char *name, const char *value) {
    struct span v = span_str(value);
    if (!value)
        x->bad_field = true;
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] < 0x20 || v.p[i] == 0x7f)
            x->bad_field = true;
    if (!head_is_token(span_str(name)))
        x->bad_field = true;
    if (!x->bad_field)
        buf_addf(&x->fields, "%s: %s\r\n", name, value);
}

void http_reply_close(struct http_exchange *x) { x->close = true; }

bool reply_has_body(int status) { return status >= 200 && status != 204 && status != 304; }

bool reply_closes(const struct http_exchange *x) { return x->close || x->head.close || !x->complete || x->conn->server->draining; }

/* Without printf, which takes longer than all the rest of a head. */
static void add_number(struct buf *out, int64_t n) {
    uint8_t digits[20], *at = digits + sizeof digits;
    do
        *--at = (uint8_t)('0' + n % 10);
    while (n /= 10);
    buf_add(out, span_of(at, (size_t)(digits + sizeof digits - at)));
}

static void add_field(struct buf *out, const char *name, const char *value) {
    if (!value)
        return;
    buf_adds(out, name);
    buf_adds(out, value);
}

void reply_head(struct http_exchange *x, int status, const char *content_type, int64_t n, bool closes, bool date, struct buf *out) {
    struct http_server *s = x->conn->server;
    buf_reserve(out, HEAD_USUAL);
    buf_adds(out, "HTTP/1.1 ");
    add_number(out, status);
    buf_addc(out, ' ');
    buf_adds(out, phrase_of(status));
    add_field(out, "\r\nDate: ", date ? server_date(s) : NULL);
    add_field(out, "\r\nServer: ", x->answer == STREAM_NONE ? s->o.server_name : NULL);
    add_field(out, "\r\nContent-Type: ", content_type);
    if (n >= 0) {
        buf_adds(out, "\r\nContent-Length: ");
        add_number(out, n);
    }
    add_field(out, "\r\nX-Request-Id: ", http_exchange_id(x));
    buf_adds(out, "\r\n");
    if (x->answer == STREAM_NONE) /* what streams brings its own */
        buf_adds(out, "Cache-Control: no-store\r\n");
    buf_add(out, buf_span(&x->fields));
    buf_adds(out, closes ? "Connection: close\r\n\r\n" : "\r\n");
}

/* The one way in which an answer leaves, or is dropped. */
static void send_answer(struct http_exchange *x, int status, const char *content_type, struct buf *body, bool secret, const struct err *refusal) {
    struct http_conn *c = x->conn;
    if (x->answered)
        abort(); /* two answers to one request */
    x->answered = true;
    x->stream = NULL;
    if (c->dead || c->x != x) {
        exchange_answered(x, status, 0, refusal);
        if (secret)
            buf_wipe(body);
        else
            buf_fini(body);
        http_exchange_unref(x);
        return;
    }
    bool closes = reply_closes(x);
    CLEANUP(buf_fini) struct buf head = BUF_INIT(16384);
    if (x->bad_field || !buf_ok(&x->fields)) {
        buf_wipe(body);
        buf_clear(&x->fields);
        status = 500;
        content_type = NULL;
        closes = true;
    }
    reply_head(x, status, content_type, reply_has_body(status) ? (int64_t)body->n : -1, closes, true, &head);
    if (!reply_has_body(status) || span_eq_str(x->head.method, "HEAD"))
        buf_wipe(body);
    exchange_answered(x, status, body->n, refusal);
    if (buf_ok(&head)) {
        conn_send(c, &head, body, secret, closes);
    } else { /* out of memory: no answer is better than a part of one */
        buf_wipe(body);
        conn_close(c);
    }
    http_exchange_unref(x);
}

void http_reply(struct http_exchange *x, int status, const char *content_type, struct span body) {
    CLEANUP(buf_fini) struct buf copy = BUF_INIT(body.n ? body.n : 1);
    buf_add(&copy, body);
    if (!buf_ok(&copy)) {
        const struct err err = {.code = MUSTER_ENOMEM};
        http_reply_err(x, &err);
        return;
    }
    send_answer(x, status, content_type, &copy, false, NULL);
}

void http_reply_buf(struct http_exchange *x, int status, const char *content_type, struct buf *body, bool secret) {
    struct buf taken = *body;
    *body = (struct buf){.max = body->max};
    send_answer(x, status, content_type, &taken, secret, NULL);
    buf_fini(&taken);
}

void http_reply_empty(struct http_exchange *x, int status) {
    struct buf none = BUF_INIT(1);
    send_answer(x, status, NULL, &none, false, NULL);
}

/* RFC 9457. */
static void problem(const struct err *err, struct buf *body, const char **content_type) {
    CLEANUP_JSON json_t *o = json_object();
    json_set_int(o, "status", err_http(err->code));
    json_set_str(o, "title", err_what(err->code));
    json_set_str(o, "detail", err_text(err));
    json_set_str(o, "code", err_code(err->code));
    json_set_str(o, "fix", err_fix(err->code));
    if (err->retry_after > 0)
        json_set_int(o, "retry_after", err->retry_after);
    *content_type = "application/problem+json";
    if (json_write(body, o))
        buf_clear(body);
}

#define RETRY_DEFAULT 5 /* seconds */

void http_reply_err(struct http_exchange *x, const struct err *given) {
    const struct http_server *s = x->conn->server;
    struct err with_retry = *given;
    const struct err *err = &with_retry;
    const char *content_type = NULL;
    struct buf body = BUF_INIT(16384);
    int status = s->o.error_status ? s->o.error_status(x, err) : err_http(err->code);
    if ((status == 503 || status == 429) && with_retry.retry_after <= 0) /* none of them without a time to come again */
        with_retry.retry_after = RETRY_DEFAULT;
    if (err->retry_after > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", err->retry_after);
        http_reply_field(x, "Retry-After", seconds);
    }
    if (status == 401 && s->o.challenge)
        http_reply_field(x, "WWW-Authenticate", s->o.challenge);
    if (s->o.error_body)
        s->o.error_body(x, err, &body, &content_type);
    else
        problem(err, &body, &content_type);
    send_answer(x, status, body.n ? content_type : NULL, &body, false, err);
    buf_fini(&body);
}
