/* kit_revoke: `muster factory kit revoke`: nothing comes in by the line any more; and its devices are held or cut off, where that is wanted; see command.h.  The line comes first,
 * so that nobody comes in behind what has been done; the same command again goes on where it was cut off. */
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/print.h"
#include "muster/run_part.h"

#define PAGE 1000

struct revocation {
    struct invocation *in;
    const char *action; /* "hold", "quarantine"; NULL: devices stay as they are */
    int64_t acted;
};

static int path_of(const struct revocation *r, const char *more, struct buf *out, struct err *err) {
    int rc = command_path(r->in, "/api/v1/accounts/{account}/lines/{line}", out, err);
    buf_adds(out, more);
    return rc ? rc : buf_check(out, err);
}

static int show_reach(const struct revocation *r, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(16384);
    CLEANUP_JSON json_t *line = NULL;
    char reach[400];
    int rc = path_of(r, "", &path, err);
    if (rc || (rc = api_json(r->in->api, "GET", buf_str(&path), NULL, &line, NULL, err)))
        return rc;
    long long in = json_integer_value(json_object_get(line, "devices")), held = json_integer_value(json_object_get(line, "held"));
    snprintf(reach, sizeof reach, "From now on every device that comes by the line %s for the first time is refused, for good. It has brought in %lld device%s, and %lld more came outside its bounds; %s.", r->in->args[0], in,
             in == 1 ? "" : "s", held, !r->action ? "they stay as they are" : !strcmp(r->action, "hold") ? "those that are in will wait for an operator" : "all of them are cut off");
    return run_agreed(r->in, reach) ? 0 : err_set(err, MUSTER_ECONFIRM, "%s", reach);
}

static int act_on(struct revocation *r, const json_t *page, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(16384);
    CLEANUP_JSON json_t *body = json_object();
    CLEANUP_JSON json_t *answer = NULL;
    json_t *some = json_array(), *device;
    size_t i;
    json_array_foreach(page, i, device)
        json_array_append(some, json_object_get(device, "device_id"));
    json_set(body, "devices", some);
    json_set_str(body, "action", r->action);
    json_set_str(body, "reason", "its factory line was revoked");
    if (!json_array_size(some))
        return 0;
    int rc = path_of(r, "/devices", &path, err);
    rc = rc ? rc : api_json(r->in->api, "POST", buf_str(&path), body, &answer, NULL, err);
    r->acted += json_integer_value(json_object_get(answer, "acted"));
    return rc;
}

static int act(struct revocation *r, struct err *err) {
    char cursor[1024] = "";
    for (;;) {
        CLEANUP(buf_fini) struct buf path = BUF_INIT(16384);
        CLEANUP_JSON json_t *page = NULL;
        int rc = path_of(r, "/devices", &path, err);
        buf_addf(&path, "?limit=%d", PAGE);
        if (cursor[0]) {
            buf_adds(&path, "&cursor=");
            api_encode(&path, cursor);
        }
        if (rc || (rc = api_json(r->in->api, "GET", buf_str(&path), NULL, &page, NULL, err)) || (rc = act_on(r, json_object_get(page, "items"), err)))
            return err_prefix(err, "The line is revoked; after %lld of its devices (the same command goes on)", (long long)r->acted);
        const char *next = json_string_value(json_object_get(page, "next"));
        if (!next || !strcmp(next, cursor) || strlen(next) >= sizeof cursor)
            return next ? err_set(err, MUSTER_ENETWORK, "The server's pages do not come to an end.") : 0;
        snprintf(cursor, sizeof cursor, "%s", next);
    }
}

int command_kit_revoke(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(16384);
    CLEANUP_JSON json_t *body = NULL, *line = NULL;
    const char *hold = invocation_option(in, "hold"), *quarantine = invocation_option(in, "quarantine");
    struct revocation r = {.in = in, .action = quarantine ? "quarantine" : hold ? "hold" : NULL};
    if (hold && quarantine)
        return err_set(err, MUSTER_EUSAGE, "--hold or --quarantine, not both.");
    int rc = command_path(in, in->command->path, &path, err);
    if (rc || (rc = command_body(in, &body, err)) || (rc = show_reach(&r, err)) || (rc = api_json(in->api, "POST", buf_str(&path), body, &line, NULL, err)) || (r.action && (rc = act(&r, err))))
        return rc;
    if (r.action) {
        json_set_str(line, "action", r.action);
        json_set_int(line, "acted", r.acted);
    }
    if (in->json)
        return print_json(line, err);
    print_object(line);
    return 0;
}
