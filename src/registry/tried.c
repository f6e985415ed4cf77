/* tried: what is tried as it is kept; see tried.h.  What it means for who decides: tried_over.c. */
#include "registry/tried.h"

const char *const TRIED_OF_ACCOUNT[] = {"approval", "csr_queue", "device_key", "expected_only", "hook", "late_renewal", "lost_answer_window", "method", "renewal_window", "reprovision", "server_keygen", "superseded_renewal", NULL};
const char *const TRIED_OF_KEY[] = {"expires", "id_pattern", "max_devices", "per_hour", "sources", NULL};
const char *const TRIED_OF_ROOT[] = {"expired", "id_rule", "key_rule", "state", NULL};

int tried_change_of(const json_t *body, enum tried_change *out, struct err *err) {
    static const char *const words[] = {[TRIED_TRY] = "try", [TRIED_ENFORCE] = "enforce", [TRIED_DROP] = "drop"};
    const json_t *v = json_object_get(body, "shadow");
    const char *word = json_string_value(v);
    *out = TRIED_NOT;
    for (int i = TRIED_TRY; word && i <= TRIED_DROP; i++)
        if (strcmp(word, words[i]) == 0)
            *out = (enum tried_change)i;
    return v && *out == TRIED_NOT ? err_set(err, MUSTER_EINVALID, "shadow is try, enforce or drop.") : 0;
}

bool tried_can(const char *const *of, const char *member) {
    while (*of && strcmp(*of, member) != 0)
        of++;
    return *of != NULL;
}

json_t *tried_json(const char *tried) {
    json_t *o = *tried ? json_loads(tried, 0, NULL) : NULL;
    return o ? o : json_null();
}

int tried_put(char *tried, size_t size, const char *const *of, const json_t *whole, const json_t *body, struct err *err) {
    CLEANUP_JSON json_t *before = tried_json(tried), *after = json_object();
    CLEANUP(buf_fini) struct buf text = BUF_INIT(size - 1);
    const char *member;
    json_t *v;
    json_object_foreach((json_t *)body, member, v) {
        if (strcmp(member, "shadow") != 0 && !tried_can(of, member))
            return err_set(err, MUSTER_EINVALID, "\"%.40s\" cannot be tried; it is changed as it is, or not.", member);
    }
    for (; *of; of++)
        if (json_object_get(before, *of) || json_object_get(body, *of))
            json_object_set(after, *of, json_object_get(whole, *of));
    int rc = json_write_sorted(&text, after);
    if (rc || (rc = buf_check(&text, err)))
        return rc;
    snprintf(tried, size, "%s", json_object_size(after) ? buf_str(&text) : "");
    return 0;
}

json_t *tried_settle(enum tried_change change, const char *tried, bool beside, const json_t *body, struct err *err) {
    const json_t *confirm = json_object_get(body, "confirm");
    if (json_object_size(body) > (confirm ? 2 : 1)) {
        err_set(err, MUSTER_EINVALID, "What was tried is enforced, or dropped, as it is.");
        return NULL;
    }
    if (change == TRIED_ENFORCE && !*tried && !beside) {
        err_set(err, MUSTER_EINVALID, "Nothing is tried.");
        return NULL;
    }
    json_t *o = change == TRIED_ENFORCE && *tried ? tried_json(tried) : json_object();
    if (!json_is_object(o)) {
        json_decref(o);
        err_set(err, MUSTER_ECORRUPT, "What is tried cannot be read.");
        return NULL;
    }
    if (confirm)
        json_object_set(o, "confirm", (json_t *)confirm);
    return o;
}
