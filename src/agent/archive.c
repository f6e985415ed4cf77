/* archive: see archive.h.  The format is PKWARE's APPNOTE 6.3; numbers are little-endian. */
#include "agent/archive.h"

#include <zlib.h>

#include "base/cleanup.h"

#define END_LEN 22     /* end of central directory, without its comment */
#define CENTRAL_LEN 46 /* one of its heads */
#define LOCAL_LEN 30
#define END_MAGIC 0x06054b50u
#define CENTRAL_MAGIC 0x02014b50u
#define LOCAL_MAGIC 0x04034b50u
#define FLAG_ENCRYPTED 0x0001
#define FLAG_SIZES_BEHIND 0x0008
#define FLAG_STRONG 0x0040
#define FLAG_MASKED 0x2000
#define STORED 0
#define DEFLATED 8

static int wrong(struct err *err, const char *what) { return err_set(err, MUSTER_EINVALID, "It is no zip that can be read: %s.", what); }

static uint16_t u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t u32(const uint8_t *p) { return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16; }

static void add16(struct buf *b, uint16_t v) {
    buf_addc(b, (uint8_t)v);
    buf_addc(b, (uint8_t)(v >> 8));
}
static void add32(struct buf *b, uint32_t v) {
    add16(b, (uint16_t)v);
    add16(b, (uint16_t)(v >> 16));
}

/* The last one whose comment ends with the archive. */
static const uint8_t *find_end(struct span a) {
    for (size_t comment = 0; comment <= UINT16_MAX && comment + END_LEN <= a.n; comment++) {
        const uint8_t *p = a.p + a.n - END_LEN - comment;
        if (u32(p) == END_MAGIC && u16(p + 20) == comment)
            return p;
    }
    return NULL;
}

/* Where its content lies: behind a head of its own, that has to be of the same entry. */
static int locate(struct span a, size_t directory, struct archive_entry *e, uint32_t at, uint32_t n, struct err *err) {
    if (at > directory || directory - at < LOCAL_LEN || u32(a.p + at) != LOCAL_MAGIC)
        return wrong(err, "an entry is not where the directory says");
    const uint8_t *p = a.p + at;
    size_t name = u16(p + 26), extra = u16(p + 28), room = directory - at - LOCAL_LEN;
    if (name + extra > room || n > room - name - extra)
        return wrong(err, "an entry reaches into the directory");
    if (!span_eq(span_of(p + LOCAL_LEN, name), e->name) || u16(p + 8) != e->method)
        return wrong(err, "an entry is not the one that the directory names");
    e->data = span_of(p + LOCAL_LEN + name + extra, n);
    return 0;
}

static int read_central(struct span a, size_t directory, size_t *at, size_t end, struct archive_entry *e, struct err *err) {
    const uint8_t *p = a.p + *at;
    if (end - *at < CENTRAL_LEN || u32(p) != CENTRAL_MAGIC)
        return wrong(err, "its directory is damaged");
    size_t name = u16(p + 28), extra = u16(p + 30), comment = u16(p + 32);
    if (name + extra + comment > end - *at - CENTRAL_LEN || name == 0)
        return wrong(err, "its directory is damaged");
    *e = (struct archive_entry){.made_by = u16(p + 4), .needs = u16(p + 6), .flags = u16(p + 8), .method = u16(p + 10), .time = u16(p + 12), .date = u16(p + 14),
                            .crc = u32(p + 16), .size = u32(p + 24), .internal = u16(p + 36), .external = u32(p + 38),
                            .name = span_of(p + CENTRAL_LEN, name), .extra = span_of(p + CENTRAL_LEN + name, extra),
                            .comment = span_of(p + CENTRAL_LEN + name + extra, comment)};
    if (u32(p + 20) == UINT32_MAX || e->size == UINT32_MAX || u32(p + 42) == UINT32_MAX || u16(p + 34) != 0)
        return wrong(err, "it is a Zip64 or one of several volumes");
    *at += CENTRAL_LEN + name + extra + comment;
    return locate(a, directory, e, u32(p + 42), u32(p + 20), err);
}

static bool overlap(struct span a, struct span b) { return a.n && b.n && a.p < b.p + b.n && b.p < a.p + a.n; }

static int check_apart(const struct archive *z, const struct archive_entry *e, struct err *err) {
    for (size_t i = 0; i < z->n; i++) {
        if (span_eq(z->entry[i].name, e->name))
            return wrong(err, "it has an entry twice");
        if (overlap(z->entry[i].data, e->data))
            return wrong(err, "two entries lie over one another");
    }
    return 0;
}

int archive_open(struct span a, struct archive *out, struct err *err) {
    *out = (struct archive){.n = 0};
    if (a.n > ARCHIVE_MAX)
        return wrong(err, "it is too large");
    const uint8_t *end = find_end(a);
    if (!end)
        return wrong(err, "it has no directory");
    size_t at = u32(end + 16), bytes = u32(end + 12), n = u16(end + 10), limit = (size_t)(end - a.p), directory = at;
    if (u16(end + 4) || u16(end + 6) || u16(end + 8) != n || at > limit || bytes != limit - at)
        return wrong(err, "its directory is not where it should be");
    if (n > ARCHIVE_ENTRIES_MAX)
        return wrong(err, "it has too many entries");
    out->comment = span_of(end + END_LEN, u16(end + 20));
    for (size_t i = 0; i < n; i++) {
        struct archive_entry e;
        int rc = read_central(a, directory, &at, limit, &e, err);
        if (rc || (rc = check_apart(out, &e, err)))
            return rc;
        out->entry[out->n++] = e;
    }
    return at == limit ? 0 : wrong(err, "something stands behind its directory");
}

static const struct archive_entry *find(const struct archive *z, const char *name) {
    for (size_t i = 0; i < z->n; i++)
        if (span_eq_str(z->entry[i].name, name))
            return &z->entry[i];
    return NULL;
}

bool archive_has(const struct archive *z, const char *name) { return find(z, name) != NULL; }

/* No more than the size that the directory names, however much comes. */
static bool inflate_into(struct span in, uint8_t *out, size_t n) {
    z_stream s = {.next_in = (Bytef *)(uintptr_t)in.p, .avail_in = (uInt)in.n, .next_out = out, .avail_out = (uInt)n};
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return false;
    int rc = inflate(&s, Z_FINISH);
    bool whole = rc == Z_STREAM_END && s.avail_out == 0 && s.avail_in == 0;
    inflateEnd(&s);
    return whole;
}

int archive_read(const struct archive *z, const char *name, struct buf *out, struct err *err) {
    const struct archive_entry *e = find(z, name);
    if (!e)
        return err_set(err, MUSTER_ENOTFOUND, "The zip has no %s.", name);
    if (e->flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED))
        return wrong(err, "it is encrypted");
    if (e->size == 0 || e->size > out->max - out->n)
        return err_set(err, MUSTER_EINVALID, "%s in the zip is empty or too large.", name);
    if (e->method != STORED && e->method != DEFLATED)
        return err_set(err, MUSTER_EINVALID, "%s in the zip is packed by a method that is not known here.", name);
    size_t before = out->n;
    uint8_t *to = buf_extend(out, e->size);
    if (!to)
        return err_set(err, MUSTER_ENOMEM, NULL);
    bool whole = e->method == DEFLATED ? inflate_into(e->data, to, e->size) : e->data.n == e->size;
    if (whole && e->method == STORED)
        memcpy(to, e->data.p, e->size);
    if (whole && crc32(crc32(0, NULL, 0), to, e->size) == e->crc)
        return 0;
    memset(to, 0, e->size); /* what a broken stream left may be a part of a key */
    out->n = before;
    return err_set(err, MUSTER_EINVALID, "%s in the zip cannot be read whole.", name);
}

static bool left_out(const struct archive_entry *e, const char *const *names) {
    for (; *names; names++)
        if (span_eq_str(e->name, *names))
            return true;
    return false;
}

/* What both heads of an entry have.  Sizes stand in front from now on, wherever they stood. */
static void add_common(struct buf *out, const struct archive_entry *e) {
    add16(out, e->needs);
    add16(out, e->flags & (uint16_t)~FLAG_SIZES_BEHIND);
    add16(out, e->method);
    add16(out, e->time);
    add16(out, e->date);
    add32(out, e->crc);
    add32(out, (uint32_t)e->data.n);
    add32(out, e->size);
    add16(out, (uint16_t)e->name.n);
}

static void add_local(struct buf *out, const struct archive_entry *e) {
    add32(out, LOCAL_MAGIC);
    add_common(out, e);
    add16(out, 0); /* what is extra in front (times, owners) stands in the directory as well */
    buf_add(out, e->name);
    buf_add(out, e->data);
}

static void add_central(struct buf *out, const struct archive_entry *e, size_t at) {
    add32(out, CENTRAL_MAGIC);
    add16(out, e->made_by);
    add_common(out, e);
    add16(out, (uint16_t)e->extra.n);
    add16(out, (uint16_t)e->comment.n);
    add16(out, 0);
    add16(out, e->internal);
    add32(out, e->external);
    add32(out, (uint32_t)at);
    buf_add(out, e->name);
    buf_add(out, e->extra);
    buf_add(out, e->comment);
}

int archive_without(const struct archive *z, const char *const *names, struct buf *out, struct err *err) {
    size_t at[ARCHIVE_ENTRIES_MAX], base = out->n, kept = 0;
    for (size_t i = 0; i < z->n; i++) {
        at[i] = out->n - base;
        if (!left_out(&z->entry[i], names))
            add_local(out, &z->entry[i]);
    }
    size_t directory = out->n - base;
    for (size_t i = 0; i < z->n; i++) {
        if (left_out(&z->entry[i], names))
            continue;
        add_central(out, &z->entry[i], at[i]);
        kept++;
    }
    size_t bytes = out->n - base - directory;
    add32(out, END_MAGIC);
    add32(out, 0);
    add16(out, (uint16_t)kept);
    add16(out, (uint16_t)kept);
    add32(out, (uint32_t)bytes);
    add32(out, (uint32_t)directory);
    add16(out, (uint16_t)z->comment.n);
    buf_add(out, z->comment);
    return buf_check(out, err);
}
