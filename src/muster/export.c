/* export: `device export`, `cert export` and `csr export`: all pages of a list into a file, one of them in memory.  The file has its name only when it is whole. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/csv.h"
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/print.h"

#define PAGE 1000

#define COLUMNS_MAX 20

/* What a noun's list has; columns of a CSV, ended by NULL. */
static const struct kind {
    const char *noun, *order; /* a query parameter with which nothing comes twice while the list changes; NULL: it is so by itself */
    const char *columns[COLUMNS_MAX + 1];
    const char *everywhere; /* its list over all accounts; NULL: there is none */
    const char *text; /* or: the member of each item that is written as it is */
} kinds[] = {
    {"device", "order=created", {"id", "device_id", "state", "method", "key", "key_name", "root", "created", "last_seen", "last_address", "certificate", "spki", "certificate_not_after",
                                 "reprovision", "reason", "expected", "line"}},
    {"cert", NULL, {"id", "fingerprint", "device", "device_id", "key", "key_name", "state", "expired", "not_before", "not_after", "created", "first_used", "revoked", "reason", "spki", "account"}, .everywhere = "/api/v1/certificates"},
    {.noun = "csr", .text = "csr"},
};

struct export {
    struct invocation *in;
    const struct kind *kind;
    FILE *file;
    struct buf path, part; /* of the request; of the file under way, empty with standard output */
    size_t done;
    bool csv, progress;
};

/* What is left of a file that did not become whole is removed. */
static void export_fini(struct export *ex) {
    if (ex->file && ex->file != stdout)
        fclose(ex->file);
    if (ex->part.n)
        unlink(buf_str(&ex->part));
    buf_fini(&ex->path);
    buf_fini(&ex->part);
}
DEFINE_CLEANUP_FINI(export_fini, struct export)

static int open_output(struct export *ex, const char *name, struct err *err) {
    if (!strcmp(name, "-")) {
        ex->file = stdout;
        return 0;
    }
    buf_addf(&ex->part, "%s.part", name);
    /* Device IDs, addresses and keys of a whole fleet are nobody else's business. */
    int fd = open(buf_str(&ex->part), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    ex->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (ex->file)
        return 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    int rc = err_set(err, MUSTER_EINVALID, "%s cannot be written: %s.", buf_str(&ex->part), strerror(why));
    buf_fini(&ex->part);
    return rc;
}

static int close_output(struct export *ex, const char *name, struct err *err) {
    bool good = fflush(ex->file) == 0;
    if (ex->file == stdout)
        return good ? 0 : err_set(err, MUSTER_EIO, "Standard output cannot be written.");
    good = good && fsync(fileno(ex->file)) == 0;
    good = fclose(ex->file) == 0 && good;
    ex->file = NULL;
    if (!good || rename(buf_str(&ex->part), name))
        return err_set(err, MUSTER_EIO, "%s cannot be written: %s.", name, strerror(errno));
    buf_fini(&ex->part);
    return 0;
}

static void csv_line(struct buf *out, const char *const *columns, const json_t *item) {
    for (size_t i = 0; columns[i]; i++) {
        json_t *v = json_object_get(item, columns[i]);
        if (i)
            buf_addc(out, ',');
        if (json_is_string(v))
            csv_add(out, span_of(json_string_value(v), json_string_length(v)));
        else if (json_is_boolean(v))
            buf_adds(out, json_is_true(v) ? "yes" : "no");
    }
    buf_adds(out, "\r\n");
}

static int write_page(struct export *ex, const json_t *items, struct err *err) {
    size_t i;
    json_t *item;
    json_array_foreach(items, i, item) {
        CLEANUP(buf_fini) struct buf line = BUF_INIT(65536);
        if (ex->kind->text)
            buf_adds(&line, json_string_value(json_object_get(item, ex->kind->text)) ?: "");
        else if (ex->csv)
            csv_line(&line, ex->kind->columns, item);
        else if (json_write(&line, item) == 0)
            buf_addc(&line, '\n');
        if (!buf_ok(&line) || !line.n || fwrite(line.p, 1, line.n, ex->file) != line.n)
            return err_set(err, MUSTER_EIO, "The file cannot be written: %s.", strerror(errno));
        ex->done++;
    }
    return 0;
}

static int pages(struct export *ex, struct err *err) {
    char cursor[1024] = "";
    for (;;) {
        CLEANUP_JSON json_t *page = NULL;
        CLEANUP(buf_fini) struct buf at = BUF_INIT(16384);
        buf_addf(&at, "%s%climit=%d", buf_str(&ex->path), strchr(buf_str(&ex->path), '?') ? '&' : '?', PAGE);
        if (ex->kind->order)
            buf_addf(&at, "&%s", ex->kind->order);
        if (cursor[0]) {
            buf_adds(&at, "&cursor=");
            api_encode(&at, cursor);
        }
        int rc = api_json(ex->in->api, "GET", buf_str(&at), NULL, &page, NULL, err);
        if (rc || (rc = write_page(ex, json_object_get(page, "items"), err)))
            return rc;
        if (ex->progress)
            fprintf(stderr, "\r%zu exported", ex->done);
        const char *next = json_string_value(json_object_get(page, "next"));
        if (!next)
            return 0;
        if (!strcmp(next, cursor) || strlen(next) >= sizeof cursor)
            return err_set(err, MUSTER_ENETWORK, "The server's pages do not come to an end.");
        snprintf(cursor, sizeof cursor, "%s", next);
    }
}

int command_export(struct invocation *in, struct err *err) {
    const char *name = invocation_option(in, "output"), *format = invocation_option(in, "format");
    CLEANUP(export_fini) struct export ex = {.in = in, .path = BUF_INIT(16384), .part = BUF_INIT(4096), .kind = kinds, .csv = !format || !strcmp(format, "csv"),
                                             .progress = !in->json && isatty(STDERR_FILENO)};
    CLEANUP_JSON json_t *answer = json_object();
    while (strcmp(ex.kind->noun, in->command->noun) != 0)
        ex.kind++;
    int rc = command_path(in, in->account || !ex.kind->everywhere ? in->command->path : ex.kind->everywhere, &ex.path, err);
    if (rc || (rc = open_output(&ex, name, err)))
        return rc;
    for (size_t i = 0; ex.csv && ex.kind->columns[i]; i++)
        fprintf(ex.file, "%s%s", ex.kind->columns[i], ex.kind->columns[i + 1] ? "," : "\r\n");
    rc = pages(&ex, err);
    if (ex.progress && ex.done)
        fputc('\n', stderr);
    if (rc || (rc = close_output(&ex, name, err)))
        return rc;
    if (!strcmp(name, "-"))
        return 0;
    json_set_str(answer, "id", in->account ? in->account : "*");
    json_set_int(answer, "exported", (int64_t)ex.done);
    json_set_str(answer, "file", name);
    if (in->json)
        return print_json(answer, err);
    print_object(answer);
    return 0;
}
