/* Keys in a token: requests wait for it while others are served, and come to the same end as with a key that is at hand.  The token is a thread here,
 * with the moods of tests/faults/moody.c. */
#include "rig.h"

#include <openssl/ecdsa.h>
#include <poll.h>
#include <pthread.h>

#include "keys/token_wire.h"
#include "loop/record.h"

#define KEYS 64

static struct {
    pthread_t thread;
    int fd;
    struct {
        uint8_t id[TOKEN_ID_LEN];
        EVP_PKEY *key;
    } at[KEYS];
    int n;
    int generated, signed_, destroyed, looked; /* how often */
} token;
static _Atomic enum { WELL, AWAY, LIES, SILENT, EMPTY, BABBLES } mood;
static _Atomic int slow_ms;
static _Atomic bool over;

static EVP_PKEY *key_of(const uint8_t id[TOKEN_ID_LEN]) {
    for (int i = 0; i < token.n; i++)
        if (token.at[i].key && memcmp(token.at[i].id, id, TOKEN_ID_LEN) == 0)
            return token.at[i].key;
    return NULL;
}

static void make(const struct token_request *rq, struct token_answer *a) {
    assert_true(token.n < KEYS);
    memcpy(token.at[token.n].id, rq->key, TOKEN_ID_LEN);
    assert_int_equal(key_generate(KEY_P256, 0, &token.at[token.n].key, NULL), 0);
    assert_true(key_p256_public(token.at[token.n++].key, a->point));
    token.generated++;
}

/* As CKM_ECDSA: r and s, 32 bytes each. */
static void sign(EVP_PKEY *key, const uint8_t digest[TOKEN_DIGEST_LEN], uint8_t out[TOKEN_SIGNATURE_LEN]) {
    uint8_t der[128];
    size_t n = sizeof der;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    assert_true(ctx && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, der, &n, digest, TOKEN_DIGEST_LEN) == 1);
    EVP_PKEY_CTX_free(ctx);
    const uint8_t *p = der;
    ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &p, (long)n);
    assert_true(BN_bn2binpad(ECDSA_SIG_get0_r(s), out, 32) == 32 && BN_bn2binpad(ECDSA_SIG_get0_s(s), out + 32, 32) == 32);
    ECDSA_SIG_free(s);
    token.signed_++;
}

static void answer(const struct token_request *rq, struct token_answer *a) {
    EVP_PKEY *key = mood == EMPTY ? NULL : key_of(rq->key);
    *a = (struct token_answer){.id = rq->id, .op = rq->op};
    if (mood == AWAY) {
        a->status = TOKEN_AWAY;
        snprintf(a->text, sizeof a->text, "it is out");
    } else if (rq->op == TOKEN_GENERATE) {
        make(rq, a);
    } else if (rq->op == TOKEN_DESTROY) {
        token.destroyed++;
    } else if (!key) {
        a->status = TOKEN_NO_KEY;
        snprintf(a->text, sizeof a->text, "no such key");
    } else if (rq->op == TOKEN_SIGN) {
        sign(key, rq->digest, a->signature);
        a->signature[7] ^= mood == LIES;
    }
    token.looked += rq->op == TOKEN_LOOK;
}

static void *token_main(void *arg) {
    while (!over) {
        struct pollfd p = {.fd = token.fd, .events = POLLIN};
        uint8_t room[TOKEN_MESSAGE_MAX];
        struct span message;
        struct token_request rq;
        struct token_answer a;
        CLEANUP(buf_fini) struct buf out = BUF_INIT(TOKEN_MESSAGE_MAX);
        if (mood == SILENT || poll(&p, 1, 20) <= 0) {
            usleep(1000);
            continue;
        }
        if (record_receive(token.fd, room, sizeof room, &message) != 1)
            break;
        assert_int_equal(token_request_read(message, &rq), 0);
        usleep((useconds_t)slow_ms * 1000);
        answer(&rq, &a);
        assert_int_equal(token_answer_write(&a, &out), 0);
        if (mood == BABBLES)
            out.p[4] ^= 0x40;
        if (record_send(token.fd, buf_span(&out)))
            break;
    }
    return NULL;
}

static const struct vault_account inside = {.name = {(const uint8_t *)"inside", 6}, .kind = VAULT_TEST, .method = VAULT_SHARED, .backend = VAULT_BACKEND_PKCS11};

static void begin_with_token(void) {
    int fds[2];
    assert_int_equal(vault_channel_pair(fds, NULL), 0);
    token.fd = fds[0];
    rig.token = fds[1];
    mood = WELL;
    slow_ms = 0;
    over = false;
    token.generated = token.signed_ = token.destroyed = token.looked = 0;
    begin();
    close(fds[1]);
    assert_int_equal(pthread_create(&token.thread, NULL, token_main, NULL), 0);
}

static void end_token(void) {
    over = true;
    pthread_join(token.thread, NULL);
    close(token.fd);
    for (int i = 0; i < token.n; i++)
        EVP_PKEY_free(token.at[i].key);
    token.n = 0;
}

static int issue_for(const char *account, const char *id) {
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_issue rq = {.account = span_str(account), .device_id = span_str(id), .public_key = a_key(&spki, KEY_P256, 0)};
    return issue(&rq);
}

static void certificates_are_signed_by_the_token(void **state) {
    begin_with_token();
    assert_int_equal(create(&inside), 0);
    assert_true(g.changed && g.view.backend == VAULT_BACKEND_PKCS11 && token.generated == 3);
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *issuing = cert_of(&g.der[1]);
    assert_int_equal(X509_verify(root->x, X509_get0_pubkey(root->x)), 1);
    assert_int_equal(X509_verify(issuing->x, X509_get0_pubkey(root->x)), 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(issue_for("inside", "device"), 0);
        CLEANUP(cert_free) struct cert *device = cert_of(&g.der[0]);
        assert_int_equal(X509_verify(device->x, X509_get0_pubkey(issuing->x)), 1);
    }
    assert_int_equal(token.signed_, 3 + 3);
    assert_int_equal(issue_for("fleet", "device"), 0);
    assert_int_equal(token.signed_, 6);
    /* What was there before a restart is there behind it, and is looked for. */
    assert_int_equal(stop(), 0);
    end_token();
}

static void a_rotation_goes_there_and_back(void **state) {
    begin_with_token();
    assert_int_equal(show("fleet"), 0);
    CLEANUP(cert_free) struct cert *first = cert_of(&g.der[0]);
    struct vault_account moved = shared_account;
    moved.backend = VAULT_BACKEND_PKCS11;
    assert_int_equal(create(&moved), 0);
    assert_int_equal(token.generated, 0); /* from now on, and not of what there is */
    assert_int_equal(issue_for("fleet", "device"), 0);
    assert_int_equal(token.signed_, 0);
    assert_int_equal(rotate("fleet", &first->key.spki), 0);
    assert_true(token.generated == 3 && token.signed_ == 4 && token.destroyed == 0); /* root, issuing CA, provisioning CA; and what the new root says of the old one */
    CLEANUP(cert_free) struct cert *second = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *issuing = cert_of(&g.der[1]);
    assert_int_equal(issue_for("fleet", "device"), 0);
    CLEANUP(cert_free) struct cert *device = cert_of(&g.der[0]);
    assert_int_equal(X509_verify(device->x, X509_get0_pubkey(issuing->x)), 1);
    moved.backend = VAULT_BACKEND_SEALED;
    assert_int_equal(create(&moved), 0);
    assert_int_equal(rotate("fleet", &second->key.spki), 0); /* the sealed keys are the same at each run */
    assert_true(token.generated == 3);
    CLEANUP(cert_free) struct cert *third = cert_of(&g.der[1]);
    assert_int_equal(issue_for("fleet", "device"), 0);
    CLEANUP(cert_free) struct cert *last = cert_of(&g.der[0]);
    assert_int_equal(X509_verify(last->x, X509_get0_pubkey(third->x)), 1);
    assert_int_equal(stop(), 0);
    end_token();
}

static int server_of(int asked) { return answer_of(&g, asked); }

static void rotate_server(enum vault_backend backend, struct cert **now) {
    got_init(&g);
    assert_int_equal(server_of(vault_server_ca(rig.control, on_server, &g, NULL)), 0);
    CLEANUP(cert_free) struct cert *from = cert_of(&g.der[0]);
    got_init(&g);
    const struct vault_server_rotate rq = {from->key.spki, backend};
    assert_int_equal(server_of(vault_server_rotate(rig.control, &rq, on_server, &g, NULL)), 0);
    assert_true(g.changed);
    *now = cert_of(&g.der[0]);
}

static int server_certificate(struct cert **out) {
    const struct span names[] = {SPAN_LIT("gw.example")};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_server_issue rq = {names, 1, a_key(&spki, KEY_P256, 0)};
    got_init(&g);
    int rc = answer_of(&g, vault_server_issue(rig.control, &rq, on_issue, &g, NULL));
    *out = rc ? NULL : cert_of(&g.der[0]);
    return rc;
}

static struct cert *time_signer(void) {
    got_init(&g);
    assert_int_equal(answer_of(&g, vault_time_sign(rig.gateway, SPAN_LIT("0123456789abcdef"), on_time_signed, &g, NULL)), 0);
    return cert_of(&g.der[1]);
}

static void server_cas_go_there_and_back(void **state) {
    begin_with_token();
    CLEANUP(cert_free) struct cert *sealed = NULL;
    CLEANUP(cert_free) struct cert *inside_it = NULL;
    rotate_server(VAULT_BACKEND_AS_IS, &sealed);
    assert_int_equal(token.generated, 0);
    rotate_server(VAULT_BACKEND_PKCS11, &inside_it);
    assert_true(token.generated == 1 && token.signed_ == 2 && g.view.backend == VAULT_BACKEND_PKCS11); /* itself, and the one before */
    CLEANUP(cert_free) struct cert *leaf = NULL;
    assert_int_equal(server_certificate(&leaf), 0);
    assert_int_equal(X509_verify(leaf->x, X509_get0_pubkey(inside_it->x)), 1);
    assert_int_equal(token.signed_, 3);
    mood = AWAY;
    CLEANUP(cert_free) struct cert *none = NULL;
    assert_int_equal(server_certificate(&none), MUSTER_ETOKEN);
    CLEANUP(cert_free) struct cert *old_time = time_signer(); /* under the oldest, which is sealed */
    mood = WELL;
    /* Those before are retired: what signs times now is certified by the token, without anybody waiting for it. */
    for (int i = 0; i < 2; i++) {
        got_init(&g);
        assert_int_equal(server_of(vault_server_ca(rig.control, on_server, &g, NULL)), 0);
        struct span former = buf_span(&g.der[3]);
        CLEANUP(cert_free) struct cert *oldest = NULL;
        assert_int_equal(cert_from_der_next(&former, &oldest, NULL), 0);
        got_init(&g);
        assert_int_equal(server_of(vault_server_retire(rig.control, &oldest->key.spki, on_server, &g, NULL)), 0);
    }
    CLEANUP(cert_free) struct cert *time = time_signer();
    assert_int_equal(X509_verify(time->x, X509_get0_pubkey(inside_it->x)), 1);
    CLEANUP(cert_free) struct cert *back = NULL;
    rotate_server(VAULT_BACKEND_SEALED, &back);
    assert_true(token.generated == 1 && g.view.backend == VAULT_BACKEND_SEALED);
    assert_int_equal(stop(), 0);
    end_token();
}

static void a_token_that_is_away_leaves_nothing(void **state) {
    begin_with_token();
    mood = AWAY;
    assert_int_equal(create(&inside), MUSTER_ETOKEN);
    assert_true(g.retry_after > 0 && strstr(g.text, "it is out"));
    assert_int_equal(show("inside"), MUSTER_ENOTFOUND);
    assert_int_equal(issue_for("fleet", "device"), 0);
    mood = WELL;
    assert_int_equal(create(&inside), 0);
    mood = AWAY;
    assert_int_equal(issue_for("inside", "device"), MUSTER_ETOKEN);
    mood = EMPTY;
    assert_int_equal(issue_for("inside", "device"), MUSTER_ETOKEN);
    assert_non_null(strstr(g.text, "does not have the account's key"));
    mood = LIES;
    assert_int_equal(issue_for("inside", "device"), MUSTER_ETOKEN);
    assert_non_null(strstr(g.text, "is not of the key"));
    mood = WELL;
    assert_int_equal(issue_for("inside", "device"), 0);
    assert_int_equal(stop(), 0);
    end_token();
}

/* Keys that were made for what failed are removed. */
static void a_request_that_fails_in_the_middle_destroys_what_it_made(void **state) {
    begin_with_token();
    mood = LIES; /* makes keys, and signs nothing that holds */
    assert_int_equal(create(&inside), MUSTER_ETOKEN);
    for (int i = 0; i < 100 && token.destroyed == 0; i++)
        usleep(10000);
    assert_true(token.generated == 1 && token.destroyed == 1);
    assert_int_equal(show("inside"), MUSTER_ENOTFOUND);
    assert_int_equal(stop(), 0);
    end_token();
}

static void a_ceiling_counts_a_request_that_waited_once(void **state) {
    begin_with_token();
    struct vault_account few = inside;
    few.policy = (struct vault_policy){.set = VAULT_SET_CEILING, .ceiling = 3};
    assert_int_equal(create(&few), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(issue_for("inside", "device"), 0);
    assert_int_equal(issue_for("inside", "device"), MUSTER_ECEILING);
    assert_int_equal(stop(), 0);
    end_token();
}

/* Others are served while one waits; its client does not take the vault for dead; and in the end it is told. */
static void what_waits_holds_nobody_up(void **state) {
    struct got waits = {0};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    begin_with_token();
    assert_int_equal(create(&inside), 0);
    mood = SILENT;
    usleep(50000);
    const struct vault_issue rq = {.account = SPAN_LIT("inside"), .device_id = SPAN_LIT("waits"), .public_key = a_key(&spki, KEY_P256, 0)};
    int64_t began = clock_mono_ms();
    got_init(&waits);
    assert_int_equal(vault_issue(rig.gateway, &rq, on_issue, &waits, NULL), 0);
    while (!waits.calls) {
        assert_int_equal(issue_for("fleet", "device"), 0);
        for (int i = 0; i < 40 && !waits.calls; i++)
            usleep(10000);
        if (clock_mono_ms() - began > 7500) /* its own answer is about to come */
            loop_run(rig.loop);
    }
    int64_t took = clock_mono_ms() - began;
    assert_int_equal(waits.rc, MUSTER_ETOKEN);
    assert_true(waits.retry_after > 0 && took >= 7000 && took < 10000);
    assert_int_equal(issue_for("inside", "at-once"), MUSTER_ETOKEN); /* nobody waits for it any more */
    assert_true(clock_mono_ms() - began - took < 1000);
    mood = WELL;
    usleep(200000);
    assert_int_equal(issue_for("inside", "device"), 0);
    got_init(&waits);
    assert_int_equal(stop(), 0);
    end_token();
}

/* Waiting alone, with nobody else asking: the client hears of it, and does not give up after three seconds. */
static void a_slow_token_is_waited_for(void **state) {
    begin_with_token();
    assert_int_equal(create(&inside), 0);
    slow_ms = 4500;
    assert_int_equal(issue_for("inside", "device"), 0);
    slow_ms = 0;
    assert_int_equal(stop(), 0);
    end_token();
}

static void an_account_that_changes_meanwhile_is_asked_for_anew(void **state) {
    struct got waits = {0};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    begin_with_token();
    assert_int_equal(create(&inside), 0);
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *before = cert_of(&g.der[1]);
    slow_ms = 150;
    const struct vault_issue rq = {.account = SPAN_LIT("inside"), .device_id = SPAN_LIT("waits"), .public_key = a_key(&spki, KEY_P256, 0)};
    got_init(&waits);
    assert_int_equal(vault_root_rotate(rig.control, &(struct vault_root_rotate){SPAN_LIT("inside"), root->key.spki}, on_account, &g, NULL), 0);
    g.calls = 0;
    usleep(100000);
    for (int i = 0; i < 8; i++) /* some of them wait while the issuing CA changes */
        assert_int_equal(vault_issue(rig.gateway, &rq, on_issue, &waits, NULL), 0);
    while (waits.calls < 8 || g.calls < 1)
        loop_run(rig.loop);
    assert_int_equal(waits.rc, 0);
    CLEANUP(cert_free) struct cert *device = cert_of(&waits.der[0]);
    slow_ms = 0;
    assert_int_equal(show("inside"), 0);
    CLEANUP(cert_free) struct cert *after = cert_of(&g.der[1]);
    assert_false(hash_eq(&before->fingerprint, &after->fingerprint));
    assert_int_equal(X509_verify(device->x, X509_get0_pubkey(hash_eq(&waits.issuer, &after->fingerprint) ? after->x : before->x)), 1);
    got_init(&waits);
    assert_int_equal(stop(), 0);
    end_token();
}

static void a_token_that_babbles_is_given_up(void **state) {
    begin_with_token();
    assert_int_equal(create(&inside), 0);
    mood = BABBLES;
    assert_int_equal(issue_for("inside", "device"), MUSTER_ETOKEN);
    assert_int_equal(issue_for("inside", "device"), MUSTER_ETOKEN);
    assert_int_equal(issue_for("fleet", "device"), 0);
    assert_logged("token_answer_malformed");
    /* its successor's channel comes by the supervisor, and its keys are looked for */
    int fds[2];
    over = true;
    pthread_join(token.thread, NULL);
    close(token.fd);
    mood = WELL;
    over = false;
    assert_int_equal(vault_channel_pair(fds, NULL), 0);
    token.fd = fds[0];
    token.looked = 0;
    assert_int_equal(vault_channel_send(rig.supervisor, VAULT_CHANNEL_TOKEN, fds[1], NULL), 0);
    close(fds[1]);
    assert_int_equal(pthread_create(&token.thread, NULL, token_main, NULL), 0);
    usleep(200000);
    assert_int_equal(issue_for("inside", "device"), 0);
    for (int i = 0; i < 200 && token.looked < 3; i++)
        usleep(10000);
    assert_int_equal(token.looked, 3);
    assert_logged("keys=3 missing=0");
    assert_int_equal(stop(), 0);
    end_token();
}

static void without_a_token_there_is_no_such_account(void **state) {
    rig.token = 0;
    begin();
    assert_int_equal(create(&inside), MUSTER_EINVALID);
    assert_int_equal(show("inside"), MUSTER_ENOTFOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(certificates_are_signed_by_the_token),
        T(a_rotation_goes_there_and_back),
        T(server_cas_go_there_and_back),
        T(a_token_that_is_away_leaves_nothing),
        T(a_request_that_fails_in_the_middle_destroys_what_it_made),
        T(a_ceiling_counts_a_request_that_waited_once),
        T(what_waits_holds_nobody_up),
        T(a_slow_token_is_waited_for),
        T(an_account_that_changes_meanwhile_is_asked_for_anew),
        T(a_token_that_babbles_is_given_up),
        T(without_a_token_there_is_no_such_account),
    };
    return run_vault_tests(tests, sizeof tests / sizeof tests[0]);
}
