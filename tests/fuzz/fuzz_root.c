/* The JSON bodies about fleet roots, through control's own handlers: the upload with its certificate, the proof, rules
 * and states; and the query of their list. */
#include "exchange.h"
#include "fuzz.h"
#include "http/uri.h"
#include "registry/root.h"

#include "admin/job.c"
#include "admin/roots.c"

static struct grant grant = {.account = "acme"};
const struct grant *grant_of(const struct http_exchange *x) { return &grant; }
struct span http_param(const struct http_exchange *x, const char *name) { return SPAN_LIT("01890a5d-ac96-774b-bcce-b302099a8057"); }
/* Lists take the input as their query. */
bool http_query_param(const struct http_exchange *x, const char *name, struct span *value) { return uri_query_find(x->body, name, value); }

size_t server_ca_keys(struct control *c, struct hash *out, size_t max) { return 0; }

/* What the operations of the registry would give. */
int root_list_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_list *l = arg;
    MUST(l->page.limit >= 1 && l->page.limit <= PAGE_MAX && l->page.after >= 0);
    l->page.out = json_object();
    return 0;
}
int root_show_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_show *s = arg;
    if (s->pem)
        buf_adds(s->pem, "PEM");
    s->out = json_object();
    return 0;
}
int root_upload_run(struct store_tx *tx, void *arg, struct err *err) {
    ((struct root_upload *)arg)->out = json_object();
    return 0;
}
int root_prove_run(struct store_tx *tx, void *arg, struct err *err) {
    struct root_prove *p = arg;
    MUST(p->proof && p->n_proof >= 1 && p->proof[p->n_proof - 1]);
    p->out = json_object();
    return 0;
}
int root_set_run(struct store_tx *tx, void *arg, struct err *err) {
    ((struct root_set *)arg)->out = json_object();
    return 0;
}
int root_retire_look_run(struct store_tx *tx, void *arg, struct err *err) {
    ((struct root_retire *)arg)->looked = true;
    return 0;
}
int root_retire_run(struct store_tx *tx, void *arg, struct err *err) {
    MUST(((struct root_retire *)arg)->looked);
    ((struct root_retire *)arg)->out = json_object();
    return 0;
}

static void check_upload(const struct root_upload *u) {
    MUST(u->cert && u->id_rule >= ID_RULE_CN && u->id_rule <= ID_RULE_FINGERPRINT && u->key_rule >= KEY_RULE_REFUSE && u->key_rule <= KEY_RULE_ANNOUNCED);
}

static void check_proof(struct proof *p) {
    MUST(p->op.n_proof >= 1 && p->op.n_proof <= 8);
    for (size_t i = 0; i < 8; i++)
        MUST((p->certs[i] != NULL) == (i < p->op.n_proof));
}

static void check_set(const struct root_set *s) {
    MUST(s->state == 0 || s->state == ROOT_ACTIVE || s->state == ROOT_KNOWN_ONLY);
    MUST((int)s->id_rule == -1 || s->id_rule <= ID_RULE_FINGERPRINT);
    MUST(s->key_rule == 0 || s->change == ROOT_SET);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static void (*const handlers[])(struct http_exchange *, void *) = {admin_ROOT_UPLOAD,  admin_ROOT_PROVE,  admin_ROOT_SET,  admin_ROOT_DISABLE, admin_ROOT_ENABLE,
                                                                       admin_ROOT_REVOKE, admin_ROOT_LIST, admin_ROOT_SHOW, admin_ROOT_EXPORT, admin_ROOT_RETIRE};
    static const int codes[] = {0, MUSTER_ECONFIRM, MUSTER_ESTATE};
    for (size_t i = 0; i < sizeof handlers / sizeof *handlers; i++) {
        struct http_exchange x = {.body = span_of(data, n)};
        struct control control = {.registry = (struct store *)&x, .store = NULL};
        x.arg = &control;
        handlers[i](&x, &control);
        if (x.job.run == root_upload_run)
            check_upload(x.job.arg);
        else if (x.job.run == proof_run)
            check_proof(x.job.arg);
        else if (x.job.run == root_set_run)
            check_set(x.job.arg);
        else if (x.job.run == root_retire_look_run)
            MUST(((struct root_retire *)x.job.arg)->days >= 1 && ((struct root_retire *)x.job.arg)->days <= 36500);
        exchange_settle(&x, codes[(n + i) % 3]);
    }
    return 0;
}
