/* What a vault's process makes: accounts and certificates, each request over a real channel. */
#include <poll.h>

#include "rig.h"

#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "pki/chain.h"
#include "pki/line_ca.h"

/* --- accounts --------------------------------------------------------------------------------------------------------------------------- */

static void accounts_are_made_changed_and_deleted(void **state) {
    start();
    assert_int_equal(hello(1), 0);
    assert_int_equal(g.version, 1);
    assert_int_equal(show("fleet"), MUSTER_ENOTFOUND);
    assert_int_equal(create(&shared_account), 0);
    assert_true(g.changed && g.version == 2 && g.view.kind == VAULT_TEST && g.view.method == VAULT_SHARED);
    assert_true(g.view.policy.ceiling == 20000 && g.view.policy.device_life == 20 * CLOCK_YEAR && !g.view.policy.rsa_allowed);
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *issuing = cert_of(&g.der[1]);
    CLEANUP(cert_free) struct cert *provisioning = cert_of(&g.der[2]);
    assert_true(root->self_signed && root->ca && issuing->ca && cert_signed_by(issuing, root));
    assert_true(provisioning->self_signed && provisioning->ca && !cert_signed_by(provisioning, root));
    assert_true(near(root->not_after, clock_now() + 40 * CLOCK_YEAR) && near(issuing->not_after, clock_now() + 35 * CLOCK_YEAR));
    assert_int_equal(create(&shared_account), 0); /* again: the same */
    assert_true(!g.changed && g.version == 2);
    CLEANUP(cert_free) struct cert *again = cert_of(&g.der[0]);
    assert_true(hash_eq(&root->fingerprint, &again->fingerprint));

    struct vault_account a = {.name = SPAN_LIT("fleet"), .policy = {.set = VAULT_SET_CEILING | VAULT_SET_RSA | VAULT_SET_KIND, .ceiling = 5, .rsa_allowed = true}, .kind = VAULT_PRODUCTION};
    assert_int_equal(change(&a), 0);
    assert_true(g.changed && g.version == 3 && g.view.policy.ceiling == 5 && g.view.policy.rsa_allowed && g.view.kind == VAULT_PRODUCTION && g.view.method == VAULT_SHARED);
    assert_int_equal(change(&a), 0);
    assert_true(!g.changed && g.version == 3);
    a.policy.ceiling = 0;
    assert_int_equal(change(&a), MUSTER_EINVALID);
    a.name = SPAN_LIT("other");
    assert_int_equal(change(&a), MUSTER_ENOTFOUND);
    assert_int_equal(show("fleet"), 0);
    assert_int_equal(g.view.policy.ceiling, 5);

    struct vault_account bad[] = {shared_account, shared_account, shared_account, shared_account};
    bad[0].name = SPAN_LIT("Fleet");
    bad[1].kind = 3;
    bad[2].method = 0;
    bad[3].policy = (struct vault_policy){.set = 0x80};
    for (size_t i = 0; i < 4; i++) {
        if (i)
            bad[i].name = SPAN_LIT("new");
        assert_int_equal(create(&bad[i]), MUSTER_EINVALID);
    }
    assert_int_equal(show("new"), MUSTER_ENOTFOUND);

    struct vault_account device = {.name = SPAN_LIT("devices"), .kind = VAULT_TEST, .method = VAULT_DEVICE};
    assert_int_equal(create(&device), 0);
    assert_true(g.changed && g.der[0].n == 0 && g.der[1].n == 0 && g.der[2].n == 0);
    assert_int_equal(renew("devices"), MUSTER_EMETHODOFF);
    device.method = VAULT_BOTH;
    device.policy.set = VAULT_SET_METHOD;
    assert_int_equal(change(&device), 0);
    assert_true(g.changed && g.der[0].n && g.view.method == VAULT_BOTH);
    uint64_t version = g.version;
    assert_int_equal(delete("devices"), 0);
    assert_true(g.changed && g.version == version + 1);
    assert_int_equal(delete("devices"), 0);
    assert_true(!g.changed && g.version == version + 1);
    assert_int_equal(delete("a name"), MUSTER_EINVALID);
    assert_int_equal(show("devices"), MUSTER_ENOTFOUND);
}

static void what_was_answered_survives_a_restart(void **state) {
    begin();
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    struct vault_account a = {.name = SPAN_LIT("fleet"), .policy = {.set = VAULT_SET_CEILING, .ceiling = 3}};
    const struct vault_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0};
    assert_int_equal(change(&a), 0);
    uint64_t version = g.version;
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    for (int i = 0; i < 3; i++)
        assert_int_equal(issue(&rq), 0);
    assert_int_equal(issue(&rq), MUSTER_ECEILING);
    assert_true(g.retry_after >= 1 && g.retry_after <= 3600);
    kill(rig.pid, SIGKILL); /* not even a chance to say goodbye */
    assert_int_equal(waitpid(rig.pid, NULL, 0), rig.pid);
    fd_close(rig.supervisor);
    fd_close(rig.raw);
    start();
    assert_int_equal(hello(version), 0);
    assert_int_equal(g.version, version);
    assert_int_equal(show("fleet"), 0);
    CLEANUP(cert_free) struct cert *again = cert_of(&g.der[0]);
    assert_true(hash_eq(&root->fingerprint, &again->fingerprint));
    assert_int_equal(issue(&rq), MUSTER_ECEILING);
    assert_int_equal(stop(), 0);
    rig.offset = CLOCK_HOUR; /* the next hour */
    start();
    assert_int_equal(hello(version), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(issue(&rq), 0);
    assert_int_equal(issue(&rq), MUSTER_ECEILING);
}

/* A restart counts what was reserved, which is no more than twice what was issued: no account is shut for what it never issued. */
static void a_lower_ceiling_after_a_restart_leaves_room(void **state) {
    begin();
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(issue(&rq), 0);
    kill(rig.pid, SIGKILL);
    assert_int_equal(waitpid(rig.pid, NULL, 0), rig.pid);
    fd_close(rig.supervisor);
    fd_close(rig.raw);
    start();
    assert_int_equal(hello(0), 0);
    struct vault_account a = {.name = SPAN_LIT("fleet"), .policy = {.set = VAULT_SET_CEILING, .ceiling = 7}};
    assert_int_equal(change(&a), 0);
    assert_int_equal(issue(&rq), 0);
    int more = 1;
    while (more < 8 && issue(&rq) == 0)
        more++;
    assert_true(more >= 1 && more <= 4); /* never above the ceiling */
    assert_int_equal(issue(&rq), MUSTER_ECEILING);
}

static void issuing_cas_are_renewed_in_time(void **state) {
    begin();
    CLEANUP(cert_free) struct cert *first = cert_of(&g.der[1]);
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    assert_int_equal(renew("fleet"), 0);
    assert_true(!g.changed);
    assert_int_equal(renew("absent"), MUSTER_ENOTFOUND);
    assert_int_equal(stop(), 0);
    rig.offset = 16 * CLOCK_YEAR; /* 19 years are left, a leaf may live 20 */
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(renew("fleet"), 0);
    assert_true(g.changed);
    CLEANUP(cert_free) struct cert *second = cert_of(&g.der[1]);
    assert_false(hash_eq(&first->fingerprint, &second->fingerprint));
    assert_true(cert_signed_by(second, root) && second->not_after == root->not_after);
    assert_int_equal(renew("fleet"), 0);
    assert_true(!g.changed);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    assert_int_equal(issue(&(struct vault_issue){SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0}), 0);
    assert_true(hash_eq(&g.issuer, &second->fingerprint));
}

/* Whether `c` is of's name and key, certified by `by`. */
static bool carries(const struct cert *c, const struct cert *of, const struct cert *by) {
    return c->ca && hash_eq(&c->key.spki, &of->key.spki) && X509_NAME_cmp(X509_get_subject_name(c->x), X509_get_subject_name(of->x)) == 0 && cert_signed_by(c, by) &&
           c->not_after == (of->not_after < by->not_after ? of->not_after : by->not_after);
}

static void fleet_roots_are_rotated(void **state) {
    begin();
    CLEANUP(cert_free) struct cert *first = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *issuing = cert_of(&g.der[1]);
    CLEANUP(cert_free) struct cert *provisioning = cert_of(&g.der[2]);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    assert_true(g.der[3].n == 0 && g.der[4].n == 0);
    assert_int_equal(rotate("absent", &first->key.spki), MUSTER_ENOTFOUND);
    rig.offset = CLOCK_YEAR;
    assert_int_equal(stop(), 0);
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(rotate("fleet", &first->key.spki), 0);
    assert_true(g.changed);
    uint64_t version = g.version;
    CLEANUP(cert_free) struct cert *second = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *under = cert_of(&g.der[1]);
    CLEANUP(cert_free) struct cert *same = cert_of(&g.der[2]);
    CLEANUP(cert_free) struct cert *former = cert_of(&g.der[3]);
    assert_true(second->self_signed && !hash_eq(&second->key.spki, &first->key.spki) && second->not_after > first->not_after);
    assert_true(cert_signed_by(under, second) && !cert_signed_by(under, first) && !hash_eq(&under->fingerprint, &issuing->fingerprint));
    assert_true(hash_eq(&same->fingerprint, &provisioning->fingerprint) && hash_eq(&former->fingerprint, &first->fingerprint));
    struct span crosses = buf_span(&g.der[4]);
    CLEANUP(cert_free) struct cert *next_by_it = NULL;
    CLEANUP(cert_free) struct cert *it_by_next = NULL;
    assert_int_equal(cert_from_der_next(&crosses, &next_by_it, NULL) || cert_from_der_next(&crosses, &it_by_next, NULL), 0);
    assert_true(crosses.n == 0 && carries(next_by_it, second, first) && carries(it_by_next, first, second));
    assert_int_equal(rotate("fleet", &first->key.spki), 0); /* its answer was lost */
    assert_true(!g.changed && g.version == version);
    CLEANUP(cert_free) struct cert *still = cert_of(&g.der[0]);
    assert_true(hash_eq(&still->fingerprint, &second->fingerprint));
    assert_int_equal(stop(), 0);
    start(); /* as it is on the disk */
    assert_int_equal(hello(version), 0);
    assert_int_equal(issue(&(struct vault_issue){SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1}}, a_key(&spki, KEY_P256, 0), 0}), 0);
    assert_true(hash_eq(&g.issuer, &under->fingerprint));
    for (int i = 1; i < VAULT_FORMER_MAX; i++) {
        assert_int_equal(show("fleet"), 0);
        CLEANUP(cert_free) struct cert *now = cert_of(&g.der[0]);
        assert_int_equal(rotate("fleet", &now->key.spki), 0);
    }
    assert_int_equal(show("fleet"), 0);
    CLEANUP(cert_free) struct cert *last = cert_of(&g.der[0]);
    assert_int_equal(rotate("fleet", &last->key.spki), MUSTER_EINVALID);
    assert_int_equal(show("fleet"), 0);
    CLEANUP(cert_free) struct cert *kept = cert_of(&g.der[0]);
    assert_true(hash_eq(&kept->fingerprint, &last->fingerprint));
}

static int server_ca(void) {
    got_init(&g);
    return answer_of(&g, vault_server_ca(rig.control, on_server, &g, NULL));
}

static int rotate_server(const struct hash *from) {
    got_init(&g);
    return answer_of(&g, vault_server_rotate(rig.control, &(struct vault_server_rotate){*from, VAULT_BACKEND_AS_IS}, on_server, &g, NULL));
}

static int retire_server(const struct hash *spki) {
    got_init(&g);
    return answer_of(&g, vault_server_retire(rig.control, spki, on_server, &g, NULL));
}

static int issue_for(const char *name, struct cert **out) {
    const struct span names[] = {span_str(name)};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    const struct vault_server_issue rq = {names, 1, a_key(&spki, KEY_P256, 0)};
    got_init(&g);
    int rc = answer_of(&g, vault_server_issue(rig.control, &rq, on_issue, &g, NULL));
    *out = rc ? NULL : cert_of(&g.der[0]);
    return rc;
}

/* Under whom a time is signed now. */
static struct cert *time_signer(void) {
    got_init(&g);
    assert_int_equal(answer_of(&g, vault_time_sign(rig.gateway, SPAN_LIT("0123456789abcdef"), on_time_signed, &g, NULL)), 0);
    return cert_of(&g.der[1]);
}

static void server_cas_are_rotated_and_retired(void **state) {
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(server_ca(), 0);
    assert_true(g.der[3].n == 0 && g.der[4].n == 0 && !g.changed && g.view.backend == VAULT_BACKEND_SEALED);
    CLEANUP(cert_free) struct cert *first = cert_of(&g.der[0]);
    assert_int_equal(retire_server(&first->key.spki), MUSTER_EINVALID); /* the current one */
    assert_int_equal(rotate_server(&first->key.spki), 0);
    assert_true(g.changed);
    uint64_t version = g.version;
    CLEANUP(cert_free) struct cert *second = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *former = cert_of(&g.der[3]);
    assert_true(second->self_signed && !hash_eq(&second->key.spki, &first->key.spki) && hash_eq(&former->fingerprint, &first->fingerprint));
    struct span crosses = buf_span(&g.der[4]);
    CLEANUP(cert_free) struct cert *next_by_it = NULL;
    CLEANUP(cert_free) struct cert *it_by_next = NULL;
    assert_int_equal(cert_from_der_next(&crosses, &next_by_it, NULL) || cert_from_der_next(&crosses, &it_by_next, NULL), 0);
    assert_true(crosses.n == 0 && carries(next_by_it, second, first) && carries(it_by_next, first, second));
    assert_int_equal(rotate_server(&first->key.spki), 0); /* its answer was lost */
    assert_true(!g.changed && g.version == version);

    /* Who knows the first one alone follows the certificate between them; the second one needs none. */
    CLEANUP(cert_free) struct cert *leaf = NULL;
    assert_int_equal(issue_for("gw.example", &leaf), 0);
    assert_true(cert_signed_by(leaf, second) && !cert_signed_by(leaf, first));
    assert_int_equal(chain_judge_server(&first, 1, leaf, &next_by_it, 1, clock_now(), NULL), 0);
    assert_int_equal(chain_judge_server(&second, 1, leaf, NULL, 0, clock_now(), NULL), 0);
    assert_int_not_equal(chain_judge_server(&first, 1, leaf, NULL, 0, clock_now(), NULL), 0);
    assert_int_not_equal(chain_judge_server(&first, 1, leaf, &it_by_next, 1, clock_now(), NULL), 0);
    /* The time is signed under the one that every device knows. */
    CLEANUP(cert_free) struct cert *time = time_signer();
    assert_true(cert_signed_by(time, first));
    assert_int_equal(stop(), 0);
    start(); /* as it is on the disk */
    assert_int_equal(hello(version), 0);
    assert_int_equal(server_ca(), 0);
    CLEANUP(cert_free) struct cert *still = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *kept = cert_of(&g.der[3]);
    assert_true(hash_eq(&still->fingerprint, &second->fingerprint) && hash_eq(&kept->fingerprint, &first->fingerprint));

    assert_int_equal(rotate_server(&second->key.spki), 0);
    CLEANUP(cert_free) struct cert *third = cert_of(&g.der[0]);
    assert_int_equal(retire_server(&second->key.spki), MUSTER_EINVALID); /* the first is older */
    assert_int_equal(retire_server(&first->key.spki), 0);
    assert_true(g.changed);
    CLEANUP(cert_free) struct cert *left = cert_of(&g.der[3]);
    assert_true(hash_eq(&left->fingerprint, &second->fingerprint));
    assert_int_equal(retire_server(&first->key.spki), 0);
    assert_true(!g.changed);
    CLEANUP(cert_free) struct cert *later = time_signer();
    assert_true(cert_signed_by(later, second));
    assert_int_equal(retire_server(&third->key.spki), MUSTER_EINVALID);
    for (int i = 1; i < VAULT_SERVER_FORMER_MAX; i++) {
        assert_int_equal(server_ca(), 0);
        CLEANUP(cert_free) struct cert *now = cert_of(&g.der[0]);
        assert_int_equal(rotate_server(&now->key.spki), 0);
    }
    assert_int_equal(server_ca(), 0);
    CLEANUP(cert_free) struct cert *last = cert_of(&g.der[0]);
    assert_int_equal(rotate_server(&last->key.spki), MUSTER_EINVALID);
}

/* Where the oldest has ended the next one signs times. */
static void an_ended_server_ca_signs_no_times(void **state) {
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(server_ca(), 0);
    CLEANUP(cert_free) struct cert *first = cert_of(&g.der[0]);
    assert_int_equal(stop(), 0);
    rig.offset = 30 * CLOCK_YEAR;
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(rotate_server(&first->key.spki), 0);
    CLEANUP(cert_free) struct cert *second = cert_of(&g.der[0]);
    assert_int_equal(stop(), 0);
    rig.offset = 41 * CLOCK_YEAR;
    start();
    assert_int_equal(hello(0), 0);
    CLEANUP(cert_free) struct cert *time = time_signer();
    assert_true(cert_signed_by(time, second));
}

/* --- certificates ------------------------------------------------------------------------------------------------------------------------- */

static void device_certificates_keep_to_the_policy(void **state) {
    begin();
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *issuing = cert_of(&g.der[1]);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096), other = BUF_INIT(4096);
    struct vault_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("VIN-1"), {{1, 2, 3}}, a_key(&spki, KEY_P256, 0), 0};
    struct hash spki_hash;
    hash_of(rq.public_key, &spki_hash);
    assert_int_equal(issue(&rq), 0);
    CLEANUP(cert_free) struct cert *leaf = cert_of(&g.der[0]);
    assert_subject(leaf, "CN=VIN-1");
    assert_subject(leaf, "O=fleet");
    assert_subject(leaf, "OU=Devices");
    assert_true(cert_signed_by(leaf, issuing) && hash_eq(&g.issuer, &issuing->fingerprint) && hash_eq(&leaf->key.spki, &spki_hash) && !leaf->ca);
    assert_true(near(leaf->not_after, clock_now() + 20 * CLOCK_YEAR) && near(leaf->not_before, clock_now() - CLOCK_DAY));
    assert_true(leaf->not_after == g.not_after && leaf->not_before == g.not_before && cert_allows_client(leaf));
    uint8_t serial[VAULT_SERIAL_LEN];
    memcpy(serial, g.serial, sizeof serial);

    struct anchor_set *anchors = anchor_set_new();
    struct chain_found found;
    struct cert **under = calloc(1, sizeof *under), *anchor = NULL, *above = NULL;
    assert_int_equal(cert_from_x509(root->x, &anchor, NULL), 0);
    assert_int_equal(cert_from_x509(issuing->x, &above, NULL), 0);
    under[0] = above;
    assert_int_equal(anchor_set_add(anchors, anchor, under, 1, NULL), 0);
    assert_int_equal(chain_judge(anchors, leaf, NULL, 0, clock_now(), &found, NULL), 0);
    anchor_set_unref(anchors);

    assert_int_equal(issue(&rq), 0);
    assert_memory_not_equal(serial, g.serial, sizeof serial);
    rq.life = CLOCK_HOUR;
    assert_int_equal(issue(&rq), 0);
    assert_true(near(g.not_after, clock_now() + CLOCK_HOUR));
    rq.life = 100 * CLOCK_YEAR;
    assert_int_equal(issue(&rq), 0);
    assert_true(near(g.not_after, clock_now() + 20 * CLOCK_YEAR)); /* the policy's maximum */
    struct vault_account a = {.name = SPAN_LIT("fleet"), .policy = {.set = VAULT_SET_LIFE_MAX, .device_life_max = 60 * CLOCK_YEAR}};
    assert_int_equal(change(&a), 0);
    assert_int_equal(issue(&rq), 0);
    assert_int_equal(g.not_after, issuing->not_after);
    rq.life = -1;
    assert_int_equal(issue(&rq), MUSTER_EINVALID);
    rq.life = 0;

    char id[129];
    memset(id, 'x', sizeof id);
    rq.device_id = span_of(id, 64);
    assert_int_equal(issue(&rq), 0);
    rq.device_id = span_of(id, 65);
    assert_int_equal(issue(&rq), 0);
    CLEANUP(cert_free) struct cert *longer = cert_of(&g.der[0]);
    assert_subject(longer, "CN=01020300-0000-0000-0000-000000000000");
    CLEANUP(buf_fini) struct buf uri = BUF_INIT(1024);
    assert_int_equal(cert_device_id(longer, ID_RULE_SAN_URI, &uri, NULL), 0);
    assert_non_null(strstr(buf_str(&uri), "urn:muster:device:xxxx"));
    rq.device_id = span_of(id, 129);
    assert_int_equal(issue(&rq), MUSTER_EDEVICEID);
    rq.device_id = SPAN_LIT("a\nb");
    assert_int_equal(issue(&rq), MUSTER_EDEVICEID);
    rq.device_id = SPAN_NONE;
    assert_int_equal(issue(&rq), MUSTER_EDEVICEID);
    rq.device_id = SPAN_LIT("muster-challenge-1");
    assert_int_equal(issue(&rq), MUSTER_EIDTAKEN);
    rq.device_id = SPAN_LIT("VIN-1");
    rq.public_key = SPAN_LIT("no key");
    assert_int_equal(issue(&rq), MUSTER_EINVALID);
    rq.public_key = a_key(&other, KEY_RSA, 2048);
    assert_int_equal(issue(&rq), MUSTER_ECERTWEAKKEY);
    a.policy = (struct vault_policy){.set = VAULT_SET_RSA | VAULT_SET_CEILING, .rsa_allowed = true, .ceiling = 100};
    assert_int_equal(change(&a), 0);
    assert_int_equal(issue(&rq), 0);
    rq.public_key = a_key(&other, KEY_RSA, 3072);
    assert_int_equal(issue(&rq), 0);
    rq.public_key = a_key(&other, KEY_P384, 0);
    assert_int_equal(issue(&rq), 0);
    rq.public_key = a_key(&other, KEY_ED25519, 0);
    assert_int_equal(issue(&rq), 0);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *short_key = EVP_RSA_gen(1024);
    buf_clear(&other);
    assert_int_equal(key_public_der(short_key, &other, NULL), 0);
    rq.public_key = buf_span(&other);
    assert_int_equal(issue(&rq), MUSTER_ECERTWEAKKEY);
    rq.public_key = a_key(&other, KEY_P256, 0);
    rq.account = SPAN_LIT("absent");
    assert_int_equal(issue(&rq), MUSTER_ENOTFOUND);
    rq.account = SPAN_LIT("fleet");
    a.policy.set = VAULT_SET_METHOD;
    a.method = VAULT_DEVICE;
    assert_int_equal(change(&a), 0);
    assert_true(g.der[0].n); /* kept, but nothing is issued */
    assert_int_equal(issue(&rq), MUSTER_EMETHODOFF);
}

/* The account's profile is the vault's to keep to, whoever asks and whatever he says that a provisioning key allows; and it outlives the process. */
static void device_certificates_keep_to_the_profile(void **state) {
    begin();
    CLEANUP(buf_fini) struct buf p256 = BUF_INIT(4096), p384 = BUF_INIT(4096), rsa = BUF_INIT(4096);
    struct vault_issue rq = {.account = SPAN_LIT("fleet"), .device_id = SPAN_LIT("VIN-1"), .uuid = {{1, 2, 3}}, .public_key = a_key(&p256, KEY_P256, 0)};
    struct vault_account a = {.name = SPAN_LIT("fleet"),
                              .policy = {.set = VAULT_SET_PROFILE | VAULT_SET_LIFE | VAULT_SET_LIFE_MAX, .device_life = CLOCK_DAY, .device_life_max = CLOCK_YEAR,
                                         .profile = {.keys = PROFILE_KEY_P256 | PROFILE_KEY_RSA2048, .subject = "O=Acme,CN={device_id}", .san = "uri:urn:acme:{account}:{device_id}"}}};
    assert_int_equal(change(&a), 0);
    assert_true(g.changed && device_profile_eq(&g.view.policy.profile, &a.policy.profile));
    assert_int_equal(change(&a), 0);
    assert_false(g.changed);
    assert_int_equal(stop(), 0);
    start();
    assert_int_equal(hello(1), 0);
    assert_int_equal(show("fleet"), 0);
    assert_true(device_profile_eq(&g.view.policy.profile, &a.policy.profile));
    assert_int_equal(issue(&rq), 0);
    CLEANUP(cert_free) struct cert *leaf = cert_of(&g.der[0]);
    assert_subject(leaf, "CN=VIN-1");
    assert_subject(leaf, "O=Acme");
    assert_true(near(leaf->not_after, clock_now() + CLOCK_DAY) && cert_allows_client(leaf));
    CLEANUP(buf_fini) struct buf uri = BUF_INIT(1024);
    assert_int_equal(cert_device_id(leaf, ID_RULE_SAN_URI, &uri, NULL), 0);
    assert_string_equal(buf_str(&uri), "urn:acme:fleet:VIN-1");
    rq.life = 10 * CLOCK_YEAR;
    assert_int_equal(issue(&rq), 0);
    assert_true(near(g.not_after, clock_now() + CLOCK_YEAR));
    rq.public_key = a_key(&p384, KEY_P384, 0);
    assert_int_equal(issue(&rq), MUSTER_ECERTWEAKKEY);
    rq.public_key = a_key(&rsa, KEY_RSA, 2048); /* said by the profile, whatever keys the account makes */
    assert_int_equal(issue(&rq), 0);
    rq.narrow = SPAN_LIT("keys=p256,p384\nlife_max=7200\n");
    assert_int_equal(issue(&rq), MUSTER_ECERTWEAKKEY);
    rq.public_key = buf_span(&p384);
    assert_int_equal(issue(&rq), MUSTER_ECERTWEAKKEY);
    rq.public_key = buf_span(&p256);
    assert_int_equal(issue(&rq), 0);
    assert_true(near(g.not_after, clock_now() + 7200));
    rq.narrow = SPAN_LIT("life=9223372036854775807\nlife_max=9223372036854775807\n");
    assert_int_equal(issue(&rq), 0);
    assert_true(near(g.not_after, clock_now() + CLOCK_YEAR));
    rq.narrow = SPAN_LIT("keys=everything\n");
    assert_int_equal(issue(&rq), MUSTER_EINVALID);
    a.policy.profile = (struct device_profile){.life = CLOCK_YEAR};
    assert_int_equal(change(&a), MUSTER_EINVALID);
}

/* Without an end where nothing above has one: the account's CAs are made so too (RFC 5280, 4.1.2.5). */
static void without_a_well_defined_end(void **state) {
    start();
    assert_int_equal(hello(1), 0);
    struct vault_account endless = {.name = SPAN_LIT("endless"), .kind = VAULT_TEST, .method = VAULT_SHARED,
                                    .policy = {.set = VAULT_SET_LIFE | VAULT_SET_LIFE_MAX, .device_life = VAULT_LIFE_NONE, .device_life_max = VAULT_LIFE_NONE}};
    assert_int_equal(create(&endless), 0);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    struct vault_issue rq = {.account = SPAN_LIT("endless"), .device_id = SPAN_LIT("VIN-1"), .uuid = {{1}}, .public_key = a_key(&spki, KEY_P256, 0)};
    assert_int_equal(issue(&rq), 0);
    assert_int_equal(g.not_after, CLOCK_NO_EXPIRY);
    rq.life = VAULT_LIFE_NONE;
    assert_int_equal(issue(&rq), 0);
    assert_int_equal(g.not_after, CLOCK_NO_EXPIRY);
    assert_non_null(memmem(g.der[0].p, g.der[0].n, "99991231235959Z", 15));
}

static void provisioning_keys_get_certificates(void **state) {
    begin();
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *provisioning = cert_of(&g.der[2]);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    struct vault_key_issue rq = {SPAN_LIT("fleet"), {{0xab}}, a_key(&spki, KEY_P256, 0), 0};
    assert_int_equal(issue_key(&rq), 0);
    CLEANUP(cert_free) struct cert *c = cert_of(&g.der[0]);
    assert_subject(c, "CN=ab000000-0000-0000-0000-000000000000");
    assert_true(cert_signed_by(c, provisioning) && !cert_signed_by(c, root) && !c->ca && near(c->not_after, clock_now() + 10 * CLOCK_YEAR));
    rq.life = CLOCK_DAY;
    assert_int_equal(issue_key(&rq), 0);
    assert_true(near(g.not_after, clock_now() + CLOCK_DAY));
    rq.life = 11 * CLOCK_YEAR;
    assert_int_equal(issue_key(&rq), 0);
    assert_true(near(g.not_after, clock_now() + 10 * CLOCK_YEAR));
    rq.life = -1;
    assert_int_equal(issue_key(&rq), MUSTER_EINVALID);
    rq.life = 0;
    rq.public_key = a_key(&spki, KEY_ED25519, 0);
    assert_int_equal(issue_key(&rq), MUSTER_ECERTWEAKKEY);
}

static int issue_line(const struct vault_line_issue *rq) {
    got_init(&g);
    return answer_of(&g, vault_line_issue(rig.control, rq, on_issue, &g, NULL));
}

/* Whatever is asked for: a CA of path length 0 for TLS clients, below the account's fleet root and no longer than it, that can certify nothing but its own names. */
static void lines_get_a_ca_within_ceilings(void **state) {
    begin();
    CLEANUP(cert_free) struct cert *root = cert_of(&g.der[0]);
    CLEANUP(cert_free) struct cert *issuing = cert_of(&g.der[1]);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096), issuing_spki = BUF_INIT(4096);
    struct vault_line_issue rq = {SPAN_LIT("fleet"), SPAN_LIT("line-1"), a_key(&spki, KEY_P256, 0), 30 * CLOCK_YEAR};
    assert_int_equal(issue_line(&rq), 0);
    CLEANUP(cert_free) struct cert *c = cert_of(&g.der[0]);
    assert_true(cert_signed_by(c, root) && !cert_signed_by(c, issuing) && c->ca && near(c->not_after, clock_now() + 30 * CLOCK_YEAR));
    assert_int_equal(line_ca_fit(c, SPAN_LIT("fleet"), SPAN_LIT("line-1"), clock_now(), NULL), 0);
    assert_int_equal(line_ca_fit(c, SPAN_LIT("fleet"), SPAN_LIT("line-2"), clock_now(), NULL), MUSTER_EROOTUNFIT);
    assert_int_equal(line_ca_fit(c, SPAN_LIT("other"), SPAN_LIT("line-1"), clock_now(), NULL), MUSTER_EROOTUNFIT);
    assert_int_equal(line_ca_fit(issuing, SPAN_LIT("fleet"), SPAN_LIT("line-1"), clock_now(), NULL), MUSTER_EROOTUNFIT);
    rq.life = VAULT_LIFE_NONE;
    assert_int_equal(issue_line(&rq), 0);
    assert_true(near(g.not_after, clock_now() + VAULT_LINE_LIFE_MAX));
    for (int64_t life = -1; life <= 0; life++) {
        rq.life = life;
        assert_int_equal(issue_line(&rq), MUSTER_EINVALID);
    }
    rq.life = CLOCK_YEAR;
    static const char *const names[] = {"", "Line", "-a", "a-", "a.b", "a,OU=b", "0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rq.line = span_str(names[i]);
        assert_int_equal(issue_line(&rq), MUSTER_EINVALID);
    }
    rq.line = SPAN_LIT("line-1");
    assert_int_equal(key_public_der(X509_get0_pubkey(issuing->x), &issuing_spki, NULL), 0); /* the account's own CA would be a line, and the line a CA */
    rq.public_key = buf_span(&issuing_spki);
    assert_int_equal(issue_line(&rq), MUSTER_EINVALID);
    rq.public_key = SPAN_LIT("\x30\x00");
    assert_int_equal(issue_line(&rq), MUSTER_EINVALID);
    rq.public_key = a_key(&spki, KEY_RSA, 2048);
    assert_int_equal(issue_line(&rq), MUSTER_ECERTWEAKKEY);
    rq.public_key = a_key(&spki, KEY_ED25519, 0);
    assert_int_equal(issue_line(&rq), MUSTER_ECERTWEAKKEY);
    rq.public_key = a_key(&spki, KEY_P384, 0);
    assert_int_equal(issue_line(&rq), 0);
    rq.account = SPAN_LIT("nobody");
    assert_int_equal(issue_line(&rq), MUSTER_ENOTFOUND);
    struct vault_account device = {.name = SPAN_LIT("devices"), .kind = VAULT_TEST, .method = VAULT_DEVICE};
    assert_int_equal(create(&device), 0);
    rq.account = SPAN_LIT("devices");
    assert_int_equal(issue_line(&rq), MUSTER_EMETHODOFF);
}

static void servers_get_certificates(void **state) {
    static const char long_name[] = "a-label-of-forty-characters-aaaaaaaaaaaa.a-label-of-forty-characters-bbbbbbbbbbbb.example";
    const struct span names[] = {SPAN_LIT("gw.example"), SPAN_LIT("192.0.2.1"), SPAN_LIT("2001:db8::1")}, long_names[] = {SPAN_LIT(long_name)};
    const struct span wild[] = {SPAN_LIT("*.example")}, upper[] = {SPAN_LIT("gw.example"), SPAN_LIT("GW.example")};
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(4096);
    start();
    assert_int_equal(hello(0), 0);
    got_init(&g);
    assert_int_equal(answer_of(&g, vault_server_ca(rig.control, on_server, &g, NULL)), 0);
    CLEANUP(cert_free) struct cert *ca = cert_of(&g.der[0]);
    assert_int_equal(issue_server(names, 3, a_key(&spki, KEY_P384, 0)), 0);
    CLEANUP(cert_free) struct cert *c = cert_of(&g.der[0]);
    assert_subject(c, "CN=gw.example");
    assert_int_equal(chain_judge_server(&ca, 1, c, NULL, 0, clock_now(), NULL), 0);
    assert_true(near(c->not_after, clock_now() + CLOCK_YEAR) && !cert_allows_client(c));
    assert_int_equal(X509_check_host(c->x, "gw.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(c->x, "192.0.2.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(c->x, "2001:db8::1", 0), 1);
    assert_int_equal(issue_server(long_names, 1, a_key(&spki, KEY_RSA, 2048)), 0);
    CLEANUP(cert_free) struct cert *l = cert_of(&g.der[0]);
    assert_int_equal(X509_check_host(l->x, long_name, 0, 0, NULL), 1);
    assert_int_equal(issue_server(wild, 1, buf_span(&spki)), MUSTER_EINVALID);
    assert_int_equal(issue_server(upper, 2, buf_span(&spki)), MUSTER_EINVALID);
    assert_int_equal(issue_server(names, 1, a_key(&spki, KEY_ED25519, 0)), MUSTER_ECERTWEAKKEY);
    assert_int_equal(vault_server_issue(rig.control, &(struct vault_server_issue){names, 0, buf_span(&spki)}, on_issue, &g, NULL), MUSTER_EINVALID);
}

static void heads_are_signed(void **state) {
    struct vault_head heads[] = {{SPAN_LIT("fleet"), 12, {{1}}}, {SPAN_NONE, 3, {{2}}}};
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(buf_fini) struct buf message = BUF_INIT(4096);
    start();
    assert_int_equal(hello(0), 0);
    got_init(&g);
    assert_int_equal(answer_of(&g, vault_audit_key(rig.control, on_der, &g, NULL)), 0);
    assert_int_equal(key_from_public_der(buf_span(&g.der[0]), &key, NULL), 0);
    got_init(&g);
    assert_int_equal(answer_of(&g, vault_heads_sign(rig.control, heads, 2, on_heads, &g, NULL)), 0);
    assert_true(near(g.time, clock_now()));
    vault_heads_message(g.time, heads, 2, &message);
    assert_int_equal(key_verify(key, buf_span(&message), buf_span(&g.der[0]), NULL), 0);
    heads[1].seq++;
    buf_clear(&message);
    vault_heads_message(g.time, heads, 2, &message);
    assert_int_not_equal(key_verify(key, buf_span(&message), buf_span(&g.der[0]), NULL), 0);
    assert_int_equal(vault_heads_sign(rig.control, heads, 0, on_heads, &g, NULL), MUSTER_EINVALID);
}

static int time_signed(struct span nonce) {
    got_init(&g);
    return answer_of(&g, vault_time_sign(rig.gateway, nonce, on_time_signed, &g, NULL));
}

static bool signed_by(const struct cert *c, int64_t time, struct span nonce) {
    CLEANUP(buf_fini) struct buf message = BUF_INIT(4096);
    vault_time_message(time, nonce, &message);
    return key_verify(X509_get0_pubkey(c->x), buf_span(&message), buf_span(&g.der[0]), NULL) == 0;
}

static void times_are_signed(void **state) {
    const struct span nonce = SPAN_LIT("0123456789abcdef"), another = SPAN_LIT("0123456789abcdeF");
    CLEANUP(buf_fini) struct buf message = BUF_INIT(4096);
    start();
    assert_int_equal(time_signed(nonce), MUSTER_EVAULT); /* nobody has greeted it */
    assert_int_equal(hello(0), 0);
    got_init(&g);
    assert_int_equal(answer_of(&g, vault_server_ca(rig.control, on_server, &g, NULL)), 0);
    CLEANUP(cert_free) struct cert *ca = cert_of(&g.der[0]);
    assert_int_equal(time_signed(nonce), 0);
    CLEANUP(cert_free) struct cert *c = cert_of(&g.der[1]);
    assert_true(near(g.time, clock_now()) && signed_by(c, g.time, nonce));
    assert_false(signed_by(c, g.time + 1, nonce) || signed_by(c, g.time, another));
    /* Under the server CA, for a week, and good for nothing else. */
    assert_int_equal(X509_verify(c->x, X509_get0_pubkey(ca->x)), 1);
    assert_int_equal(X509_get_extended_key_usage(c->x), XKU_TIMESTAMP);
    assert_int_equal(X509_check_purpose(c->x, X509_PURPOSE_TIMESTAMP_SIGN, 0), 1);
    assert_true(!c->ca && near(c->not_after, clock_now() + 7 * CLOCK_DAY) && near(c->not_before, clock_now() - CLOCK_DAY));
    assert_int_not_equal(chain_judge_server(&ca, 1, c, NULL, 0, clock_now(), NULL), 0);
    assert_false(cert_allows_client(c));
    /* What is signed is text that a shell can print. */
    vault_time_message(1767225600, nonce, &message);
    assert_string_equal(buf_str(&message), "Muster time 1\n2026-01-01T00:00:00Z\n30313233343536373839616263646566\n");
    /* The same key for the next one, another one after a start. */
    struct hash spki = c->key.spki;
    assert_int_equal(time_signed(another), 0);
    CLEANUP(cert_free) struct cert *next = cert_of(&g.der[1]);
    assert_true(hash_eq(&next->key.spki, &spki));
    assert_int_equal(stop(), 0);
    start();
    assert_int_equal(hello(0), 0);
    assert_int_equal(time_signed(nonce), 0);
    CLEANUP(cert_free) struct cert *fresh = cert_of(&g.der[1]);
    assert_false(hash_eq(&fresh->key.spki, &spki));
}

static void a_nonce_has_its_bounds(void **state) {
    static const uint8_t bytes[VAULT_TIME_NONCE_MAX + 1] = {0};
    CLEANUP(buf_fini) struct buf message = BUF_INIT(4096);
    start();
    assert_int_equal(hello(0), 0);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        const bool good = n >= VAULT_TIME_NONCE_MIN && n <= VAULT_TIME_NONCE_MAX;
        got_init(&g);
        if (good)
            assert_int_equal(time_signed(span_of(bytes, n)), 0);
        else
            assert_int_equal(vault_time_sign(rig.gateway, span_of(bytes, n), on_time_signed, &g, NULL), MUSTER_EINVALID);
        /* The vault does not trust its client's word. */
        struct wire_request rq = {.id = 1, .type = WIRE_TIME_SIGN, .nonce = span_of(bytes, n)};
        struct wire_answer a;
        uint8_t answer[8192];
        buf_clear(&message);
        assert_int_equal(wire_request_write(&rq, &message), 0);
        assert_int_equal(send(rig.raw, message.p, message.n, 0), message.n);
        struct pollfd p = {.fd = rig.raw, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1);
        ssize_t got = recv(rig.raw, answer, sizeof answer, 0);
        assert_true(got > 0 && wire_answer_read(span_of(answer, (size_t)got), &a) == 0);
        assert_int_equal(a.rc, good ? 0 : MUSTER_EINVALID);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(accounts_are_made_changed_and_deleted),
        T(what_was_answered_survives_a_restart),
        T(a_lower_ceiling_after_a_restart_leaves_room),
        T(issuing_cas_are_renewed_in_time),
        T(fleet_roots_are_rotated),
        T(server_cas_are_rotated_and_retired),
        T(an_ended_server_ca_signs_no_times),
        T(device_certificates_keep_to_the_policy),
        T(device_certificates_keep_to_the_profile),
        T(without_a_well_defined_end),
        T(provisioning_keys_get_certificates),
        T(lines_get_a_ca_within_ceilings),
        T(servers_get_certificates),
        T(times_are_signed),
        T(a_nonce_has_its_bounds),
        T(heads_are_signed),
    };
    return run_vault_tests(tests, sizeof tests / sizeof tests[0]);
}
