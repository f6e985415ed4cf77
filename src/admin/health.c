/* health: /healthz, /readyz and /whoami. */
#include "admin/internal.h"

void admin_HEALTHZ(struct http_exchange *x, void *arg) {
    json_t *o = json_object();
    json_set_bool(o, "ok", true);
    reply_json(x, 200, o);
}

void admin_READYZ(struct http_exchange *x, void *arg) {
    struct control *c = arg;
    json_t *o = json_object();
    bool vault = vault_client_attached(c->vault) && c->greeted, registry = store_health(c->registry) == 0, control = store_health(c->store) == 0;
    json_set_bool(o, "ok", vault && registry && control);
    json_set_str(o, "vault", vault ? "ok" : "unavailable");
    json_set_str(o, "registry", registry ? "ok" : err_code(store_health(c->registry)));
    json_set_str(o, "control", control ? "ok" : err_code(store_health(c->store)));
    reply_json(x, vault && registry && control ? 200 : 503, o);
}

void admin_WHOAMI(struct http_exchange *x, void *arg) { reply_json(x, 200, token_json(&grant_of(x)->token)); }
