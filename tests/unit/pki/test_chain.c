/* Chains: what is accepted, and every refusal with its code. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "pki/chain.h"
#include "../pki_fixture.h"

static struct anchor_set *anchors_of(const struct made *root) {
    struct anchor_set *s = anchor_set_new();
    struct cert *copy = NULL;
    assert_int_equal(cert_from_x509(root->cert->x, &copy, NULL), 0);
    assert_int_equal(anchor_set_add(s, copy, NULL, 0, NULL), 0);
    return s;
}

static int judge_at(const struct made *root, const struct made *leaf, const struct made *between, int64_t now, struct err *err) {
    struct anchor_set *s = anchors_of(root);
    struct chain_found found;
    struct cert *presented[1] = {between ? between->cert : NULL};
    int rc = chain_judge(s, leaf->cert, presented, between ? 1 : 0, now, &found, err);
    if (rc == 0) {
        assert_int_equal(found.n, 1);
        assert_true(found.until <= leaf->cert->not_after && found.until <= root->cert->not_after);
    }
    anchor_set_unref(s);
    return rc;
}

static int judge(const struct made *root, const struct made *leaf, const struct made *between) { return judge_at(root, leaf, between, clock_now(), NULL); }

static void accepted(void **state) {
    struct made root = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT});
    struct made recipe = make_it((struct recipe){.cn = "OTA root", .ext = EXT("basicConstraints", "critical,CA:TRUE", "extendedKeyUsage", "critical,serverAuth")});
    struct made between = make_it((struct recipe){.cn = "Line 1", .ext = CA_EXT, .issuer = &root});
    struct made plain = make_it((struct recipe){.cn = "a", .issuer = &root});
    struct made client = make_it((struct recipe){.cn = "b", .issuer = &recipe, .ext = EXT("extendedKeyUsage", "clientAuth")});
    struct made below = make_it((struct recipe){.cn = "c", .issuer = &between, .ext = EXT("keyUsage", "digitalSignature")});
    assert_int_equal(judge(&root, &plain, NULL), 0);
    assert_int_equal(judge(&root, &plain, &recipe), 0); /* unrelated extra certificate */
    assert_int_equal(judge(&recipe, &client, NULL), 0);
    assert_int_equal(judge(&root, &below, &between), 0);
    assert_int_equal(judge(&between, &below, NULL), 0); /* an intermediate as the anchor */
    made_free(&root), made_free(&recipe), made_free(&between), made_free(&plain), made_free(&client), made_free(&below);
}

static void kinds_of_keys(void **state) {
    static const struct {
        const char *type, *group;
        unsigned bits;
        int rc;
    } kinds[] = {{"EC", "P-256", 0, 0},   {"EC", "P-384", 0, 0}, {"EC", "P-521", 0, 0},          {"ED25519", NULL, 0, 0},
                 {"RSA", NULL, 2048, 0}, {"RSA", NULL, 3072, 0}, {"RSA", NULL, 1024, MUSTER_ECERTWEAKKEY}, {"EC", "secp256k1", 0, MUSTER_ECERTWEAKKEY}, {"EC", "P-224", 0, MUSTER_ECERTWEAKKEY}};
    struct made root = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT});
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        EVP_PKEY *key = kinds[i].group ? EVP_EC_gen(kinds[i].group) : kinds[i].bits ? EVP_RSA_gen(kinds[i].bits) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        struct made leaf = make_it((struct recipe){.cn = "x", .issuer = &root, .key = key});
        assert_int_equal(judge(&root, &leaf, NULL), kinds[i].rc);
        if (kinds[i].rc == 0) { /* as a root too */
            EVP_PKEY_up_ref(key);
            struct made other = make_it((struct recipe){.cn = "R", .ext = CA_EXT, .key = key});
            struct made under = make_it((struct recipe){.cn = "y", .issuer = &other});
            assert_int_equal(judge(&other, &under, NULL), 0);
            made_free(&other), made_free(&under);
        }
        made_free(&leaf);
    }
    made_free(&root);
}

static void refused(void **state) {
    struct made root = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT});
    struct made foreign = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT}); /* the same name, another key */
    struct made none = make_it((struct recipe){.cn = "Other Root", .ext = CA_EXT});
    struct made not_ca = make_it((struct recipe){.cn = "no CA", .issuer = &root, .ext = EXT("basicConstraints", "CA:FALSE")});
    struct made old_between = make_it((struct recipe){.cn = "old", .issuer = &root, .ext = CA_EXT, .from = -10 * CLOCK_DAY, .to = -CLOCK_DAY});
    struct made short_path = make_it((struct recipe){.cn = "short", .ext = EXT("basicConstraints", "critical,CA:TRUE,pathlen:0")});
    struct made too_deep = make_it((struct recipe){.cn = "deep", .issuer = &short_path, .ext = CA_EXT});
    const struct {
        struct recipe recipe;
        const struct made *root, *between;
        int rc;
    } rows[] = {
        {{.cn = "x", .issuer = &root, .from = -10 * CLOCK_DAY, .to = -CLOCK_DAY}, &root, NULL, MUSTER_ECERTEXPIRED},
        {{.cn = "x", .issuer = &root, .from = CLOCK_DAY, .to = 2 * CLOCK_DAY}, &root, NULL, MUSTER_ECERTEARLY},
        {{.cn = "x", .issuer = &root, .ext = CA_EXT}, &root, NULL, MUSTER_ECERTISCA},
        {{.cn = "x", .issuer = &root, .ext = EXT("extendedKeyUsage", "serverAuth")}, &root, NULL, MUSTER_ECERTPURPOSE},
        {{.cn = "x", .issuer = &root, .ext = EXT("keyUsage", "keyEncipherment")}, &root, NULL, MUSTER_ECERTPURPOSE},
        {{.cn = "x", .issuer = &root, .digest = "SHA1"}, &root, NULL, MUSTER_ECERTWEAKHASH},
        {{.cn = "x", .issuer = &foreign}, &root, NULL, MUSTER_ECERTUNTRUSTED},
        {{.cn = "x", .issuer = &none}, &root, NULL, MUSTER_ECERTUNTRUSTED},
        {{.cn = "x"}, &root, NULL, MUSTER_ECERTISCA}, /* a version 1 certificate that signs itself counts as a CA */
        {{.cn = "x", .issuer = &not_ca}, &root, &not_ca, MUSTER_ECERTUNTRUSTED},
        {{.cn = "x", .issuer = &old_between}, &root, &old_between, MUSTER_ECERTEXPIRED},
        {{.cn = "x", .issuer = &too_deep}, &short_path, &too_deep, MUSTER_ECHAININVALID},
        {{.cn = "x", .issuer = &root, .ext = EXT("1.2.3.4", "critical,ASN1:NULL")}, &root, NULL, MUSTER_ECHAININVALID},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct made leaf = make_it(rows[i].recipe);
        struct err err = ERR_INIT;
        int rc = judge_at(rows[i].root, &leaf, rows[i].between, clock_now(), &err);
        if (rc != rows[i].rc)
            fail_msg("row %zu: %s (%s), not %s", i, err_code(rc), err_text(&err), err_code(rows[i].rc));
        assert_true(err.text[0] != '\0' || rc == MUSTER_ECERTISCA);
        made_free(&leaf);
    }
    made_free(&root), made_free(&foreign), made_free(&none), made_free(&not_ca), made_free(&old_between), made_free(&short_path), made_free(&too_deep);
}

/* X509_verify_cert picks one issuer by name and does not go back. */
static void roots_of_one_name(void **state) {
    struct made a = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT}), b = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT});
    struct made under_a = make_it((struct recipe){.cn = "x", .issuer = &a}), under_b = make_it((struct recipe){.cn = "x", .issuer = &b});
    struct anchor_set *s = anchors_of(&a);
    struct cert *copy = NULL;
    assert_int_equal(cert_from_x509(b.cert->x, &copy, NULL), 0);
    assert_int_equal(anchor_set_add(s, copy, NULL, 0, &b), 0);
    struct chain_found found;
    assert_int_equal(chain_judge(s, under_a.cert, NULL, 0, clock_now(), &found, NULL), 0);
    assert_true(hash_eq(&found.at[0]->cert->fingerprint, &a.cert->fingerprint));
    assert_int_equal(chain_judge(s, under_b.cert, NULL, 0, clock_now(), &found, NULL), 0);
    assert_ptr_equal(found.at[0]->tag, &b);
    anchor_set_unref(s);
    made_free(&a), made_free(&b), made_free(&under_a), made_free(&under_b);
}

static void our_issuing_ca(void **state) {
    struct made root = make_it((struct recipe){.cn = "root", .ext = CA_EXT, .to = 9 * CLOCK_DAY});
    struct made issuing = make_it((struct recipe){.cn = "issuing", .issuer = &root, .ext = CA_EXT, .to = 2 * CLOCK_HOUR});
    struct made leaf = make_it((struct recipe){.cn = "x", .issuer = &issuing, .to = 5 * CLOCK_DAY});
    struct anchor_set *s = anchor_set_new();
    struct cert *r = NULL, **under = calloc(1, sizeof *under);
    assert_int_equal(cert_from_x509(root.cert->x, &r, NULL) || cert_from_x509(issuing.cert->x, &under[0], NULL), 0);
    assert_int_equal(anchor_set_add(s, r, under, 1, NULL), 0);
    struct chain_found found;
    assert_int_equal(chain_judge(s, leaf.cert, NULL, 0, clock_now(), &found, NULL), 0);
    assert_int_equal(found.until, issuing.cert->not_after);
    assert_int_equal(chain_judge(s, leaf.cert, NULL, 0, clock_now() + 3 * CLOCK_HOUR, &found, NULL), MUSTER_ECERTEXPIRED);
    assert_int_equal(found.n, 1);
    assert_int_equal(found.ended, issuing.cert->not_after);
    anchor_set_unref(s);
    made_free(&root), made_free(&issuing), made_free(&leaf);
}

/* When a chain ended is said where nothing but time is wrong with it. */
static void when_it_ended(void **state) {
    struct made root = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT, .from = -20 * CLOCK_DAY});
    struct made foreign = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT, .from = -20 * CLOCK_DAY}); /* the same name, another key */
    struct made young = make_it((struct recipe){.cn = "young", .ext = CA_EXT, .from = -CLOCK_DAY / 2});
    struct made old = make_it((struct recipe){.cn = "old", .issuer = &root, .ext = CA_EXT, .from = -20 * CLOCK_DAY, .to = -2 * CLOCK_DAY});
    const int64_t from = -10 * CLOCK_DAY, to = -CLOCK_DAY;
    const struct {
        const char *what;
        struct recipe recipe;
        const struct made *root, *between;
        int64_t ended; /* seconds from now; 0: not said */
    } rows[] = {
        {"its own end", {.cn = "x", .issuer = &root, .from = from, .to = to}, &root, NULL, to},
        {"the end of the CA between", {.cn = "x", .issuer = &old, .from = from, .to = CLOCK_DAY}, &root, &old, -2 * CLOCK_DAY},
        {"both, the earlier one", {.cn = "x", .issuer = &old, .from = from, .to = to}, &root, &old, -2 * CLOCK_DAY},
        {"another one's signature", {.cn = "x", .issuer = &foreign, .from = from, .to = to}, &root, NULL, 0},
        {"a weak hash", {.cn = "x", .issuer = &root, .from = from, .to = to, .digest = "SHA1"}, &root, NULL, 0},
        {"a weak key", {.cn = "x", .issuer = &root, .from = from, .to = to, .key = EVP_RSA_gen(1024)}, &root, NULL, 0},
        {"no certificate of a client", {.cn = "x", .issuer = &root, .from = from, .to = to, .ext = EXT("extendedKeyUsage", "serverAuth")}, &root, NULL, 0},
        {"a CA", {.cn = "x", .issuer = &root, .from = from, .to = to, .ext = CA_EXT}, &root, NULL, 0},
        {"over before its CA began", {.cn = "x", .issuer = &young, .from = from, .to = to}, &young, NULL, 0},
        {"not yet valid", {.cn = "x", .issuer = &root, .from = CLOCK_DAY, .to = 2 * CLOCK_DAY}, &root, NULL, 0},
        {"good", {.cn = "x", .issuer = &root}, &root, NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct made leaf = make_it(rows[i].recipe);
        struct anchor_set *s = anchors_of(rows[i].root);
        struct cert *presented[1] = {rows[i].between ? rows[i].between->cert : NULL};
        struct chain_found found;
        const int64_t now = clock_now();
        (void)!chain_judge(s, leaf.cert, presented, rows[i].between ? 1 : 0, now, &found, NULL);
        assert_int_equal(found.used, rows[i].between ? 1 : 0); /* of a path that has ended too */
        if (rows[i].ended ? llabs(found.ended - now - rows[i].ended) > 60 : found.ended != 0)
            fail_msg("%s: %lld", rows[i].what, (long long)(found.ended ? found.ended - now : 0));
        anchor_set_unref(s);
        made_free(&leaf);
    }
    made_free(&root), made_free(&foreign), made_free(&young), made_free(&old);
}

/* An anchor that somebody else put there hides nobody's own. */
static void every_anchor_is_found(void **state) {
    struct made root = make_it((struct recipe){.cn = "root", .ext = CA_EXT}), between = make_it((struct recipe){.cn = "between", .ext = CA_EXT, .issuer = &root});
    EVP_PKEY_up_ref(root.key);
    struct made twin = make_it((struct recipe){.cn = "root", .ext = CA_EXT, .key = root.key}); /* written anew around the same key */
    struct made leaf = make_it((struct recipe){.cn = "x", .issuer = &between});
    struct anchor_set *s = anchors_of(&between);
    struct cert *copy = NULL;
    struct chain_found found;
    assert_int_equal(cert_from_x509(twin.cert->x, &copy, NULL) || anchor_set_add(s, copy, NULL, 0, &twin), 0);
    assert_int_equal(cert_from_x509(root.cert->x, &copy, NULL) || anchor_set_add(s, copy, NULL, 0, &root), 0);
    assert_int_equal(chain_judge(s, leaf.cert, &between.cert, 1, clock_now(), &found, NULL), 0);
    assert_int_equal(found.n, 3);
    anchor_set_unref(s);
    made_free(&root), made_free(&between), made_free(&twin), made_free(&leaf);
}

static void too_many(void **state) {
    struct made root = make_it((struct recipe){.cn = "root", .ext = CA_EXT}), leaf = make_it((struct recipe){.cn = "x", .issuer = &root});
    struct cert *many[8] = {root.cert, root.cert, root.cert, root.cert, root.cert, root.cert, root.cert, root.cert};
    struct anchor_set *s = anchors_of(&root);
    struct chain_found found;
    assert_int_equal(chain_judge(s, leaf.cert, many, 7, clock_now(), &found, NULL), 0);
    assert_int_equal(chain_judge(s, leaf.cert, many, 8, clock_now(), &found, NULL), MUSTER_ECHAINLONG);
    anchor_set_unref(s);
    made_free(&root), made_free(&leaf);
}

/* Many CAs of one name, each signing the next in every order: bounded work, whatever the answer. */
static void work_is_bounded(void **state) {
    struct made root = make_it((struct recipe){.cn = "n", .ext = CA_EXT}), fake[7];
    struct cert *presented[7];
    for (int i = 0; i < 7; i++) {
        fake[i] = make_it((struct recipe){.cn = "n", .ext = CA_EXT});
        presented[i] = fake[i].cert;
    }
    struct made stranger = make_it((struct recipe){.cn = "n", .ext = CA_EXT}), leaf = make_it((struct recipe){.cn = "leaf", .issuer = &stranger});
    struct anchor_set *s = anchors_of(&root);
    struct chain_found found;
    int64_t before = clock_mono_ms();
    assert_int_equal(chain_judge(s, leaf.cert, presented, 7, clock_now(), &found, NULL), MUSTER_ECERTUNTRUSTED);
    assert_true(clock_mono_ms() - before < 2000);
    anchor_set_unref(s);
    for (int i = 0; i < 7; i++)
        made_free(&fake[i]);
    made_free(&root), made_free(&stranger), made_free(&leaf);
}

/* Roots of one name by the dozen, as a hostile account could upload them, hide nobody's device. */
static void namesakes_hide_nobody(void **state) {
    struct made root = make_it((struct recipe){.cn = "Fleet Root", .ext = CA_EXT}), line = make_it((struct recipe){.cn = "Line 1", .ext = CA_EXT, .issuer = &root});
    struct made leaf = make_it((struct recipe){.cn = "x", .issuer = &line}), direct = make_it((struct recipe){.cn = "y", .issuer = &root});
    struct anchor_set *s = anchor_set_new();
    struct chain_found found;
    for (int i = 0; i < 100; i++) {
        struct made fake = make_it((struct recipe){.cn = i % 2 ? "Line 1" : "Fleet Root", .ext = CA_EXT});
        struct cert *copy = NULL;
        assert_int_equal(cert_from_x509(fake.cert->x, &copy, NULL) || anchor_set_add(s, copy, NULL, 0, NULL), 0);
        made_free(&fake);
    }
    struct cert *own = NULL;
    assert_int_equal(cert_from_x509(root.cert->x, &own, NULL) || anchor_set_add(s, own, NULL, 0, &root), 0);
    assert_int_equal(chain_judge(s, leaf.cert, &line.cert, 1, clock_now(), &found, NULL), 0);
    assert_int_equal(found.n, 1);
    assert_ptr_equal(found.at[0]->tag, &root);
    assert_int_equal(chain_judge(s, direct.cert, NULL, 0, clock_now(), &found, NULL), 0);
    anchor_set_unref(s);
    made_free(&root), made_free(&line), made_free(&leaf), made_free(&direct);
}

/* One key's certificates for its own name lead in as many ways as there are orders of them: what the device sent is at fault, and is told so. */
static void too_many_of_one_name_are_given_up(void **state) {
    struct made root = make_it((struct recipe){.cn = "Root", .ext = CA_EXT}), leaf = make_it((struct recipe){.cn = "dev", .issuer = &root}), twin[7];
    struct cert *presented[7];
    struct anchor_set *set = anchors_of(&root);
    struct chain_found found;
    struct err err = ERR_INIT;
    for (int i = 0; i < 7; i++) {
        twin[i] = make_it((struct recipe){.cn = "Root", .ext = CA_EXT, .key = root.key, .to = (100 + i) * CLOCK_DAY});
        presented[i] = twin[i].cert;
    }
    assert_int_equal(chain_judge(set, leaf.cert, presented, 2, clock_now(), &found, NULL), 0);
    assert_int_equal(chain_judge(set, leaf.cert, presented, 7, clock_now(), &found, &err), MUSTER_ECHAINLONG);
    assert_true(found.n == 0 && strstr(err_text(&err), "128 signatures"));
    anchor_set_unref(set);
    for (int i = 0; i < 7; i++)
        cert_free(twin[i].cert);
    made_free(&root), made_free(&leaf);
}

static void roots(void **state) {
    const struct {
        struct recipe recipe;
        int rc;
    } rows[] = {
        {{.cn = "r", .ext = CA_EXT}, 0},
        {{.cn = "r"}, 0}, /* version 1, self-signed */
        {{.cn = "r", .ext = EXT("basicConstraints", "CA:FALSE")}, MUSTER_EROOTUNFIT},
        {{.cn = "r", .ext = EXT("basicConstraints", "CA:TRUE", "keyUsage", "digitalSignature")}, MUSTER_EROOTUNFIT},
        {{.cn = "r", .ext = CA_EXT, .from = -2 * CLOCK_DAY, .to = -CLOCK_DAY}, MUSTER_EROOTUNFIT},
        {{.cn = "r", .ext = CA_EXT, .from = CLOCK_HOUR, .to = CLOCK_DAY}, MUSTER_EROOTUNFIT},
        {{.cn = "r", .ext = CA_EXT, .digest = "SHA1"}, MUSTER_EROOTUNFIT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct made m = make_it(rows[i].recipe);
        struct err err = ERR_INIT;
        if (chain_root_fit(m.cert, clock_now(), &err) != rows[i].rc)
            fail_msg("row %zu: %s", i, err_text(&err));
        made_free(&m);
    }
}

/* A CA and its renewed certificate, shown together in either order: both are on a path; one of that name with another key is not. */
static void a_renewed_intermediate_counts(void **state) {
    const char *const *leaf_ext = EXT("keyUsage", "critical,digitalSignature", "extendedKeyUsage", "clientAuth");
    struct made root = make_it((struct recipe){.cn = "Root", .ext = CA_EXT, .to = 4000 * CLOCK_DAY});
    struct made old = make_it((struct recipe){.cn = "Line", .ext = CA_EXT, .issuer = &root, .to = 20 * CLOCK_DAY});
    struct made renewed = make_it((struct recipe){.cn = "Line", .ext = CA_EXT, .issuer = &root, .key = old.key, .to = 3000 * CLOCK_DAY});
    struct made namesake = make_it((struct recipe){.cn = "Line", .ext = CA_EXT, .issuer = &root, .to = 3000 * CLOCK_DAY});
    struct made stranger = make_it((struct recipe){.cn = "Root", .ext = CA_EXT, .to = 4000 * CLOCK_DAY});
    struct made forged = make_it((struct recipe){.cn = "Line", .ext = CA_EXT, .issuer = &stranger, .key = old.key, .to = 3000 * CLOCK_DAY});
    struct made leaf = make_it((struct recipe){.cn = "dev", .ext = leaf_ext, .issuer = &old, .to = 1000 * CLOCK_DAY});
    struct anchor_set *set = anchors_of(&root);
    struct cert *const orders[2][4] = {{old.cert, renewed.cert, namesake.cert, forged.cert}, {renewed.cert, namesake.cert, forged.cert, old.cert}};
    const unsigned used[2] = {0x3, 0x9};
    for (int i = 0; i < 2; i++) {
        struct chain_found found;
        assert_int_equal(chain_judge(set, leaf.cert, orders[i], 4, clock_now(), &found, NULL), 0);
        assert_int_equal(found.used, used[i]);
        assert_int_equal(chain_judge(set, leaf.cert, orders[i], 4, clock_now() + 30 * CLOCK_DAY, &found, NULL), 0);
        assert_int_equal(found.used, used[i]);
    }
    anchor_set_unref(set);
    for (struct made *m[] = {&root, &old, &namesake, &stranger, &leaf}, **i = m; i < m + 5; i++) {
        cert_free((*i)->cert);
        EVP_PKEY_free((*i)->key);
    }
    cert_free(renewed.cert); /* of old's key */
    cert_free(forged.cert);
}

/* A root that was renewed with its key, as many makers of devices do: what a device sends of the old one, which has ended, is not on its path. */
static void an_old_root_beside_its_renewal(void **state) {
    struct made old = make_it((struct recipe){.cn = "Root", .ext = CA_EXT, .from = -400 * CLOCK_DAY, .to = -10 * CLOCK_DAY});
    struct made renewed = make_it((struct recipe){.cn = "Root", .ext = CA_EXT, .key = old.key, .to = 3000 * CLOCK_DAY});
    struct made leaf = make_it((struct recipe){.cn = "dev", .issuer = &old, .to = 1000 * CLOCK_DAY});
    struct anchor_set *set = anchors_of(&renewed);
    struct chain_found found;
    assert_int_equal(chain_judge(set, leaf.cert, &old.cert, 1, clock_now(), &found, NULL), 0);
    assert_int_equal(found.until, leaf.cert->not_after);
    assert_int_equal(found.used, 0);
    anchor_set_unref(set);
    cert_free(renewed.cert); /* of old's key */
    made_free(&old), made_free(&leaf);
}

/* A root with a new key and the old name, certified by the old one (RFC 4210, 4.4), with the key identifiers that RFC 5280, 4.2.1.1 wants of CAs. */
static void a_new_root_under_the_old_one(void **state) {
    const char *const *across_ext = EXT("basicConstraints", "critical,CA:TRUE", "subjectKeyIdentifier", "hash", "authorityKeyIdentifier", "keyid:always");
    struct made old = make_it((struct recipe){.cn = "Root", .ext = EXT("basicConstraints", "critical,CA:TRUE", "subjectKeyIdentifier", "hash"), .to = 3000 * CLOCK_DAY});
    struct made across = make_it((struct recipe){.cn = "Root", .ext = across_ext, .issuer = &old, .to = 2000 * CLOCK_DAY});
    struct made leaf = make_it((struct recipe){.cn = "dev", .issuer = &across, .to = 2500 * CLOCK_DAY});
    struct anchor_set *set = anchors_of(&old);
    struct chain_found found;
    assert_int_equal(chain_judge(set, leaf.cert, &across.cert, 1, clock_now(), &found, NULL), 0);
    assert_int_equal(found.until, across.cert->not_after);
    assert_int_equal(found.used, 1);
    assert_int_equal(chain_judge(set, leaf.cert, NULL, 0, clock_now(), &found, NULL), MUSTER_ECERTUNTRUSTED);
    anchor_set_unref(set);
    made_free(&old), made_free(&across), made_free(&leaf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted), cmocka_unit_test(kinds_of_keys), cmocka_unit_test(refused),         cmocka_unit_test(roots_of_one_name),
        cmocka_unit_test(our_issuing_ca), cmocka_unit_test(when_it_ended), cmocka_unit_test(every_anchor_is_found),      cmocka_unit_test(namesakes_hide_nobody),
        cmocka_unit_test(too_many_of_one_name_are_given_up),
        cmocka_unit_test(too_many), cmocka_unit_test(work_is_bounded), cmocka_unit_test(roots), cmocka_unit_test(a_renewed_intermediate_counts),
        cmocka_unit_test(an_old_root_beside_its_renewal), cmocka_unit_test(a_new_root_under_the_old_one),
    };
    return secret_init() || cmocka_run_group_tests(tests, NULL, NULL);
}
