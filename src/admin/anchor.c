/* anchor: the vault signs the heads of the audit chains, once a minute where they have grown and within a second or two of what an operator did,
 * and control.db keeps what it signed: what
 * happens to the registry's rows after that can be shown. */
#include "admin/internal.h"
#include "base/log.h"
#include "registry/audit_seal.h"

#define EVERY_MS 60000
#define LOOK_MS 1000

struct signing {
    struct control *c;
    int64_t chain;
    struct audit_signed head;
    struct audit_anchor anchor;
    anchor_fn done;
    void *arg;
};

static void finish(struct signing *s, int rc, const struct err *err) {
    anchor_fn done = s->done;
    void *arg = s->arg;
    const struct audit_signed head = s->head;
    free(s);
    done(arg, rc, err, &head);
}

static void kept(void *arg, int rc, const struct err *err) {
    struct signing *s = (struct signing *)((char *)arg - offsetof(struct signing, anchor));
    finish(s, rc == MUSTER_EEXISTS ? 0 : rc, err); /* signed a moment ago by the other way */
}

static void heads_signed(void *arg, int rc, const struct err *err, int64_t time, struct span signature) {
    struct signing *s = arg;
    struct err why = ERR_INIT;
    if (!rc && signature.n != sizeof s->head.signature) {
        rc = err_set(&why, MUSTER_EVAULT, NULL);
        err = &why;
    }
    if (rc) {
        finish(s, rc, err);
        return;
    }
    s->head.at = time;
    memcpy(s->head.signature, signature.p, signature.n);
    s->anchor = (struct audit_anchor){&s->head, 1};
    if ((rc = store_write(s->c->store, s->c->loop, audit_anchor_run, kept, &s->anchor, &why)))
        finish(s, rc, &why);
}

static int chain_head_run(struct store_tx *tx, void *arg, struct err *err) {
    struct signing *s = arg;
    return audit_head_get(tx, s->chain, &s->head.head, err);
}

static void chain_head_read(void *arg, int rc, const struct err *err) {
    struct signing *s = arg;
    struct err why = ERR_INIT;
    if (!rc && s->head.head.seq == 0)
        rc = err_set(&why, MUSTER_ENOTFOUND, "The audit log has no entry yet.");
    if (!rc) {
        const struct vault_head h = {.chain = span_str(s->head.chain), .seq = (uint64_t)s->head.head.seq, .hash = s->head.head.hash};
        rc = vault_heads_sign(s->c->vault, &h, 1, heads_signed, s, &why);
        if (!rc)
            return;
    }
    finish(s, rc, why.code ? &why : err);
}

void anchor_now(struct control *c, int64_t chain, const char *name, anchor_fn done, void *arg) {
    struct err err = ERR_INIT;
    struct signing *s = calloc(1, sizeof *s);
    if (!s) {
        err.code = MUSTER_ENOMEM;
        done(arg, err.code, &err, NULL);
        return;
    }
    *s = (struct signing){.c = c, .chain = chain, .done = done, .arg = arg};
    snprintf(s->head.chain, sizeof s->head.chain, "%s", name);
    int rc = store_read(chain == AUDIT_SERVER ? c->store : c->registry, c->loop, chain_head_run, chain_head_read, s, &err);
    if (rc)
        finish(s, rc, &err);
}

/* --- once a minute ------------------------------------------------------------------------------------------------------------------- */

struct anchoring {
    struct control *c;
    struct loop_timer *timer;
    struct audit_heads heads; /* one page */
    size_t at;
    struct {
        int64_t chain, seq;
    } *signed_before; /* what this process has had signed */
    size_t n_signed;
    bool any;         /* of this round */
    bool server_done;
    bool once_more;   /* what an operator did may have been committed behind the look */
    int64_t due;      /* monotonic, ms: of the look at everything */
};

static void rest(struct anchoring *a) { loop_timer_set(a->timer, LOOK_MS); }

static void next(struct anchoring *a);
static void read_page(struct anchoring *a);

static void one_done(void *arg, int rc, const struct err *err, const struct audit_signed *head) {
    struct anchoring *a = arg;
    if (rc && rc != MUSTER_ENOTFOUND) {
        log_err(LOG_WARN, "audit_head_not_signed", err, NULL);
        rest(a);
        return;
    }
    next(a);
}

/* Whether the head was signed already; notes that it is about to be. */
static bool is_signed(struct anchoring *a, int64_t chain, int64_t seq) {
    for (size_t k = 0; k < a->n_signed; k++)
        if (a->signed_before[k].chain == chain) {
            bool same = a->signed_before[k].seq == seq;
            a->signed_before[k].seq = seq;
            return same;
        }
    if ((a->n_signed & (a->n_signed - 1)) == 0) {
        void *more = realloc(a->signed_before, (a->n_signed ? a->n_signed * 2 : 1) * sizeof *a->signed_before);
        if (!more)
            return false;
        a->signed_before = more;
    }
    a->signed_before[a->n_signed].chain = chain;
    a->signed_before[a->n_signed++].seq = seq;
    return false;
}

/* The server's own chain comes last: it holds the anchors of the others, and grows by them only where one of them has grown. */
static void next(struct anchoring *a) {
    while (a->at < a->heads.n) {
        size_t i = a->at++;
        if (!is_signed(a, a->heads.at[i].chain, a->heads.at[i].head.seq)) {
            a->any = true;
            anchor_now(a->c, a->heads.at[i].chain, a->heads.at[i].name, one_done, a);
            return;
        }
    }
    if (a->heads.n == AUDIT_HEADS_PAGE) {
        a->heads.after = a->heads.next;
        read_page(a);
        return;
    }
    if (a->any || !a->server_done) {
        a->any = false;
        a->server_done = true;
        anchor_now(a->c, AUDIT_SERVER, "", one_done, a);
        return;
    }
    rest(a);
}

static void heads_read(void *arg, int rc, const struct err *err) {
    struct anchoring *a = (struct anchoring *)((char *)arg - offsetof(struct anchoring, heads));
    if (rc) {
        log_err(LOG_ERROR, "audit_heads_unreadable", err, NULL);
        rest(a);
        return;
    }
    a->at = 0;
    next(a);
}

static void read_page(struct anchoring *a) {
    if (store_read(a->c->registry, a->c->loop, audit_heads_run, heads_read, &a->heads, NULL))
        rest(a);
}

/* --- the clock --------------------------------------------------------------------------------------------------------------------- */

/* The gateway sees the registry alone: what the server's own log knows of the time goes there too. */
struct clock_compared {
    struct control *c;
    int64_t newest;
};

static int newest_run(struct store_tx *tx, void *arg, struct err *err) { return meta_get(tx, "newest", &((struct clock_compared *)arg)->newest, err); }

static int raise_run(struct store_tx *tx, void *arg, struct err *err) {
    struct clock_compared *l = arg;
    int rc = meta_raise(tx, "newest", l->newest, err);
    return rc ? rc : meta_get(tx, "newest", &l->newest, err); /* an account's log may have a later one */
}

static void raised(void *arg, int rc, const struct err *err) {
    struct clock_compared *l = arg;
    if (rc)
        log_err(LOG_ERROR, "clock_not_compared", err, NULL);
    else if (l->newest > clock_now() + CLOCK_TOLERANCE)
        log_event(LOG_ERROR, "clock_behind", "seconds", log_num(l->newest - clock_now()), "meaning", "nothing is issued; see `musterd clock accept`", NULL);
    free(l);
}

static void newest_read(void *arg, int rc, const struct err *err) {
    struct clock_compared *l = arg;
    struct err why = ERR_INIT;
    if (rc || (rc = store_write(l->c->registry, l->c->loop, raise_run, raised, l, &why)))
        raised(l, rc, why.code ? &why : err);
}

void clock_compare(struct control *c) {
    struct clock_compared *l = calloc(1, sizeof *l);
    if (!l)
        return;
    l->c = c;
    if (store_read(c->store, c->loop, newest_run, newest_read, l, NULL))
        free(l);
}

static void tick(void *arg) {
    struct anchoring *a = arg;
    bool news = audit_seal_news(), look = news || a->once_more || clock_mono_ms() >= a->due;
    a->once_more = news;
    if (!look) {
        rest(a);
        return;
    }
    if (clock_mono_ms() >= a->due) {
        a->due = clock_mono_ms() + EVERY_MS;
        clock_compare(a->c);
    }
    a->heads.after = -1;
    if (a->c->greeted)
        read_page(a);
    else
        rest(a);
}

struct anchoring *anchoring_new(struct control *c, struct err *err) {
    struct anchoring *a = calloc(1, sizeof *a);
    if (a)
        a->timer = loop_timer_new(c->loop, tick, a);
    if (!a || !a->timer) {
        free(a);
        err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    a->c = c;
    a->due = clock_mono_ms() + EVERY_MS;
    rest(a);
    return a;
}

void anchoring_free(struct anchoring *a) {
    if (!a)
        return;
    loop_timer_free(a->timer);
    free(a->signed_before);
    free(a);
}
