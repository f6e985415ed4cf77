/* device_import: `device import`: a file of any length in batches, so that no more than one of them is in memory.  A batch is taken whole or
 * not at all; what is announced already is passed over by the server, so that a run that was cut off is simply repeated. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/csv.h"
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/print.h"

#define BATCH 2000
#define LINE_MAX_BYTES 65536

struct import {
    struct invocation *in;
    struct buf path;
    FILE *file;
    json_t *items;
    size_t line_of[BATCH]; /* of each item */
    size_t line, done, added, changed;
    bool csv, progress;
    int id_at, fingerprint_at; /* CSV: columns; -1: none */
};

static void import_fini(struct import *im) {
    buf_fini(&im->path);
    json_decref(im->items);
    if (im->file && im->file != stdin)
        fclose(im->file);
}
DEFINE_CLEANUP_FINI(import_fini, struct import)

static int send_batch(struct import *im, struct err *err) {
    CLEANUP_JSON json_t *body = json_object();
    CLEANUP_JSON json_t *answer = NULL;
    size_t n = json_array_size(im->items), at;
    if (n == 0)
        return 0;
    json_set(body, "items", json_incref(im->items));
    int rc = api_json(im->in->api, "POST", buf_str(&im->path), body, &answer, NULL, err);
    if (rc && sscanf(err->text, "item %zu:", &at) == 1 && at >= 1 && at <= n)
        err_prefix(err, "Line %zu", im->line_of[at - 1]);
    if (rc)
        return rc;
    im->done += n;
    im->added += (size_t)json_integer_value(json_object_get(answer, "added"));
    im->changed += (size_t)json_integer_value(json_object_get(answer, "changed"));
    json_array_clear(im->items);
    if (im->progress)
        fprintf(stderr, "\r%zu announced", im->done);
    return 0;
}

static int add_item(struct import *im, json_t *item, struct err *err) {
    if (!json_is_string(json_object_get(item, "device_id"))) {
        json_decref(item);
        return err_set(err, MUSTER_EINVALID, "Line %zu has no device_id.", im->line);
    }
    im->line_of[json_array_size(im->items)] = im->line;
    if (json_array_append_new(im->items, item))
        return err_set(err, MUSTER_ENOMEM, NULL);
    return json_array_size(im->items) == BATCH ? send_batch(im, err) : 0;
}

/* The first line may name the columns, in any order; else they are device_id and fingerprint.  Any other name is an error, for a key that
 * was meant and not read would let anybody in. */
static int read_header(struct import *im, const struct csv_line *l, bool *is_header, struct err *err) {
    *is_header = false;
    for (size_t i = 0; i < l->n; i++)
        *is_header = *is_header || span_eq_str(l->cell[i], "device_id");
    if (!*is_header)
        return 0;
    im->id_at = im->fingerprint_at = -1;
    for (size_t i = 0; i < l->n; i++) {
        int *at = span_eq_str(l->cell[i], "device_id") ? &im->id_at : span_eq_str(l->cell[i], "fingerprint") ? &im->fingerprint_at : NULL;
        if (!at || *at >= 0)
            return err_set(err, MUSTER_EINVALID, "Line %zu names the column \"%.*s\"; columns are device_id and fingerprint, each once.", im->line,
                           (int)(l->cell[i].n > 64 ? 64 : l->cell[i].n), (const char *)l->cell[i].p);
        *at = (int)i;
    }
    return 0;
}

static int csv_item(struct import *im, struct span text, bool first, struct err *err) {
    struct csv_line l;
    bool header = false;
    int rc = csv_read(&l, text, err);
    if (rc)
        err_prefix(err, "Line %zu", im->line);
    if (!rc && first)
        rc = read_header(im, &l, &header, err);
    if (!rc && !header && l.n > 2)
        rc = err_set(err, MUSTER_EINVALID, "Line %zu has %zu cells; they are device_id and fingerprint.", im->line, l.n);
    if (!rc && !header) {
        json_t *item = json_object();
        if (im->id_at >= 0 && (size_t)im->id_at < l.n)
            json_set_span(item, "device_id", l.cell[im->id_at]);
        if (im->fingerprint_at >= 0 && (size_t)im->fingerprint_at < l.n && l.cell[im->fingerprint_at].n)
            json_set_span(item, "fingerprint", l.cell[im->fingerprint_at]);
        rc = add_item(im, item, err);
    }
    csv_line_fini(&l);
    return rc;
}

static int json_item(struct import *im, struct span text, struct err *err) {
    json_t *item = json_parse(text, err);
    return item ? add_item(im, item, err) : err_prefix(err, "Line %zu", im->line);
}

/* The next line without its end; 1, 0 at the end, or an error. */
static int next_line(struct import *im, char text[LINE_MAX_BYTES], struct span *out, struct err *err) {
    size_t n = 0;
    int c;
    while ((c = getc(im->file)) != EOF && c != '\n') {
        if (n == LINE_MAX_BYTES)
            return err_set(err, MUSTER_EINVALID, "Line %zu is longer than %d bytes.", im->line + 1, LINE_MAX_BYTES);
        text[n++] = (char)c;
    }
    if (ferror(im->file))
        return err_set(err, MUSTER_EIO, "The file cannot be read: %s.", strerror(errno));
    if (c == EOF && n == 0)
        return 0;
    im->line++;
    if (n && text[n - 1] == '\r')
        n--;
    *out = span_of(text, n);
    if (im->line == 1 && span_starts(*out, SPAN_LIT("\xef\xbb\xbf"))) /* what Windows puts before UTF-8 */
        *out = span_sub(*out, 3, n);
    if (span_is_utf8(*out) && span_index(*out, 0) < 0)
        return 1;
    return err_set(err, MUSTER_EINVALID, "Line %zu is not text in UTF-8.", im->line);
}

static int import_lines(struct import *im, struct err *err) {
    CLEANUP(free) char *text = malloc(LINE_MAX_BYTES);
    struct span line;
    bool first = true;
    int rc;
    if (!text)
        return err_set(err, MUSTER_ENOMEM, NULL);
    while ((rc = next_line(im, text, &line, err)) > 0) {
        if (span_trim(line).n == 0)
            continue;
        if (first)
            im->csv = span_trim(line).p[0] != '{';
        rc = im->csv ? csv_item(im, line, first, err) : json_item(im, line, err);
        first = false;
        if (rc)
            return rc;
    }
    return rc < 0 ? rc : send_batch(im, err);
}

int command_device_import(struct invocation *in, struct err *err) {
    CLEANUP(import_fini) struct import im = {.in = in, .path = BUF_INIT(4096), .items = json_array(), .fingerprint_at = 1,
                                             .progress = !in->json && isatty(STDERR_FILENO)};
    CLEANUP_JSON json_t *answer = json_object();
    int rc = command_path(in, in->command->path, &im.path, err);
    if (rc)
        return rc;
    im.file = !strcmp(in->args[0], "-") ? stdin : fopen(in->args[0], "re");
    if (!im.file)
        return err_set(err, MUSTER_EINVALID, "%s cannot be opened: %s.", in->args[0], strerror(errno));
    rc = import_lines(&im, err);
    if (im.progress && im.done)
        fputc('\n', stderr);
    if (rc) /* wherever the fault was found: the batches before it are taken */
        return err_prefix(err, "After %zu announced devices", im.done);
    json_set_str(answer, "id", in->account);
    json_set_int(answer, "imported", (int64_t)im.done);
    json_set_int(answer, "added", (int64_t)im.added);
    json_set_int(answer, "changed", (int64_t)im.changed);
    if (in->json)
        return print_json(answer, err);
    print_object(answer);
    return 0;
}
