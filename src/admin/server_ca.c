/* server_ca: server CAs over the API: who depends on which, rotating, retiring.  The vault first, then both logs, the registry, and the gateway's certificates; what a crash in
 * between leaves undone certificates.c does at the next start. */
#include "registry/server_ca.h"

#include "admin/server_cas.h"
#include "base/hex.h"
#include "registry/audit.h"
#include "registry/dependents.h"

/* --- looking ------------------------------------------------------------------------------------------------------------------------ */

static void listed(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct server_ca_list *l = op;
    json_t *page = rc ? NULL : json_object();
    if (page) {
        json_set(page, "items", TAKE(l->out));
        json_set(page, "next", json_null());
    }
    reply_done(x, rc, err, page);
}

void admin_SERVER_CA_LIST(struct http_exchange *x, void *arg) {
    const struct server_ca_list l = {NULL};
    struct page page;
    if (page_of(x, &page)) /* there are few: one page has them all */
        job_start(x, JOB_READ, server_ca_list_run, &l, sizeof l, listed);
}

static json_t *with_backend(const struct control *c, const struct server_ca_show *s, json_t *o) {
    if (s->state == SERVER_CA_CURRENT)
        json_set_str(o, "backend", c->server_cas->backend == VAULT_BACKEND_PKCS11 ? "pkcs11" : "sealed");
    else
        json_set(o, "backend", json_null());
    return o;
}

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) {
    struct server_ca_show *s = op;
    reply_done(x, rc, err, rc ? NULL : with_backend(http_exchange_arg(x), s, TAKE(s->out)));
}

void admin_SERVER_CA_SHOW(struct http_exchange *x, void *arg) {
    const struct server_ca_show s = {.id = param_of(x, "server_ca")};
    job_start(x, JOB_READ, server_ca_show_run, &s, sizeof s, shown);
}

void admin_SERVER_CA_EXPORT(struct http_exchange *x, void *arg) {
    struct control *c = http_exchange_arg(x);
    struct buf pem = BUF_INIT(64 * 1024);
    buf_add(&pem, buf_span(&c->server_ca));
    http_reply_buf(x, 200, "application/x-pem-file", &pem, false);
}

/* --- changing: one at a time ------------------------------------------------------------------------------------------------------------ */

struct server_change {
    struct control *c;
    struct http_exchange *x; /* held */
    bool retire, begun;
    enum vault_backend backend;
    int64_t confirm; /* devices that are cut off; -1: not said */
    struct actor actor;
    /* operations under way; a completion is given the member that it was started with */
    struct server_ca_show show;
    struct clock_look {
        struct control *c;
    } clock;
    struct server_ca_log {
        struct vault_version version;
        struct hash fingerprint;
        const char *backend;
        int64_t days, devices;
    } log;
};
#define CHANGE_OF(arg, member) ((struct server_change *)((char *)(arg) - offsetof(struct server_change, member)))

static void end(struct server_change *ch) {
    struct control *c = ch->c;
    json_decref(ch->show.out);
    http_exchange_unref(ch->x);
    c->server_change = NULL;
    free(ch);
    certificates_look(c->certificates);
}

static void fail(struct server_change *ch, const struct err *err) {
    http_reply_err(ch->x, err);
    end(ch);
}

static void shown_at_end(void *arg, int rc, const struct err *err) {
    struct server_change *ch = CHANGE_OF(arg, show);
    reply_done(ch->x, rc, err, rc ? NULL : with_backend(ch->c, &ch->show, TAKE(ch->show.out)));
    end(ch);
}

static void registered(void *arg, int rc, const struct err *err) {
    struct server_change *ch = arg;
    struct err why = ERR_INIT;
    if (rc) {
        fail(ch, err);
        return;
    }
    json_decref(TAKE(ch->show.out));
    if (!ch->retire)
        ch->show = (struct server_ca_show){.spki = server_cas_current(ch->c)->key.spki, .by_spki = true};
    ch->show.days = 0;
    if (store_read(ch->c->registry, ch->c->loop, server_ca_show_run, shown_at_end, &ch->show, &why))
        fail(ch, &why);
}

/* The vault's version, and what was done: in one transaction of the server's log. */
static int log_run(struct store_tx *control, void *arg, struct err *err) {
    const struct server_ca_log *l = arg;
    char subject[2 * PKI_HASH_LEN + 1];
    int64_t known;
    int rc = meta_get(control, "vault", &known, err);
    if (!rc && known < (int64_t)l->version.version)
        rc = meta_set(control, "vault", (int64_t)l->version.version, err);
    if (rc)
        return rc;
    json_t *detail = json_object();
    json_set_int(detail, "vault_version", (int64_t)l->version.version);
    if (l->backend)
        json_set_str(detail, "backend", l->backend);
    if (l->days) {
        json_set_int(detail, "days", l->days);
        json_set_int(detail, "devices", l->devices);
    }
    hex_encode(hash_span(&l->fingerprint), subject);
    return audit_add(control, AUDIT_SERVER, &l->version.actor, l->version.what, span_str(subject), detail, err);
}

static void logged(void *arg, int rc, const struct err *err) {
    struct server_change *ch = CHANGE_OF(arg, log);
    if (rc)
        fail(ch, err);
    else
        server_cas_register(ch->c, registered, ch);
}

static void vault_changed(void *arg, int rc, const struct err *err, const struct vault_server_view *view) {
    struct server_change *ch = arg;
    struct err why = ERR_INIT;
    struct cert *gone = NULL;
    if (!rc && ch->retire)
        for (size_t i = 0; i < ch->c->server_cas->n; i++)
            if (hash_eq(&ch->c->server_cas->at[i]->key.spki, &ch->show.spki))
                gone = ch->c->server_cas->at[i];
    if (gone)
        ch->log.fingerprint = gone->fingerprint;
    if (!rc && (rc = server_cas_take(ch->c, view, &why)) < 0)
        err = &why;
    if (rc < 0) {
        fail(ch, err);
        return;
    }
    if (rc > 0)
        control_certificates_changed(ch->c);
    if (!ch->retire) {
        ch->log.fingerprint = server_cas_current(ch->c)->fingerprint;
        ch->log.backend = view->backend == VAULT_BACKEND_PKCS11 ? "pkcs11" : "sealed";
    }
    ch->log.version = (struct vault_version){.actor = ch->actor, .version = view->version};
    snprintf(ch->log.version.what, sizeof ch->log.version.what, "%s", ch->retire ? "server_ca.retire" : "server_ca.rotate");
    if (store_write(ch->c->store, ch->c->loop, log_run, logged, &ch->log, &why))
        fail(ch, &why);
}

static int clock_run(struct store_tx *tx, void *arg, struct err *err) { return clock_check(tx, clock_now(), err); }

static void clock_known(void *arg, int rc, const struct err *err) {
    struct server_change *ch = CHANGE_OF(arg, clock);
    struct err why = ERR_INIT;
    if (rc) {
        fail(ch, err);
        return;
    }
    const struct vault_server_rotate rq = {.from = server_cas_current(ch->c)->key.spki, .backend = ch->backend};
    if (vault_server_rotate(ch->c->vault, &rq, vault_changed, ch, &why))
        fail(ch, &why);
}

/* A device that has nothing newer would refuse the gateway from the moment on.  Who can fetch it is waited for; who cannot, or sleeps, is given up by number alone. */
static int may_retire(struct server_change *ch, struct err *err) {
    const struct server_ca_show *s = &ch->show;
    CLEANUP(buf_fini) struct buf names = BUF_INIT(2048);
    if (s->state == SERVER_CA_RETIRED)
        return err_set(err, MUSTER_ESTATE, "The server CA has been retired already.");
    if (s->state == SERVER_CA_CURRENT)
        return err_set(err, MUSTER_ESTATE, "This server CA is the current one; `muster server-ca rotate` makes the next one.");
    if (!server_cas_all_current(ch->c))
        return err_set(err, MUSTER_ESTATE, "The gateway still has a certificate under a former server CA; it is renewed in a moment, or the log says why not (server_certificate_failed).");
    if (s->not_after <= clock_now()) /* nobody depends on one that has ended */
        return 0;
    ch->log.devices = s->learn ? s->learn : s->asleep + s->stuck + s->held;
    dependents_name(&names, json_object_get(s->out, "newest"), ch->log.devices);
    if (s->learn)
        return err_set(err, MUSTER_ESERVERCAINUSE, "%lld device%s seen in the last %lld days, which can fetch a newer server CA, %s not known to have it: %s.", (long long)s->learn,
                       s->learn == 1 ? "" : "s", (long long)s->days, s->learn == 1 ? "is" : "are", buf_str(&names));
    if (!ch->log.devices || ch->confirm == ch->log.devices)
        return 0;
    return err_set(err, MUSTER_ECONFIRM, "To retire the server CA cuts off %lld device%s for good, which then refuse%s the gateway: %lld that cannot renew, %lld not seen in the last %lld days, and %lld held apart (quarantined, or waiting for an operator): %s.",
                   (long long)ch->log.devices, ch->log.devices == 1 ? "" : "s", ch->log.devices == 1 ? "s" : "", (long long)s->stuck, (long long)s->asleep, (long long)s->days, (long long)s->held, buf_str(&names));
}

static void dependents_known(void *arg, int rc, const struct err *err) {
    struct server_change *ch = CHANGE_OF(arg, show);
    struct err why = ERR_INIT;
    if (rc) {
        fail(ch, err);
        return;
    }
    if ((rc = may_retire(ch, &why)) == MUSTER_ESERVERCAINUSE || rc == MUSTER_ECONFIRM) {
        reply_confirm(ch->x, &why, ch->log.devices);
        end(ch);
    } else if (rc || vault_server_retire(ch->c->vault, &ch->show.spki, vault_changed, ch, &why)) {
        fail(ch, &why);
    }
}

void server_ca_go_on(struct control *c) {
    struct server_change *ch = c->server_change;
    struct err err = ERR_INIT;
    if (!ch || ch->begun || certificates_looking(c->certificates))
        return;
    ch->begun = true;
    int rc = server_cas_current(c) ? 0 : err_retry(&err, MUSTER_EVAULT, 5, "The vault has not said yet which server CAs there are.");
    if (!rc)
        rc = ch->retire ? store_read(c->registry, c->loop, server_ca_show_run, dependents_known, &ch->show, &err) : store_read(c->registry, c->loop, clock_run, clock_known, &ch->clock, &err);
    if (rc)
        fail(ch, &err);
}

static struct server_change *change_new(struct http_exchange *x) {
    struct control *c = http_exchange_arg(x);
    struct server_change *ch = c->server_change ? NULL : calloc(1, sizeof *ch);
    if (!ch) {
        struct err err = ERR_INIT;
        err_retry(&err, c->server_change ? MUSTER_EBUSY : MUSTER_ENOMEM, 1, c->server_change ? "A server CA is being rotated or retired already." : NULL);
        http_reply_err(x, &err);
        return NULL;
    }
    *ch = (struct server_change){.c = c, .x = x, .actor = grant_of(x)->actor};
    http_exchange_ref(x);
    return c->server_change = ch;
}

void admin_SERVER_CA_ROTATE(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct err err = ERR_INIT;
    const char *backend = NULL;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s?s}", "backend", &backend);
    const int word = backend ? word_parse(&WORDS_BACKEND, backend) : 0;
    if (!rc && backend && !word)
        rc = err_set(&err, MUSTER_EINVALID, "backend is sealed or pkcs11.");
    if (rc) {
        http_reply_err(x, &err);
        return;
    }
    struct server_change *ch = change_new(x);
    if (!ch)
        return;
    ch->backend = !word ? VAULT_BACKEND_AS_IS : word == BACKEND_PKCS11 ? VAULT_BACKEND_PKCS11 : VAULT_BACKEND_SEALED;
    server_ca_go_on(ch->c);
}

void admin_SERVER_CA_RETIRE(struct http_exchange *x, void *arg) {
    CLEANUP_JSON json_t *body = body_object(x);
    struct err err = ERR_INIT;
    json_int_t days = SERVER_CA_RETIRE_DAYS, confirm = -1;
    if (!body)
        return;
    int rc = json_take(body, &err, "{s?I, s?I}", "days", &days, "confirm", &confirm);
    if (!rc && (days < 1 || days > 36500))
        rc = err_set(&err, MUSTER_EINVALID, "days is between 1 and 36500.");
    if (rc) {
        http_reply_err(x, &err);
        return;
    }
    struct server_change *ch = change_new(x);
    if (!ch)
        return;
    ch->retire = true;
    ch->show = (struct server_ca_show){.id = param_of(x, "server_ca"), .days = days};
    ch->confirm = confirm;
    ch->log.days = days;
    server_ca_go_on(ch->c);
}
