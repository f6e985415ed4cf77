/* batch: certificates for many devices at once; see ca.h.
 *
 * The order is issue.c's, only that each step is done for all before the next begins: the serials are durable before anything is signed, the
 * certificates before the journal says that they were issued, and only then does a caller get one.  What is durable costs one line of the journal
 * for all of them instead of two for each, and what is reckoned is reckoned on all cores.
 *
 * Where the CA's key is away (signer.h) the batch ends: what was signed before is issued, and the rest of it is nobody's fault. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/file.h"
#include "base/hex.h"
#include "base/parallel.h"
#include "ca/issue_part.h"
#include "ca/signer.h"
#include "keyring/keyring.h"
#include "pki/leaf.h"

struct part {
    struct ca_item *item;
    struct hash key;
    struct make_request rq;
    char serial[JOURNAL_SERIAL_LEN + 1];
    struct hash fingerprint;
};
struct batch {
    struct ca *ca;
    struct ca_item *items;
    struct anchor_set *anchors;
    struct leaf_ca *leaf[PARALLEL_THREADS_MAX]; /* each thread's own; NULL: make_cert() it is */
    int issued;                                 /* the directory */
    int64_t made;                               /* devices before this batch, where a kit counts them */
    struct part part[CA_ITEMS_MAX];
    size_t n;
    atomic_bool away;     /* the key is: nothing more is signed */
    pthread_mutex_t lock; /* of why */
    struct err why;
};
static void batch_fini(struct batch *b) {
    for (size_t i = 0; i < PARALLEL_THREADS_MAX; i++)
        leaf_ca_free(b->leaf[i]);
    anchor_set_unref(b->anchors);
    fd_close(b->issued);
    pthread_mutex_destroy(&b->lock);
}
static void batch_free(struct batch *b) {
    batch_fini(b);
    free(b);
}
DEFINE_CLEANUP(batch_free, struct batch *)

/* --- who gets one ----------------------------------------------------------------------------------------------------------- */

static int read_key(const struct ca_order *o, struct hash *out, struct err *err) {
    struct key_facts facts;
    int rc = key_facts_from_public_der(o->public_key, &facts, err);
    if (rc || (rc = key_acceptable(&facts, err)))
        return rc;
    *out = facts.spki;
    return 0;
}

/* It was issued before, and did not get to where it should have: the same again. */
static int hand_out_again(const struct ca *ca, const json_t *record, struct ca_item *item) {
    int64_t not_after = 0;
    item->before = true;
    snprintf(item->issued.serial, sizeof item->issued.serial, "%s", json_string_value(json_object_get(record, "serial")));
    if (clock_parse_rfc3339(span_str(json_string_value(json_object_get(record, "not_after"))), &not_after))
        return err_set(&item->err, MUSTER_ECORRUPT, NULL);
    item->issued.not_after = not_after;
    return ca_chain(ca, item->issued.serial, &item->issued.chain, &item->err);
}

/* Whether the device, or its key, is among those that this batch has reserved for already. */
static int check_twice(const struct batch *b, const struct part *p, struct err *err) {
    for (size_t i = 0; i < b->n; i++) {
        if (span_eq(b->part[i].item->order.device_id, p->item->order.device_id))
            return err_set(err, MUSTER_EIDISSUED, "The device ID %.*s stands twice in the batch.", SPAN_FMT(p->item->order.device_id));
        if (hash_eq(&b->part[i].key, &p->key))
            return err_set(err, MUSTER_EKEYISSUED, "The key is the one of the device %.*s.", SPAN_FMT(b->part[i].item->order.device_id));
    }
    return 0;
}

/* The next part, where the item is to be signed for. */
static void consider(struct batch *b, struct ca_item *item) {
    struct part *p = &b->part[b->n];
    const struct ca_order *o = &item->order;
    struct err *err = &item->err;
    char id[4 * 64 + 1];
    *p = (struct part){.item = item, .rq = {.profile = PROFILE_DEVICE, .subject = ca_subject(b->ca->config), .device_id = o->device_id, .public_key = o->public_key}};
    if (ca_may_issue(b->ca, o->device_id, true, err) || read_key(o, &p->key, err))
        return;
    snprintf(id, sizeof id, "%.*s", SPAN_FMT(o->device_id));
    const json_t *record = journal_issued_key(&b->ca->journal, id, &p->key);
    if (record) {
        if (hand_out_again(b->ca, record, item) == 0)
            item->err = ERR_INIT;
        return;
    }
    if (ca_may_issue(b->ca, o->device_id, o->again, err) || ca_kit_allows(b->ca, o->device_id, b->made + (int64_t)b->n, err) || issue_check_key(b->ca, o->device_id, &p->key, err) || check_twice(b, p, err) ||
        issue_set_life(b->ca, ca_issuer(b->ca), o->life ? o->life : b->ca->device_life, &p->rq, &item->issued.clamped, err))
        return;
    journal_new_serial(&b->ca->journal, p->rq.serial, p->serial);
    b->n++;
}

static int reserve(struct batch *b, struct err *err) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(JOURNAL_BATCH_LINE_MAX);
    struct journal_reserve all[CA_ITEMS_MAX];
    for (size_t i = 0; i < b->n; i++) {
        all[i] = (struct journal_reserve){.kind = "device", .device_id = b->part[i].item->order.device_id, .key = b->part[i].key};
        memcpy(all[i].serial, b->part[i].serial, sizeof all[i].serial);
    }
    int rc = journal_line_reserve_batch(all, b->n, clock_now(), &line);
    return rc ? err_set(err, rc, NULL) : ca_append(b->ca, buf_span(&line), err);
}

/* --- signing, on any thread --------------------------------------------------------------------------------------------------- */

static int make(struct batch *b, unsigned thread, const struct make_request *rq, struct buf *der, struct err *err) {
    const struct ca *ca = b->ca;
    if (leaf_fits(rq) && !b->leaf[thread]) {
        int rc = leaf_ca_new(ca_issuer(ca), ca->key, &b->leaf[thread], err);
        if (rc)
            return rc;
    }
    return leaf_fits(rq) && b->leaf[thread] ? leaf_make(b->leaf[thread], rq, der, err) : make_cert(rq, ca_issuer(ca), ca->key, der, err);
}

/* Of several threads that fail at once one is told why, and that is told of all. */
static int key_is_away(struct batch *b, int rc) {
    struct err why = ERR_INIT;
    if (!keyring_fault(b->ca->key, &why) && !atomic_load(&b->away))
        return rc;
    pthread_mutex_lock(&b->lock);
    if (why.code && !b->why.code)
        b->why = why;
    atomic_store(&b->away, true);
    pthread_mutex_unlock(&b->lock);
    return rc;
}

static int sign_part(struct batch *b, unsigned thread, struct part *p, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(CERT_DER_MAX);
    CLEANUP(cert_free) struct cert *cert = NULL;
    char name[JOURNAL_SERIAL_LEN + sizeof ".pem"];
    struct ca_issued *issued = &p->item->issued;
    if (atomic_load(&b->away))
        return err_set(err, MUSTER_EKEYAWAY, NULL);
    int rc = make(b, thread, &p->rq, &der, err);
    if (rc)
        return key_is_away(b, rc);
    if ((rc = cert_from_der(buf_span(&der), &cert, err)) || (rc = issue_judge(b->ca, b->anchors, cert, p->item->order.device_id, err)))
        return rc;
    p->fingerprint = cert->fingerprint;
    issued->not_after = cert->not_after;
    memcpy(issued->serial, p->serial, sizeof issued->serial);
    if (cert_pem(cert, &issued->chain))
        return err_set(err, MUSTER_ENOMEM, NULL);
    snprintf(name, sizeof name, "%s.pem", p->serial);
    if ((rc = file_create_loose(b->issued, name, buf_span(&issued->chain), 0644, err)))
        return rc;
    return b->ca->intermediate && cert_pem(b->ca->intermediate, &issued->chain) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

static void sign_one(void *arg, unsigned thread, size_t i) {
    struct batch *b = arg;
    struct part *p = &b->part[i];
    int rc = sign_part(b, thread, p, &p->item->err);
    if (!rc)
        return;
    p->item->issued.serial[0] = '\0';
    if (!p->item->err.code) /* whatever has no reason is no certificate all the same */
        err_set(&p->item->err, rc, NULL);
}

/* --- and so it was issued -------------------------------------------------------------------------------------------------------- */

static int record(struct batch *b, struct err *err) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(JOURNAL_BATCH_LINE_MAX);
    struct journal_issue all[CA_ITEMS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        if (b->part[i].item->err.code)
            continue; /* the next ca_begin() closes its reservation */
        all[n] = (struct journal_issue){.fingerprint = b->part[i].fingerprint, .not_after = b->part[i].item->issued.not_after};
        memcpy(all[n++].serial, b->part[i].serial, sizeof all->serial);
    }
    if (!n)
        return 0;
    int rc = file_sync_dir(b->issued, "issued", err);
    if (rc)
        return rc;
    rc = journal_line_issue_batch(all, n, clock_now(), &line);
    return rc ? err_set(err, rc, NULL) : ca_append(b->ca, buf_span(&line), err);
}

static int issue_locked(struct batch *b, size_t n, unsigned threads, struct err *err) {
    int rc = issue_anchors(b->ca, &b->anchors, err);
    b->made = ca_made(b->ca);
    for (size_t i = 0; !rc && i < n; i++)
        consider(b, &b->items[i]);
    if (rc || !b->n || (rc = reserve(b, err)))
        return rc;
    parallel_run(threads, b->n, sign_one, b);
    if ((rc = record(b, err)) || !atomic_load(&b->away))
        return rc;
    *err = b->why;
    return err->code;
}

int ca_issue_many(struct ca *ca, struct ca_item *items, size_t n, unsigned threads, struct err *err) {
    CLEANUP(batch_free) struct batch *b = calloc(1, sizeof *b);
    if (!b)
        return err_set(err, MUSTER_ENOMEM, NULL);
    pthread_mutex_init(&b->lock, NULL);
    b->ca = ca;
    b->items = items;
    b->issued = openat(ca->fd, "issued", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (b->issued < 0)
        return err_set(err, MUSTER_EIO, "The fleet CA's directory of certificates cannot be opened.");
    if (n > CA_ITEMS_MAX || !ca->key || ca->key_is_root != !ca->intermediate)
        return err_set(err, MUSTER_EINTERNAL, NULL);
    int rc = ca_begin(ca, err);
    if (rc)
        return rc;
    rc = issue_locked(b, n, threads, err);
    ca_end(ca);
    return rc;
}
