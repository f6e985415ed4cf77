/* routes: routes.def as tables. */
#include "admin/internal.h"

#define OPEN SCOPE_OPEN
#define SERVER SCOPE_SERVER
#define ACCOUNT SCOPE_ACCOUNT
#define ANY SCOPE_ANY
#define O ROLE_OWNER
#define P ROLE_OPERATOR
#define A ROLE_AUDITOR
#define F ROLE_FACTORY

const struct admin_route ADMIN_ROUTES[] = {
#define R(NAME, method, path, scope, roles, body_max, summary) {#NAME, method, path, summary, scope, roles, body_max},
#include "admin/routes.def"
#undef R
};
const size_t ADMIN_ROUTES_COUNT = sizeof ADMIN_ROUTES / sizeof *ADMIN_ROUTES;

static void (*const handlers[])(struct http_exchange *x, void *arg) = {
#define R(NAME, method, path, scope, roles, body_max, summary) admin_##NAME,
#include "admin/routes.def"
#undef R
};

int routes_new(struct control *c, struct err *err) {
    c->routes = calloc(ADMIN_ROUTES_COUNT, sizeof *c->routes);
    if (!c->routes)
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (size_t i = 0; i < ADMIN_ROUTES_COUNT; i++)
        c->routes[i] = (struct http_route){.method = ADMIN_ROUTES[i].method, .path = ADMIN_ROUTES[i].path, .body_max = ADMIN_ROUTES[i].body_max,
                                           .media = ADMIN_ROUTES[i].body_max ? "application/json" : NULL, .handler = handlers[i], .data = &ADMIN_ROUTES[i]};
    c->router = http_router_new(c->routes, ADMIN_ROUTES_COUNT, err);
    return c->router ? 0 : err->code;
}
