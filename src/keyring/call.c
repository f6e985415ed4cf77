/* keyring/call: what keyring.c and keys ask of a token or a TPM, each question in bounded time (bounded.h).  A question, and all that it works on, is one piece of
 * memory, which is whoever's that comes back last. */
#include <stdlib.h>

#include "keyring/bounded.h"
#include "keyring/call.h"

struct question {
    void (*ask)(struct question *q);
    const struct keyring_part *part;
    struct keyring_uri uri;
    char label[URI_PATH_MAX];
    struct naming naming;
    EVP_PKEY *key;
    bool has;
    struct held *held;           /* of sign and free */
    uint8_t digest[KEY_ELSEWHERE_WIDTH_MAX], rs[2 * KEY_ELSEWHERE_WIDTH_MAX];
    size_t digest_n, width;
    int rc;
    struct err err;
};

/* --- one question ----------------------------------------------------------------------------------------------------------------------------------- */

static void work(void *job) {
    struct question *q = job;
    q->ask(q);
}

static void drop(void *job) {
    struct question *q = job;
    EVP_PKEY_free(q->key);
    OPENSSL_cleanse(q->digest, sizeof q->digest);
    free(q);
}

static struct question *question_new(void (*ask)(struct question *), const struct keyring_part *part, const struct keyring_uri *u) {
    struct question *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->ask = ask;
    q->part = part;
    if (u)
        q->uri = *u;
    return q;
}

/* NULL: it came to nothing, *rc and *err say why; else it is the caller's, whatever the answer was. */
static struct question *asked(struct question *q, int *rc, struct err *err) {
    if (!q) {
        *rc = err_set(err, MUSTER_ENOMEM, NULL);
        return NULL;
    }
    if ((*rc = bounded_run(work, drop, q, err)))
        return NULL;
    *rc = q->rc;
    if (q->rc && err)
        *err = q->err;
    return q;
}

/* --- places of keys --------------------------------------------------------------------------------------------------------------------------------- */

static int named(void *arg, const char *uri, struct err *err) {
    struct question *q = arg;
    if (!bounded_enter())
        return err_set(err, MUSTER_EKEYTIME, NULL);
    int rc = q->naming.named ? q->naming.named(q->naming.arg, uri, err) : 0;
    bounded_leave();
    return rc;
}

static void ask_make(struct question *q) { q->rc = q->part->make(&q->uri, q->label, &(struct naming){named, q}, &q->key, &q->err); }
static void ask_open(struct question *q) { q->rc = q->part->open(&q->uri, &q->key, &q->err); }
static void ask_has(struct question *q) { q->rc = q->part->has(&q->uri, &q->has, &q->err); }
static void ask_remove(struct question *q) { q->rc = q->part->remove(&q->uri, &q->err); }
static void ask_refused(struct question *q) { q->rc = q->part->refused(&q->uri, &q->err); }

static int take_key(struct question *q, int rc, EVP_PKEY **out) {
    if (q && !rc) {
        *out = q->key;
        q->key = NULL;
    }
    if (q)
        drop(q);
    return rc;
}

int call_make(const struct keyring_part *part, const struct keyring_uri *u, const char *label, const struct naming *naming, EVP_PKEY **out, struct err *err) {
    struct question *q = question_new(ask_make, part, u);
    int rc = 0;
    if (q) {
        snprintf(q->label, sizeof q->label, "%s", label);
        q->naming = *naming;
    }
    q = asked(q, &rc, err);
    return take_key(q, rc, out);
}

int call_open(const struct keyring_part *part, const struct keyring_uri *u, EVP_PKEY **out, struct err *err) {
    int rc = 0;
    struct question *q = asked(question_new(ask_open, part, u), &rc, err);
    return take_key(q, rc, out);
}

int call_has(const struct keyring_part *part, const struct keyring_uri *u, bool *has, struct err *err) {
    int rc = 0;
    struct question *q = asked(question_new(ask_has, part, u), &rc, err);
    *has = q && q->has;
    if (q)
        drop(q);
    return rc;
}

static int plain(void (*ask)(struct question *), const struct keyring_part *part, const struct keyring_uri *u, struct err *err) {
    int rc = 0;
    struct question *q = asked(question_new(ask, part, u), &rc, err);
    if (q)
        drop(q);
    return rc;
}

int call_remove(const struct keyring_part *part, const struct keyring_uri *u, struct err *err) { return plain(ask_remove, part, u, err); }
int call_refused(const struct keyring_part *part, const struct keyring_uri *u, struct err *err) { return plain(ask_refused, part, u, err); }

/* --- keys ------------------------------------------------------------------------------------------------------------------------------------------- */

struct held {
    const struct key_elsewhere_ops *ops;
    void *arg;
};

static void ask_sign(struct question *q) { q->rc = q->held->ops->sign(q->held->arg, span_of(q->digest, q->digest_n), q->rs, q->width, &q->err); }

static void ask_free(struct question *q) {
    q->held->ops->free(q->held->arg);
    free(q->held);
}

static int held_sign(void *arg, struct span digest, uint8_t *rs, size_t width, struct err *err) {
    struct question *q = question_new(ask_sign, NULL, NULL);
    int rc = 0;
    if (q && digest.n <= sizeof q->digest) {
        memcpy(q->digest, digest.p, digest.n);
        q->digest_n = digest.n;
        q->width = width;
        q->held = arg;
    }
    if (!(q = asked(q, &rc, err)))
        return rc;
    memcpy(rs, q->rs, 2 * width);
    drop(q);
    return rc;
}

/* While a call is out that may be about this key it is nobody's to free. */
static void held_free(void *arg) {
    struct question *q = keyring_hangs() ? NULL : question_new(ask_free, NULL, NULL);
    if (!q)
        return;
    q->held = arg;
    int rc = 0;
    if ((q = asked(q, &rc, NULL)))
        drop(q);
}

static const struct key_elsewhere_ops HELD = {.sign = held_sign, .free = held_free};

int part_key(const EVP_PKEY *public, const struct key_elsewhere_ops *ops, void *arg, EVP_PKEY **out, struct err *err) {
    struct held *h = malloc(sizeof *h);
    if (!h) {
        ops->free(arg);
        return err_set(err, MUSTER_ENOMEM, NULL);
    }
    *h = (struct held){ops, arg};
    return key_elsewhere_new(public, &HELD, h, out, err);
}
