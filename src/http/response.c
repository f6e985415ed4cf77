/* response: see response.h. */
#include "http/response.h"

static int malformed(struct err *err, const char *text) { return err_set(err, MUSTER_EUPSTREAM, "%s", text); }

/* HTTP/1.1 200 Phrase */
static int read_status_line(struct span line, struct http_response *out, bool *old, struct err *err) {
    *old = span_starts(line, SPAN_LIT("HTTP/1.0 "));
    if (!*old && !span_starts(line, SPAN_LIT("HTTP/1.1 ")))
        return malformed(err, "The answer from behind does not begin with HTTP/1.1.");
    struct span code = span_sub(line, 9, 3);
    uint64_t status = 0;
    if (code.n != 3 || !head_read_length(code, &status) || status < 100 || status > 599 || (line.n > 12 && line.p[12] != ' '))
        return malformed(err, "The answer from behind has no valid status.");
    out->status = (int)status;
    return 0;
}

static int take_framing(const struct http_field *f, struct http_response *out, bool *chunked, bool *keep, struct err *err) {
    uint64_t length;
    if (span_eq_nocase(f->name, SPAN_LIT("Content-Length"))) {
        if (!head_read_length(f->value, &length))
            return malformed(err, "The answer from behind has a Content-Length that is no number.");
        out->length = (int64_t)length;
    } else if (span_eq_nocase(f->name, SPAN_LIT("Transfer-Encoding"))) {
        if (*chunked || !span_eq_nocase(f->value, SPAN_LIT("chunked")))
            return malformed(err, "The answer from behind has another transfer coding than chunked.");
        *chunked = true;
    } else if (span_eq_nocase(f->name, SPAN_LIT("Connection"))) {
        struct span list = f->value, one;
        while (head_list_next(&list, &one)) {
            out->close = out->close || span_eq_nocase(one, SPAN_LIT("close"));
            *keep = *keep || span_eq_nocase(one, SPAN_LIT("keep-alive"));
        }
    }
    return 0;
}

int response_read(struct span bytes, const struct head_limits *limits, bool to_head, struct http_response *out, struct err *err) {
    bool old = false, chunked = false, keep = false;
    *out = (struct http_response){.fields = out->fields, .length = -1};
    struct span rest = bytes, line = head_line(&rest);
    int rc = line.p ? read_status_line(line, out, &old, err) : malformed(err, "The answer from behind has no status line.");
    if (rc)
        return rc;
    struct err why = ERR_INIT;
    if (head_read_fields(rest, limits, out->fields, &out->n_fields, &why))
        return err_set(err, MUSTER_EUPSTREAM, "The header of the answer from behind is not valid: %.300s", err_text(&why));
    for (size_t i = 0; i < out->n_fields; i++)
        if ((rc = take_framing(&out->fields[i], out, &chunked, &keep, err)))
            return rc;
    if (chunked && (out->length >= 0 || old))
        return malformed(err, "The answer from behind says in two ways where it ends.");
    if (old && !keep)
        out->close = true;
    if (out->status == 204 && (chunked || out->length > 0)) /* must not be (RFC 9110, 15.3.5; RFC 9112, 6.1); what follows may be its body */
        out->close = true;
    if (out->status < 200 || out->status == 204 || out->status == 304 || to_head)
        out->body = RESPONSE_NONE;
    else
        out->body = chunked ? RESPONSE_CHUNKED : out->length >= 0 ? RESPONSE_LENGTH : RESPONSE_UNTIL_CLOSE;
    if (out->body == RESPONSE_UNTIL_CLOSE)
        out->close = true;
    return 0;
}
