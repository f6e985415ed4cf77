/* credentials.zip as muster-agent reads it on a device: what is accepted lies within the archive and within its bounds, no entry twice; without some entries the rest
 * is the same, and a second time changes nothing. */
#include "agent/archive.h"
#include "fuzz.h"

#define CONTENT_MAX 65536

/* The content of an entry, or that it cannot be read, is the same in both. */
static void same(const struct archive *a, const struct archive *b, const char *name) {
    CLEANUP(buf_fini) struct buf one = BUF_INIT(CONTENT_MAX), other = BUF_INIT(CONTENT_MAX);
    struct err err = ERR_INIT;
    int rc = archive_read(a, name, &one, &err);
    MUST(rc == 0 || rc == MUSTER_EINVALID || rc == MUSTER_ENOTFOUND);
    MUST((rc == MUSTER_ENOTFOUND) == !archive_has(a, name) && (rc == 0) == (one.n > 0));
    MUST(archive_read(b, name, &other, &err) == rc && span_eq(buf_span(&one), buf_span(&other)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const REMOVED[] = {"autoprov_credentials.p12", "treehub.json", NULL}, *const NONE[] = {NULL};
    CLEANUP(buf_fini) struct buf rest = BUF_INIT(2 * ARCHIVE_MAX), again = BUF_INIT(2 * ARCHIVE_MAX), whole = BUF_INIT(2 * ARCHIVE_MAX);
    struct archive a, b, c;
    struct err err = ERR_INIT;
    struct span file = span_of(data, n);
    int rc = archive_open(file, &a, &err);
    MUST(rc == 0 ? a.n <= ARCHIVE_ENTRIES_MAX : rc == MUSTER_EINVALID && err.text[0]);
    if (rc)
        return 0;
    for (size_t i = 0; i < a.n; i++) {
        MUST(span_inside(a.entry[i].name, file) && span_inside(a.entry[i].data, file) && span_inside(a.entry[i].extra, file) && span_inside(a.entry[i].comment, file));
        MUST(a.entry[i].name.n > 0);
        for (size_t k = 0; k < i; k++)
            MUST(!span_eq(a.entry[i].name, a.entry[k].name));
    }
    MUST(archive_without(&a, NONE, &whole, &err) == 0 && archive_open(buf_span(&whole), &c, &err) == 0 && c.n == a.n);
    MUST(archive_without(&a, REMOVED, &rest, &err) == 0 && archive_open(buf_span(&rest), &b, &err) == 0);
    MUST(b.n == a.n - archive_has(&a, REMOVED[0]) - archive_has(&a, REMOVED[1]) && !archive_has(&b, REMOVED[0]) && !archive_has(&b, REMOVED[1]));
    same(&a, &b, "autoprov.url");
    same(&a, &b, "server_ca.pem");
    same(&a, &c, REMOVED[0]);
    MUST(archive_without(&b, REMOVED, &again, &err) == 0 && span_eq(buf_span(&again), buf_span(&rest)));
    return 0;
}
