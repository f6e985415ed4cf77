/* verifier: see verifier.h. */
#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "metrics/metrics.h"
#include "registry/trust.h"
#include "verifier/internal.h"

#define KNOWN_MAX 16384 /* verdicts, of about 700 bytes each */

struct verifier {
    struct store *store;
    struct known *known;
    const char *host; /* accounts have names under it */
    struct enrol_reserved reserved;
    pthread_mutex_t lock;
    struct snapshot *snapshot; /* under lock */
    _Atomic int64_t epoch;
    atomic_bool recovery;
    _Atomic uint64_t fresh; /* the word of trust before the registry was read last and its epoch was this one's; 0: never */
    /* of the polling loop */
    int64_t version, notified; /* notified: the epoch that changed() was called for last */
    bool loading;
    uint64_t before; /* the word of trust when loading began */
    loop_fn changed;
    void *changed_arg;
    struct snapshot_load load;
};

struct snapshot *verifier_snapshot(struct verifier *v) {
    pthread_mutex_lock(&v->lock);
    struct snapshot *s = v->snapshot;
    snapshot_ref(s);
    pthread_mutex_unlock(&v->lock);
    return s;
}

struct known *verifier_known(struct verifier *v) { return v->known; }
bool verifier_is_fresh(struct verifier *v) { return atomic_load(&v->fresh) == trust_word(); }
bool verifier_in_recovery(struct verifier *v) { return atomic_load(&v->recovery); }
int64_t verifier_epoch(struct verifier *v) { return atomic_load(&v->epoch); }
const struct enrol_reserved *verifier_reserved(const struct verifier *v) { return &v->reserved; }

/* Takes s over; an older one than is there is let go. */
static void publish(struct verifier *v, struct snapshot *s) {
    pthread_mutex_lock(&v->lock);
    struct snapshot *old = s;
    if (!v->snapshot || snapshot_epoch(s) > snapshot_epoch(v->snapshot)) {
        old = v->snapshot;
        v->snapshot = s;
        atomic_store(&v->recovery, snapshot_in_recovery(s));
        atomic_store(&v->epoch, snapshot_epoch(s));
    }
    pthread_mutex_unlock(&v->lock);
    snapshot_unref(old);
}

int verifier_new(const struct verifier_options *o, struct verifier **out, struct err *err) {
    struct verifier *v = calloc(1, sizeof *v);
    if (!v)
        return err_set(err, MUSTER_ENOMEM, NULL);
    v->known = known_new(KNOWN_MAX);
    if (!v->known) {
        free(v);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    pthread_mutex_init(&v->lock, NULL);
    v->store = o->store;
    v->host = o->hosts[0];
    v->reserved = (struct enrol_reserved){o->hosts, o->n_hosts};
    struct snapshot_load load = {0};
    int rc = store_version(v->store, &v->version, err);
    if (!rc)
        rc = store_read_now(v->store, snapshot_run, &load, err);
    if (rc) {
        known_free(v->known);
        free(v);
        return rc;
    }
    publish(v, load.out);
    v->notified = v->epoch;
    *out = v;
    return 0;
}

void verifier_free(struct verifier *v) {
    if (!v)
        return;
    snapshot_unref(v->snapshot);
    snapshot_unref(v->load.out);
    known_free(v->known);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

/* --- watching the registry ------------------------------------------------------------------------------------------------------ */

/* Loads nothing where the epoch is the one that is known: most commits are enrolments, which change no judgement. */
static int load_if_new(struct store_tx *tx, void *arg, struct err *err) {
    struct verifier *v = arg;
    int64_t epoch;
    int rc = meta_get(tx, "epoch", &epoch, err);
    if (rc || epoch == v->notified)
        return rc;
    return snapshot_run(tx, &v->load, err);
}

static void loaded(void *arg, int rc, const struct err *err) {
    struct verifier *v = arg;
    v->loading = false;
    if (rc) {
        log_err(LOG_ERROR, "snapshot_failed", err, NULL);
        v->version = -1; /* look again */
        return;
    }
    struct snapshot *s = TAKE(v->load.out);
    if (!s) {
        atomic_store(&v->fresh, v->before);
        return;
    }
    v->notified = snapshot_epoch(s);
    publish(v, s);
    atomic_store(&v->fresh, v->before);
    v->changed(v->changed_arg);
}

struct refresh {
    struct verifier *v;
    struct snapshot_load load;
    uint64_t before; /* the word of trust */
    verifier_fn done;
    void *arg;
};

static int refresh_run(struct store_tx *tx, void *arg, struct err *err) {
    struct refresh *r = arg;
    int64_t epoch;
    int rc = meta_get(tx, "epoch", &epoch, err);
    if (rc || epoch == atomic_load(&r->v->epoch))
        return rc;
    return snapshot_run(tx, &r->load, err);
}

static void refreshed(void *arg, int rc, const struct err *err) {
    struct refresh *r = arg;
    if (rc)
        log_err(LOG_ERROR, "snapshot_failed", err, NULL);
    else if (r->load.out)
        publish(r->v, TAKE(r->load.out));
    if (!rc)
        atomic_store(&r->v->fresh, r->before);
    r->done(r->arg, rc, err);
    free(r);
}

int verifier_refresh(struct verifier *v, struct loop *loop, verifier_fn done, void *arg, struct err *err) {
    struct refresh *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, MUSTER_ENOMEM, NULL);
    *r = (struct refresh){.v = v, .before = trust_word(), .done = done, .arg = arg};
    int rc = store_read(v->store, loop, refresh_run, refreshed, r, err);
    if (rc)
        free(r);
    return rc;
}

void verifier_poll(struct verifier *v, struct loop *loop, loop_fn changed, void *arg) {
    int64_t version;
    struct err err = ERR_INIT;
    if (v->loading)
        return;
    if (store_version(v->store, &version, &err)) {
        log_err(LOG_ERROR, "registry_unreadable", &err, NULL);
        return;
    }
    if (version == v->version)
        return;
    v->changed = changed;
    v->changed_arg = arg;
    int64_t before = v->version;
    v->version = version;
    v->loading = true;
    v->before = trust_word();
    if (store_read(v->store, loop, load_if_new, loaded, v, &err)) {
        v->loading = false;
        v->version = before;
    }
}

void verifier_account_of(struct verifier *v, struct span host, char out[ACCOUNT_NAME_MAX + 1]) { account_of_host(v->host, host, out); }

void account_of_host(const char *gateway_host, struct span host, char out[ACCOUNT_NAME_MAX + 1]) {
    struct span name = span_str(gateway_host);
    out[0] = '\0';
    if (host.n && host.p[host.n - 1] == '.') /* the root's dot names the same host */
        host.n--;
    if (host.n <= name.n + 1 || host.p[host.n - name.n - 1] != '.' || !span_eq_nocase(span_sub(host, host.n - name.n, name.n), name))
        return;
    struct span label = span_sub(host, 0, host.n - name.n - 1);
    size_t n = label.n < ACCOUNT_NAME_MAX ? label.n : ACCOUNT_NAME_MAX;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(label.p[i] >= 'A' && label.p[i] <= 'Z' ? label.p[i] + ('a' - 'A') : label.p[i]);
    out[n] = '\0';
    if (label.n > ACCOUNT_NAME_MAX) /* a longer one must not become somebody else's by being cut */
        out[0] = '-';
}

uint32_t verifier_account_keys(struct verifier *v, const char *name) {
    struct snapshot *s = verifier_snapshot(v);
    uint32_t keys = snapshot_account_keys(s, span_str(name));
    snapshot_unref(s);
    return keys;
}

bool verifier_is_fleet_key(struct verifier *v, const struct hash *spki) {
    struct snapshot *s = verifier_snapshot(v);
    const bool is = snapshot_is_fleet_key(s, spki);
    snapshot_unref(s);
    return is;
}

bool verifier_has_account(struct verifier *v, const char *name) { return verifier_account_keys(v, name) != 0; }

/* --- admission ---------------------------------------------------------------------------------------------------------------------- */

struct admission {
    struct admit admit; /* first: what the operation is given */
    struct verifier *verifier;
    struct loop *loop;
    struct identity *id; /* a reference */
    int64_t epoch;       /* before the registry was asked */
    uint64_t trust;      /* likewise */
    verifier_fn done;
    void *arg;
};

static void finish(struct admission *a, int rc, const struct err *err) {
    if (!rc) {
        if (a->admit.registered)
            metrics_count(METRIC_FIRST_CONTACTS, 0, 0);
        a->id->admit = a->admit;
        a->id->admitted_epoch = a->epoch;
        a->id->admitted_trust = a->trust;
        identity_keep(a->id);
    }
    a->done(a->arg, rc, err);
    identity_unref(a->id);
    free(a);
}

static void asked(void *arg, int rc, const struct err *err) {
    struct admission *a = arg;
    struct err why = ERR_INIT;
    if (!rc && a->admit.must_write && !(rc = store_write(a->verifier->store, a->loop, admit_run, asked, a, &why)))
        return;
    finish(a, rc, why.code ? &why : err);
}

int verifier_admit(struct verifier *v, struct loop *loop, struct identity *id, verifier_fn done, void *arg, struct err *err) {
    struct admission *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, MUSTER_ENOMEM, NULL);
    identity_ref(id);
    *a = (struct admission){.verifier = v, .loop = loop, .id = id, .epoch = id->judged_epoch, .trust = trust_word(), .done = done, .arg = arg};
    identity_admission(id, &v->reserved, &a->admit);
    int rc = store_read(v->store, loop, admit_run, asked, a, err);
    if (rc) {
        identity_unref(id);
        free(a);
    }
    return rc;
}
