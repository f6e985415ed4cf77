/* config: ca.json, the settings of a fleet CA; see ca.h.  A person may edit it: reading is strict, and says what is wrong. */
#include "ca/ca.h"
#include "json/json.h"

#define FORMAT 1

/* The parts of a subject that a CA has, by their names in the file. */
static const struct part {
    const char *name;
    size_t at;
} parts[] = {{"country", offsetof(struct subject, country)},
             {"state", offsetof(struct subject, state)},
             {"locality", offsetof(struct subject, locality)},
             {"organisation", offsetof(struct subject, organisation)},
             {"organisational_unit", offsetof(struct subject, organisational_unit)}};
#define PARTS (sizeof parts / sizeof *parts)

static struct span *part_of(struct subject *s, const struct part *p) { return (struct span *)(void *)((char *)s + p->at); }

static bool is_subject(const json_t *subject) {
    const char *name;
    json_t *value;
    if (!json_is_object(subject))
        return false;
    json_object_foreach((json_t *)subject, name, value) {
        size_t i = 0;
        while (i < PARTS && strcmp(name, parts[i].name))
            i++;
        if (i == PARTS || !json_is_string(value))
            return false;
    }
    return true;
}

int ca_read_config(struct span text, json_t **config, int64_t *device_life, struct err *err) {
    json_int_t format = 0, life = 0;
    const char *created;
    json_t *subject = NULL;
    struct err why = ERR_INIT;
    CLEANUP_JSON json_t *doc = json_parse(text, &why);
    if (!doc)
        return err_set(err, MUSTER_ECORRUPT, "ca.json: %s", err_text(&why));
    if (json_integer_value(json_object_get(doc, "format")) > FORMAT)
        return err_set(err, MUSTER_EVERSION, "The fleet CA was made by a newer version of Muster.");
    if (json_take(doc, &why, "{s:I, s:s, s:I, s:o}", "format", &format, "created", &created, "device_life", &life, "subject", &subject))
        return err_set(err, MUSTER_ECORRUPT, "ca.json: %s", err_text(&why));
    if (format != FORMAT || life < CLOCK_HOUR || life > CA_LIFE_MAX)
        return err_set(err, MUSTER_ECORRUPT, "A number in ca.json is out of its range.");
    if (!is_subject(subject))
        return err_set(err, MUSTER_ECORRUPT, "The subject in ca.json has a member that is not known, or no text.");
    *device_life = life;
    *config = TAKE(doc);
    return 0;
}

int ca_write_config(const struct ca_init *init, int64_t now, struct buf *out) {
    CLEANUP_JSON json_t *config = json_object();
    json_t *subject = json_object();
    struct subject s = init->subject;
    for (size_t i = 0; i < PARTS; i++)
        if (part_of(&s, &parts[i])->n)
            json_set_span(subject, parts[i].name, *part_of(&s, &parts[i]));
    json_set_int(config, "format", FORMAT);
    json_set_time(config, "created", now);
    json_set_int(config, "device_life", init->device_life);
    json_set(config, "subject", subject);
    return json_write_pretty(out, config);
}

struct subject ca_subject(const json_t *config) {
    const json_t *subject = json_object_get(config, "subject");
    struct subject s = {.country = SPAN_NONE};
    for (size_t i = 0; i < PARTS; i++)
        *part_of(&s, &parts[i]) = span_str(json_string_value(json_object_get(subject, parts[i].name)));
    return s;
}
