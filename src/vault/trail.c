/* vault/trail: see trail.h. */
#include "vault/trail.h"

static struct trail *current;

void trail_init(struct trail *t, int64_t now) {
    t->now = now;
    t->counted = false;
    t->state = TRAIL_GOES_ON;
    t->why = ERR_INIT;
    t->strays = 0;
    t->n = t->at = 0;
}

static void item_fini(struct trail_item *i) {
    if (i->kind != TRAIL_SEALED)
        return;
    buf_fini(&i->ref);
    EVP_PKEY_free(i->key);
}

void trail_fini(struct trail *t) {
    for (size_t i = 0; i < t->n; i++)
        item_fini(&t->item[i]);
    t->n = t->at = 0;
}

void trail_enter(struct trail *t) {
    current = t;
    if (!t)
        return;
    if (t->state == TRAIL_STRAYED) { /* what is known of another account than the one of now is of no use */
        bool counted = t->counted;
        unsigned strays = t->strays;
        int64_t now = t->now;
        trail_fini(t);
        trail_init(t, now);
        t->counted = counted;
        t->strays = strays;
    }
    t->at = 0;
    if (t->state == TRAIL_WANTS)
        t->state = TRAIL_GOES_ON;
}

/* The next item, if it is of that kind; NULL at the end of what is known, or where it is another one. */
static struct trail_item *next(enum trail_kind kind) {
    if (!current || current->at == current->n)
        return NULL;
    if (current->item[current->at].kind != kind) {
        if (current->state == TRAIL_GOES_ON)
            current->state = TRAIL_STRAYED;
        return NULL;
    }
    return &current->item[current->at++];
}

/* Behind what is known; NULL: no trail, not at its end, or it is full. */
static struct trail_item *append(struct trail *t, enum trail_kind kind) {
    if (!t || t->at != t->n || t->n == TRAIL_MAX)
        return NULL;
    struct trail_item *i = &t->item[t->n++];
    t->at = t->n;
    i->kind = kind;
    return i;
}

void trail_serial(uint8_t out[MAKE_SERIAL_LEN]) {
    const struct trail_item *known = next(TRAIL_SERIAL);
    if (known) {
        memcpy(out, known->serial, MAKE_SERIAL_LEN);
        return;
    }
    make_serial(out);
    struct trail_item *i = append(current, TRAIL_SERIAL);
    if (i)
        memcpy(i->serial, out, MAKE_SERIAL_LEN);
}

void trail_name(uint8_t out[4]) {
    const struct trail_item *known = next(TRAIL_NAME);
    if (known) {
        memcpy(out, known->serial, 4);
        return;
    }
    secret_random_bytes(out, 4);
    struct trail_item *i = append(current, TRAIL_NAME);
    if (i)
        memcpy(i->serial, out, 4);
}

enum trail_state trail_state_now(void) { return current ? current->state : TRAIL_GOES_ON; }

bool *trail_counted(void) { return current ? &current->counted : NULL; }

bool trail_sealed(struct buf *ref, EVP_PKEY **key) {
    const struct trail_item *known = next(TRAIL_SEALED);
    if (!known || EVP_PKEY_up_ref(known->key) != 1)
        return false;
    buf_add(ref, buf_span(&known->ref));
    *key = known->key;
    return true;
}

int trail_keep_sealed(struct span ref, EVP_PKEY *key, struct err *err) {
    struct trail_item *i = append(current, TRAIL_SEALED);
    if (!i)
        return 0;
    i->ref = BUF_INIT(KEY_REF_MAX);
    buf_add(&i->ref, ref);
    i->key = EVP_PKEY_up_ref(key) == 1 ? key : NULL;
    return i->key ? buf_check(&i->ref, err) : err_set(err, MUSTER_ENOMEM, NULL);
}

/* --- the oracle ---------------------------------------------------------------------------------------------------------------------- */

/* At the end of what is known: the question is put, and the handler fails. */
static int ask(const struct token_request *rq) {
    if (!current)
        return MUSTER_ETOKEN;
    if (current->state != TRAIL_GOES_ON)
        return current->why.code ? current->why.code : MUSTER_ETOKEN;
    if (current->n == TRAIL_MAX) {
        current->state = TRAIL_FAILED;
        return err_set(&current->why, MUSTER_EINTERNAL, "The request asks too much of the security module.");
    }
    current->want = *rq;
    current->state = TRAIL_WANTS;
    return MUSTER_ETOKEN;
}

static int generate(void *arg, struct span label, uint8_t id[TOKEN_ID_LEN], uint8_t point[TOKEN_POINT_LEN]) {
    const struct trail_item *known = next(TRAIL_GENERATED);
    if (known) {
        memcpy(id, known->id, TOKEN_ID_LEN);
        memcpy(point, known->point, TOKEN_POINT_LEN);
        return 0;
    }
    struct token_request rq = {.op = TOKEN_GENERATE};
    secret_random_bytes(rq.key, sizeof rq.key);
    snprintf(rq.label, sizeof rq.label, "muster %.*s", SPAN_FMT(label));
    return ask(&rq);
}

static int sign(void *arg, const uint8_t id[TOKEN_ID_LEN], const uint8_t digest[TOKEN_DIGEST_LEN], uint8_t signature[TOKEN_SIGNATURE_LEN]) {
    const struct trail_item *known = next(TRAIL_SIGNED);
    if (known && memcmp(known->id, id, TOKEN_ID_LEN) == 0 && memcmp(known->digest, digest, TOKEN_DIGEST_LEN) == 0) {
        memcpy(signature, known->signature, TOKEN_SIGNATURE_LEN);
        return 0;
    }
    if (known) {
        current->state = TRAIL_STRAYED;
        return MUSTER_ETOKEN;
    }
    struct token_request rq = {.op = TOKEN_SIGN};
    memcpy(rq.key, id, sizeof rq.key);
    memcpy(rq.digest, digest, sizeof rq.digest);
    return ask(&rq);
}

/* Once is enough: a token that signs with another key than it says is no token to go on with. */
static void bad(void *arg) {
    if (!current)
        return;
    current->state = TRAIL_FAILED;
    err_set(&current->why, MUSTER_ETOKEN, "The security module's signature is not of the key that it was asked for.");
}

const struct key_oracle *trail_oracle(void) {
    static const struct key_oracle oracle = {generate, sign, bad, NULL};
    return &oracle;
}

/* --- answers ------------------------------------------------------------------------------------------------------------------------- */

void trail_refuse(struct trail *t, const struct err *why) {
    t->state = TRAIL_FAILED;
    t->why = *why;
}

void trail_answer(struct trail *t, const struct token_answer *a) {
    const struct token_request *want = &t->want;
    t->at = t->n;
    struct trail_item *i = append(t, want->op == TOKEN_GENERATE ? TRAIL_GENERATED : TRAIL_SIGNED);
    if (!i)
        return;
    memcpy(i->id, want->key, sizeof i->id);
    memcpy(i->point, a->point, sizeof i->point);
    memcpy(i->digest, want->digest, sizeof i->digest);
    memcpy(i->signature, a->signature, sizeof i->signature);
}

size_t trail_generated(const struct trail *t, uint8_t ids[TRAIL_MAX][TOKEN_ID_LEN]) {
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        if (t->item[i].kind == TRAIL_GENERATED)
            memcpy(ids[n++], t->item[i].id, TOKEN_ID_LEN);
    return n;
}
