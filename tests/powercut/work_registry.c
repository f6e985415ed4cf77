/* work_registry: what is done to the registry; see work.h. */
#include "registry/account.h"
#include "registry/admit.h"
#include "registry/enrol.h"
#include "work_part.h"

#define THREADS 4

const struct actor WORK_ACTOR = {"token:test"};

/* --- notes ----------------------------------------------------------------------------------------------------------------------- */

void work_note(struct work *w, struct note n) {
    pthread_mutex_lock(&w->lock);
    pthread_mutex_lock(&w->log.lock);
    n.at = w->log.n;
    pthread_mutex_unlock(&w->log.lock);
    if (w->n_notes == WORK_NOTES_MAX)
        abort();
    w->notes[w->n_notes++] = n;
    pthread_mutex_unlock(&w->lock);
}

struct note work_note_of(enum note_kind kind, enum note_place place, const char *text, int64_t number) {
    struct note n = {.kind = kind, .place = place, .number = number};
    snprintf(n.text, sizeof n.text, "%s", text);
    return n;
}

static struct span serial_of(const struct cert *c) {
    const ASN1_INTEGER *serial = X509_get0_serialNumber(c->x);
    return span_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
}

static struct note note_of_cert(enum note_kind kind, const char *id, int64_t number, const struct cert *c) {
    struct note n = work_note_of(kind, PLACE_REGISTRY, id, number);
    struct span serial = serial_of(c);
    memcpy(n.serial, serial.p, serial.n);
    n.serial_n = serial.n;
    return n;
}

static int head_run(struct store_tx *tx, void *arg, struct err *err) {
    struct account a;
    int rc = account_need(tx, SPAN_LIT(WORK_ACCOUNT), &a, err);
    return rc ? rc : audit_head_get(tx, a.row, arg, err);
}

/* What a reader sees has been committed, and what has been committed is durable. */
struct audit_head work_head(struct job *j) {
    struct note n = work_note_of(NOTE_HEAD, PLACE_REGISTRY, "", 0);
    struct err err = ERR_INIT;
    if (store_read_now(j->registry, head_run, &n.head, &err))
        abort();
    work_note(j->w, n);
    return n.head;
}

/* --- the registry ---------------------------------------------------------------------------------------------------------------- */

void work_account(struct job *j) {
    CLEANUP(buf_fini) struct buf root = BUF_INIT(16384), issuing = BUF_INIT(16384), provisioning = BUF_INIT(16384);
    struct account_create c = {.actor = WORK_ACTOR, .name = SPAN_LIT(WORK_ACCOUNT), .kind = ACCOUNT_TEST, .method = METHOD_SHARED};
    j->root = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT});
    j->issuing = make_it((struct recipe){.cn = "Issuing CA", .ext = CA_EXT, .issuer = &j->root});
    j->provisioning = make_it((struct recipe){.cn = "Provisioning CA", .ext = CA_EXT});
    MUST(cert_der(j->root.cert, &root) || cert_der(j->issuing.cert, &issuing) || cert_der(j->provisioning.cert, &provisioning));
    account_settings_default(&c.settings);
    c.cas = (struct account_cas){buf_span(&root), buf_span(&issuing), buf_span(&provisioning)};
    MUST(store_write_now(j->registry, account_create_run, &c, &e));
    json_decref(c.out);
    work_head(j);
}

void work_key(struct job *j, const char *name, int64_t max_devices) {
    size_t at = j->w->n_keys++;
    j->keys[at] = make_it((struct recipe){.cn = name, .ext = EXT("extendedKeyUsage", "clientAuth"), .issuer = &j->provisioning});
    struct key_create c = {.actor = WORK_ACTOR, .account = SPAN_LIT(WORK_ACCOUNT), .id = uuid_new(), .cert = j->keys[at].cert};
    c.bounds = (struct key_bounds){.expires = clock_now() + CLOCK_HOUR, .max_devices = max_devices};
    snprintf(c.bounds.name, sizeof c.bounds.name, "%s", name);
    MUST(store_write_now(j->registry, key_create_run, &c, &e));
    j->w->keys[at] = c.id;
    work_note(j->w, work_note_of(NOTE_KEY, PLACE_REGISTRY, name, (int64_t)at));
    json_decref(c.out);
}

struct enrolment work_prepare(struct job *j, int64_t key, const char *id) {
    struct enrolment n = {.j = j, .key = key};
    if (id)
        snprintf(n.id, sizeof n.id, "%s", id);
    else
        snprintf(n.id, sizeof n.id, "device-%d", ++j->devices);
    n.device = make_it((struct recipe){.cn = n.id, .ext = EXT("extendedKeyUsage", "clientAuth"), .issuer = &j->issuing});
    return n;
}

/* The certificate is there, and whether it is answered is up to the transaction. */
void work_enrol(struct enrolment *n) {
    struct job *j = n->j;
    CLEANUP(buf_fini) struct buf der = BUF_INIT(16384);
    struct err err = ERR_INIT;
    struct enrol q = {.key_spki = j->keys[n->key].cert->key.spki, .device_id = span_str(n->id), .address = "192.0.2.7", .account = "", .uuid = uuid_new()};
    const struct cert *c = n->device.cert;
    if (cert_der(c, &der))
        abort();
    const struct made_cert issued = {.der = buf_span(&der), .serial = serial_of(c), .fingerprint = c->fingerprint, .spki = c->key.spki, .not_before = c->not_before, .not_after = c->not_after};
    q.cert = &issued;
    if (store_write_now(j->registry, enrol_run, &q, &err)) {
        fprintf(stderr, "enrol %s: %s\n", n->id, err_text(&err));
        abort();
    }
    struct note made = note_of_cert(NOTE_CERT, n->id, n->key, n->device.cert);
    made.spent = q.verdict.how == ENROL_NEW;
    if (q.verdict.how == ENROL_NEW || q.verdict.how == ENROL_AGAIN)
        work_note(j->w, made);
    else
        j->w->refused[j->w->n_refused++] = made;
}

void work_use(struct job *j, const struct enrolment *n) {
    struct admit a = {.class = ADMIT_DEVICE_OWN, .leaf = n->device.cert, .anchors = {j->root.cert->fingerprint}, .n_anchors = 1, .account = "", .address = "192.0.2.7"};
    MUST(store_write_now(j->registry, admit_run, &a, &e) || a.verdict.code);
    work_note(j->w, note_of_cert(NOTE_USED, n->id, 0, n->device.cert));
}

void work_change(struct job *j, const char *id, enum device_change change, enum device_state to) {
    struct device_set s = {.actor = WORK_ACTOR, .account = SPAN_LIT(WORK_ACCOUNT), .device = span_str(id), .change = change, .reason = "a test"};
    MUST(store_write_now(j->registry, device_set_run, &s, &e));
    json_decref(s.out);
    work_note(j->w, work_note_of(NOTE_STATE, PLACE_REGISTRY, id, (int64_t)to));
}

void work_seen(struct job *j, const struct enrolment *n) {
    struct admit a = {.class = ADMIT_DEVICE_OWN, .leaf = n->device.cert, .anchors = {j->root.cert->fingerprint}, .n_anchors = 1, .account = "", .address = "192.0.2.7"};
    MUST(store_read_now(j->registry, admit_run, &a, &e));
    struct device_seen s = {.device = a.device_row, .address = "192.0.2.8"};
    MUST(store_write_now(j->registry, device_seen_run, &s, &e));
}

static void *enrol_thread(void *arg) {
    for (struct enrolment *n = arg; n->j; n++)
        work_enrol(n);
    return NULL;
}

void work_enrol_together(struct job *j, int64_t key, int each) {
    pthread_t threads[THREADS];
    struct enrolment *all[THREADS];
    for (int t = 0; t < THREADS; t++) {
        all[t] = calloc((size_t)each + 1, sizeof *all[t]);
        for (int i = 0; i < each; i++)
            all[t][i] = work_prepare(j, key, NULL);
    }
    work_note(j->w, work_note_of(NOTE_THREADS, PLACE_REGISTRY, "", 1));
    for (int t = 0; t < THREADS; t++)
        if (pthread_create(&threads[t], NULL, enrol_thread, all[t]))
            abort();
    for (int t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
        for (int i = 0; i < each; i++)
            made_free(&all[t][i].device);
        free(all[t]);
    }
    work_note(j->w, work_note_of(NOTE_THREADS, PLACE_REGISTRY, "", 0));
    work_head(j);
}
