/* list: see list.h. */
#include "ca/list.h"

#include "base/clock.h"
#include "base/csv.h"
#include "ca/ca.h"
#include "ca/name.h"

bool ca_key_kind(struct span name, bool of_ca, enum key_kind *kind, int *bits) {
    static const struct {
        const char *name;
        enum key_kind kind;
        int bits;
        bool of_ca, of_device;
    } kinds[] = {{"p256", KEY_P256, 0, true, true},      {"p384", KEY_P384, 0, true, true},      {"rsa2048", KEY_RSA, 2048, false, true},
                 {"rsa3072", KEY_RSA, 3072, true, true}, {"rsa4096", KEY_RSA, 4096, true, true}, {"ed25519", KEY_ED25519, 0, false, true}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (span_eq_str(name, kinds[i].name) && (of_ca ? kinds[i].of_ca : kinds[i].of_device)) {
            *kind = kinds[i].kind;
            *bits = kinds[i].bits;
            return true;
        }
    return false;
}

/* --- columns -------------------------------------------------------------------------------------------------------------------- */

struct columns {
    const char *named; /* by the caller */
    int id, key, life; /* -1: none */
};

/* The cell of a column in a line that may be too short for it. */
static struct span cell(const struct csv_line *l, int at) { return at >= 0 && (size_t)at < l->n ? l->cell[at] : SPAN_NONE; }

static int find_named(struct columns *c, const struct csv_line *l, struct err *err) {
    for (size_t i = 0; i < l->n; i++)
        if (span_eq_str(l->cell[i], c->named)) {
            if (c->id >= 0)
                return err_set(err, MUSTER_EINVALID, "Line 1 has two columns \"%.64s\".", c->named);
            c->id = (int)i;
        }
    return c->id >= 0 ? 0 : err_set(err, MUSTER_EINVALID, "Line 1 has no column \"%.64s\".", c->named);
}

/* Line 1; *is_header false: it is a device. */
static int read_header(struct columns *c, const struct csv_line *l, bool *is_header, struct err *err) {
    *is_header = c->named != NULL;
    if (c->named)
        return find_named(c, l, err);
    for (size_t i = 0; i < l->n; i++)
        *is_header = *is_header || span_eq_str(l->cell[i], "device_id");
    if (!*is_header) {
        c->id = 0;
        return 0;
    }
    for (size_t i = 0; i < l->n; i++) {
        int *at = span_eq_str(l->cell[i], "device_id") ? &c->id : span_eq_str(l->cell[i], "key") ? &c->key : span_eq_str(l->cell[i], "life") ? &c->life : NULL;
        if (!at || *at >= 0)
            return err_set(err, MUSTER_EINVALID, "Line 1 names the column \"%.*s\"; columns are device_id, key and life, each once. Of a file with others --column says which one holds the device ID.",
                           (int)(l->cell[i].n > 64 ? 64 : l->cell[i].n), (const char *)l->cell[i].p);
        *at = (int)i;
    }
    return 0;
}

/* --- rows ----------------------------------------------------------------------------------------------------------------------- */

static int add(struct ca_list *list, const struct ca_list_row *row, struct err *err) {
    if ((list->n & (list->n - 1)) == 0) { /* a power of two: full */
        struct ca_list_row *more = realloc(list->rows, (list->n ? 2 * list->n : 1) * sizeof *more);
        if (!more)
            return err_set(err, MUSTER_ENOMEM, NULL);
        list->rows = more;
    }
    list->rows[list->n++] = *row;
    return 0;
}

static int read_row(struct ca_list *list, const struct columns *c, const struct csv_line *l, size_t line, struct err *err) {
    struct ca_list_row row = {.line = line};
    struct span key = cell(l, c->key), life = cell(l, c->life), id = cell(l, c->id);
    bool bare = !c->named && c->key < 0 && c->life < 0;
    if (bare && l->n > 1 && c->id == 0)
        return err_set(err, MUSTER_EINVALID, "It has %zu cells. Name the columns in the first line, or with --column the one that holds the device ID; an ID with a comma stands in quotes.", l->n);
    int rc = ca_check_device_id(id, err);
    if (rc)
        return rc;
    if (key.n && !ca_key_kind(key, false, &row.kind, &row.bits))
        return err_set(err, MUSTER_EINVALID, "\"%.*s\" is no kind of key.", (int)(key.n > 64 ? 64 : key.n), (const char *)key.p);
    if (life.n && (clock_parse_span(life, &row.life) || row.life < CLOCK_HOUR || row.life > CA_LIFE_MAX))
        return err_set(err, MUSTER_EINVALID, "\"%.*s\" is no length of time from 1h to 100y.", (int)(life.n > 64 ? 64 : life.n), (const char *)life.p);
    row.device_id = arena_copy(list->memory, id);
    return row.device_id.p ? add(list, &row, err) : err_set(err, MUSTER_ENOMEM, NULL);
}

static int read_line(struct ca_list *list, struct columns *c, struct span text, size_t line, struct err *err) {
    struct csv_line l;
    bool header = false;
    int rc = csv_read(&l, text, err);
    if (rc)
        err_prefix(err, "Line %zu", line);
    if (!rc && line == 1)
        rc = read_header(c, &l, &header, err);
    if (!rc && !header && (rc = read_row(list, c, &l, line, err)))
        err_prefix(err, "Line %zu", line);
    csv_line_fini(&l);
    return rc;
}

static int by_id(const void *a, const void *b) {
    const struct ca_list_row *x = *(const struct ca_list_row *const *)a, *y = *(const struct ca_list_row *const *)b;
    size_t n = x->device_id.n < y->device_id.n ? x->device_id.n : y->device_id.n;
    int order = memcmp(x->device_id.p, y->device_id.p, n);
    return order ? order : x->device_id.n < y->device_id.n ? -1 : x->device_id.n > y->device_id.n ? 1 : x->line < y->line ? -1 : x->line > y->line;
}

static inline void free_order(const struct ca_list_row **order) { free(order); }
DEFINE_CLEANUP(free_order, const struct ca_list_row **)

int ca_list_check(const struct ca_list *list, struct err *err) {
    CLEANUP(free_order) const struct ca_list_row **order = calloc(list->n + 1, sizeof *order);
    if (!order)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 0; i < list->n; i++)
        order[i] = &list->rows[i];
    qsort(order, list->n, sizeof *order, by_id);
    for (size_t i = 1; i < list->n; i++)
        if (span_eq(order[i]->device_id, order[i - 1]->device_id))
            return order[i - 1]->line ? err_set(err, MUSTER_EINVALID, "The device ID %.*s stands in line %zu and in line %zu.", SPAN_FMT(order[i]->device_id), order[i - 1]->line, order[i]->line)
                                      : err_set(err, MUSTER_EINVALID, "The device ID %.*s is named twice.", SPAN_FMT(order[i]->device_id));
    return 0;
}

int ca_list_add(struct ca_list *list, struct span device_id, struct err *err) {
    const struct ca_list_row row = {.device_id = device_id};
    int rc = ca_check_device_id(device_id, err);
    return rc ? rc : add(list, &row, err);
}

int ca_list_read(struct span text, const char *column, struct ca_list *out, struct err *err) {
    CLEANUP(ca_list_fini) struct ca_list list = {.memory = arena_new(4 * (size_t)CA_LIST_MAX)};
    struct columns c = {.named = column, .id = -1, .key = -1, .life = -1};
    if (!list.memory)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (span_starts(text, SPAN_LIT("\xef\xbb\xbf"))) /* as spreadsheets write it */
        text = span_sub(text, 3, text.n);
    for (size_t line = 1; text.n; line++) {
        long end = span_index(text, '\n');
        struct span one = span_sub(text, 0, end < 0 ? text.n : (size_t)end);
        text = span_sub(text, one.n + 1, text.n);
        if (span_ends(one, SPAN_LIT("\r")))
            one.n--;
        int rc = one.n || (line == 1 && column) ? read_line(&list, &c, one, line, err) : 0;
        if (rc)
            return rc;
        if (line == 1 && !one.n)
            c.id = 0; /* and no header comes any more */
    }
    int rc = ca_list_check(&list, err);
    if (rc)
        return rc;
    *out = list;
    list = (struct ca_list){0};
    return 0;
}

void ca_list_fini(struct ca_list *list) {
    arena_free(list->memory);
    free(list->rows);
    *list = (struct ca_list){0};
}
