/* content: see content.h. */
#include "backup/content.h"

#include "base/cursor.h"

#define FILE_FOLLOWS 1
#define VAULT_FILES_AT (PLACES - 1)

static const struct place {
    const char *name;
    uint64_t max; /* bytes */
    bool needed;
} TABLE[] = {
    {"facts", 64 << 10, true},
    {"musterd.conf", 1 << 20, true},
    {"server-ca.pem", 1 << 20, true},
    {"admin.token", 4096, false},
    {"control.db", 1ULL << 40, true},
    {"registry.db", 1ULL << 40, true},
    {CONTENT_VAULT "head", 4096, true},
    {CONTENT_VAULT "index", 4 << 20, true},
    {CONTENT_VAULT, 64 << 20, false}, /* every other file of the vault, by name */
};
#define PLACES (sizeof TABLE / sizeof *TABLE)

/* As records.c and count.c name them: lower case, digits, '-', and '.' before a version; never first, so that no file is hidden or above, and
 * never two in a row. */
static bool is_vault_file(const char *name) {
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.");
    return n > 0 && name[n] == '\0' && name[0] != '.' && name[0] != '-' && !strstr(name, "..");
}

/* PLACES: none. */
static size_t place_of(const char *name) {
    if (strlen(name) > CONTENT_NAME_MAX)
        return PLACES;
    for (size_t i = 0; i < VAULT_FILES_AT; i++)
        if (strcmp(name, TABLE[i].name) == 0)
            return i;
    return strncmp(name, CONTENT_VAULT, sizeof CONTENT_VAULT - 1) == 0 && is_vault_file(name + sizeof CONTENT_VAULT - 1) ? VAULT_FILES_AT : PLACES;
}

bool content_may_hold(const char *name, uint64_t *max) {
    size_t at = place_of(name);
    if (at == PLACES)
        return false;
    *max = TABLE[at].max;
    return true;
}

void content_put_file(struct buf *out, const char *name, uint64_t size) {
    buf_addc(out, FILE_FOLLOWS);
    buf_add_u16(out, (uint16_t)strlen(name));
    buf_adds(out, name);
    buf_add_u64(out, size);
}

void content_put_end(struct buf *out) { buf_addc(out, 0); }

void content_reader_init(struct content_reader *r, const struct content_sink *sink) { *r = (struct content_reader){.sink = sink}; }

static int bad(struct err *err, const char *what) { return err_set(err, MUSTER_ECORRUPT, "The backup's content is not as Muster writes it: %s.", what); }

/* How many bytes the front has, as far as it is known. */
static size_t front_length(const struct content_reader *r) {
    if (r->got < 3)
        return r->got && r->front[0] == 0 ? 1 : 3;
    return 3 + ((size_t)r->front[1] << 8 | r->front[2]) + 8;
}

static int begin_file(struct content_reader *r, struct err *err) {
    struct cursor c = cursor_of(span_of(r->front, r->got));
    cursor_u8(&c);
    struct span name = cursor_bytes(&c, cursor_u16(&c));
    uint64_t size = cursor_u64(&c), max = 0;
    char before[CONTENT_NAME_MAX + 1];
    memcpy(before, r->file.name, sizeof before);
    if (memchr(name.p, '\0', name.n))
        return bad(err, "a name has a zero byte");
    memcpy(r->file.name, name.p, name.n);
    r->file.name[name.n] = '\0';
    r->file.size = r->left = size;
    if (!content_may_hold(r->file.name, &max))
        return bad(err, "a file has a name that none has");
    if (size > max)
        return bad(err, "a file is too long");
    size_t at = place_of(r->file.name);
    bool first = r->seen == 0;
    if (!first && (at < r->place || (at == r->place && (at != VAULT_FILES_AT || strcmp(before, r->file.name) >= 0))))
        return bad(err, "a file stands there twice, or in the wrong place");
    r->place = at;
    r->seen |= 1U << at;
    r->inside = true;
    return r->sink->begin(r->sink->arg, &r->file, err);
}

static int take_front(struct content_reader *r, struct span *s, struct err *err) {
    while (s->n && !r->inside && !r->over) {
        r->front[r->got++] = s->p[0];
        *s = span_sub(*s, 1, s->n);
        if (r->got == 1 && r->front[0] > FILE_FOLLOWS)
            return bad(err, "something else than a file follows");
        if (r->got == 1 && r->front[0] == 0)
            r->over = true;
        size_t want = front_length(r);
        if (want > sizeof r->front)
            return bad(err, "a name is too long");
        if (!r->over && r->got > 3 && r->got == want) {
            int rc = begin_file(r, err);
            r->got = 0;
            if (rc)
                return rc;
        }
    }
    return r->over && s->n ? bad(err, "it goes on behind its end") : 0;
}

static int take_bytes(struct content_reader *r, struct span *s, struct err *err) {
    struct span now = span_sub(*s, 0, r->left < s->n ? (size_t)r->left : s->n);
    int rc = now.n ? r->sink->bytes(r->sink->arg, now, err) : 0;
    *s = span_sub(*s, now.n, s->n);
    r->left -= now.n;
    if (rc || r->left)
        return rc;
    r->inside = false;
    return r->sink->end(r->sink->arg, err);
}

int content_feed(struct content_reader *r, struct span piece, struct err *err) {
    do {
        int rc = r->inside ? take_bytes(r, &piece, err) : take_front(r, &piece, err);
        if (rc)
            return rc;
    } while (piece.n || (r->inside && !r->left));
    return 0;
}

int content_done(const struct content_reader *r, struct err *err) {
    if (!r->over)
        return bad(err, "it ends in the middle");
    for (size_t i = 0; i < PLACES; i++)
        if (TABLE[i].needed && !(r->seen & 1U << i))
            return err_set(err, MUSTER_ECORRUPT, "The backup lacks %s.", TABLE[i].name);
    return 0;
}
