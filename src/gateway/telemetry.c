/* telemetry: PUT /system_info, /system_info/network and /core/installed: what a device says of its hardware, its network and its
 * packages.  Kept whole where it is small enough, pruned where not; a summary is made for those who look through a fleet. */
#include "gateway/keep_part.h"

#define SYSTEM_KEPT (64 * 1024)     /* bytes of the hardware's description, written compactly: a fleet has a million of them */
#define INSTALLED_KEPT (128 * 1024) /* bytes of the list of packages */
#define PACKAGES_MAX 20000
#define SHORT_MAX 128               /* bytes of a text in a summary; a longer one is left out */
#define MACS_MAX 8
#define DEPTH_MAX 8

/* --- hardware: the tree that lshw makes, {id, class, product?, …, children?: […]} ------------------------------------------------------- */

static const char *short_text(json_t *from, const char *key) {
    json_t *v = json_object_get(from, key);
    const char *s = json_string_value(v);
    return s && *s && json_string_length(v) <= SHORT_MAX && !span_has_control(span_str(s)) ? s : NULL;
}

static void sum_up(json_t *node, json_t *out, int depth) {
    static const struct { const char *class, *id, *size; } sizes[] = {{"memory", "memory", "memory"}, {"disk", NULL, "disk"}};
    const char *class = json_string_value(json_object_get(node, "class")), *id = json_string_value(json_object_get(node, "id"));
    json_t *child, *size = json_object_get(node, "size"), *macs = json_object_get(out, "macs");
    size_t i;
    for (i = 0; class && i < sizeof sizes / sizeof *sizes; i++) {
        if (strcmp(class, sizes[i].class) || (sizes[i].id && (!id || strcmp(id, sizes[i].id))) || !json_is_integer(size) || json_integer_value(size) < 0)
            continue;
        json_int_t before = json_integer_value(json_object_get(out, sizes[i].size)), more = json_integer_value(size);
        json_set_int(out, sizes[i].size, more > INT64_MAX - before ? INT64_MAX : before + more);
    }
    if (class && !strcmp(class, "processor")) {
        json_set_int(out, "cpus", json_integer_value(json_object_get(out, "cpus")) + 1);
        if (!json_object_get(out, "cpu") && short_text(node, "product"))
            json_set_str(out, "cpu", short_text(node, "product"));
    }
    if (class && !strcmp(class, "network") && short_text(node, "serial") && json_array_size(macs) < MACS_MAX)
        json_array_append_new(macs, json_string(short_text(node, "serial")));
    json_array_foreach(json_object_get(node, "children"), i, child) {
        if (depth < DEPTH_MAX)
            sum_up(child, out, depth + 1);
    }
}

/* The document without what lies deeper than `depth`. */
static json_t *prune(json_t *v, int depth) {
    json_t *out = json_is_object(v) ? json_object() : json_array(), *item;
    const char *key;
    size_t i;
    if (!json_is_object(v) && !json_is_array(v)) {
        json_decref(out);
        return json_incref(v);
    }
    json_object_foreach(v, key, item) {
        if (depth > 0 || (!json_is_object(item) && !json_is_array(item)))
            json_set(out, key, prune(item, depth - 1));
    }
    json_array_foreach(v, i, item) {
        if (depth > 0 || (!json_is_object(item) && !json_is_array(item)))
            json_array_append_new(out, prune(item, depth - 1));
    }
    return out;
}

static bool fits(json_t *doc, size_t most) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(most);
    return json_write_sorted(&text, doc) == 0;
}

int system_take(struct span body, struct keeping *k, struct err *err) {
    CLEANUP_JSON json_t *doc = json_parse(body, err);
    CLEANUP_JSON json_t *kept = NULL;
    CLEANUP_JSON json_t *summary = json_object();
    static const char *const texts[] = {"vendor", "product", "version", "serial"};
    if (!doc)
        return err->code;
    if (!json_is_object(doc))
        return err_set(err, MUSTER_EJSON, "The description of a system is a JSON object.");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        json_set_str(summary, texts[i], short_text(doc, texts[i]));
    json_set(summary, "macs", json_array());
    sum_up(doc, summary, 0);
    kept = json_incref(doc);
    for (int depth = DEPTH_MAX; !fits(kept, SYSTEM_KEPT); depth--) {
        if (depth < 0)
            return err_set(err, MUSTER_EHTTPBODY, "The description of the system is longer than %d bytes without anything in it.", SYSTEM_KEPT);
        json_decref(kept);
        kept = prune(doc, depth);
    }
    json_set_bool(summary, "pruned", kept != doc);
    return report_take(k, REPORT_SYSTEM, short_text(doc, "product") ? short_text(doc, "product") : "", TAKE(summary), TAKE(kept), err);
}

/* --- network ---------------------------------------------------------------------------------------------------------------------------- */

int network_take(struct span body, struct keeping *k, struct err *err) {
    CLEANUP_JSON json_t *doc = json_parse(body, err);
    CLEANUP_JSON json_t *out = json_object();
    static const struct { const char *key; size_t most; } members[] = {{"local_ipv4", 64}, {"mac", 64}, {"hostname", 255}};
    const char *text = "";
    if (!doc)
        return err->code;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        int rc = take_text(doc, members[i].key, 0, members[i].most, &text, err);
        if (rc)
            return rc;
        json_set_str(out, members[i].key, text);
    }
    return report_take(k, REPORT_NETWORK, text, json_incref(out), json_incref(out), err);
}

/* --- packages --------------------------------------------------------------------------------------------------------------------------- */

int installed_take(struct span body, struct keeping *k, struct err *err) {
    CLEANUP_JSON json_t *doc = json_parse(body, err);
    CLEANUP_JSON json_t *list = json_array();
    CLEANUP_JSON json_t *summary = json_object();
    const char *name, *version;
    size_t i, bytes = 2;
    json_t *one;
    if (!doc)
        return err->code;
    if (!json_is_array(doc) || json_array_size(doc) > PACKAGES_MAX)
        return err_set(err, MUSTER_EJSON, "The packages are a list of at most %d.", PACKAGES_MAX);
    json_array_foreach(doc, i, one) {
        int rc = take_text(one, "name", 1, 255, &name, err);
        if (rc || (rc = take_text(one, "version", 0, 255, &version, err)))
            return rc;
        CLEANUP_JSON json_t *o = json_object();
        CLEANUP(buf_fini) struct buf text = BUF_INIT(2048);
        json_set_str(o, "name", name);
        json_set_str(o, "version", version);
        if ((rc = json_write_sorted(&text, o)))
            return rc;
        if ((bytes += text.n + 1) <= INSTALLED_KEPT)
            json_array_append(list, o);
    }
    json_set_int(summary, "packages", (int64_t)json_array_size(doc));
    json_set_bool(summary, "pruned", json_array_size(list) != json_array_size(doc));
    return report_take(k, REPORT_INSTALLED, "", TAKE(summary), TAKE(list), err);
}
