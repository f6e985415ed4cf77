/* vault: what the gateway's channel to the vault gives to somebody who writes the messages himself; see attack.h.
 *
 * "vault WHAT ACCOUNT: CODE", or "vault WHAT ACCOUNT: issued" behind a line "certificate ACCOUNT HEX". */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/core_names.h>

#include "attack.h"
#include "base/clock.h"
#include "base/hex.h"
#include "loop/record.h"
#include "vault/wire.h"

#define ANSWER_MS 10000
#define BACK_SECONDS 60
#define OF_CEILING 2000 /* asked for, of an account whose ceiling is far below */
#define ARBITRARY 2000

static uint32_t last_id;

/* 1 and *answer; 0: the vault has ended the channel, or its own process. */
static int ask(struct attack *a, size_t loop, struct span message, struct wire_answer *answer) {
    static uint8_t into[WIRE_MESSAGE_MAX];
    struct pollfd p = {.fd = a->vault[loop], .events = POLLIN};
    struct span got;
    if (record_send(a->vault[loop], message) || poll(&p, 1, ANSWER_MS) != 1)
        return 0;
    return record_receive(a->vault[loop], into, sizeof into, &got) == 1 && wire_answer_read(got, answer) == 0;
}

static struct span written(struct wire_request *rq, struct buf *out) {
    buf_clear(out);
    rq->id = ++last_id;
    return wire_request_write(rq, out) ? SPAN_NONE : buf_span(out);
}

static void show(const char *account, const struct wire_answer *answer) {
    CLEANUP(buf_fini) struct buf hex = BUF_INIT(8192);
    hex_add(&hex, answer->issued.der);
    say("certificate %s %s", account, buf_str(&hex));
}

static const char *result(const char *account, int got, const struct wire_answer *answer) {
    if (!got)
        return "ended";
    if (answer->rc)
        return err_code(answer->rc);
    show(account, answer);
    return "issued";
}

/* The vault answers again, after it was started anew and greeted. */
static bool back(struct attack *a, size_t loop) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX);
    struct wire_request rq = {.type = WIRE_ISSUE, .issue.account = SPAN_LIT("none")};
    struct wire_answer answer;
    if (!attack_wait_channel(a, loop, BACK_SECONDS))
        return false;
    for (int64_t until = clock_mono_ms() + BACK_SECONDS * 1000; clock_mono_ms() < until; poll(NULL, 0, 20)) {
        if (!ask(a, loop, written(&rq, &out), &answer) && !attack_wait_channel(a, loop, BACK_SECONDS))
            return false;
        if (answer.rc == MUSTER_ENOTFOUND)
            return true;
    }
    return false;
}

/* --- public keys ------------------------------------------------------------------------------------------------------------------------ */

/* [3] extensions with basicConstraints CA:TRUE, as a certificate has them behind its key. */
static const uint8_t CA_EXTENSIONS[] = {0xa3, 0x13, 0x30, 0x11, 0x30, 0x0f, 0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x05, 0x30, 0x03, 0x01, 0x01, 0xff};

enum shape { PLAIN, TRAILING, EXTENDED, OFF_CURVE, AT_INFINITY, COMPRESSED, LONG_FORM, CUT, EMPTY, NOISE, P384, P521, ED25519, RSA };

static void generated(enum key_kind kind, int bits, const char *encoding, struct buf *out) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = kind == KEY_P521 ? EVP_EC_gen("P-521") : NULL; /* Muster makes none */
    buf_clear(out);
    if ((!key && key_generate(kind, bits, &key, NULL)) || (encoding && EVP_PKEY_set_utf8_string_param(key, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, encoding) != 1) ||
        key_public_der(key, out, NULL))
        abort();
}

static void key_of(enum shape shape, struct buf *out) {
    generated(shape == P384 ? KEY_P384 : shape == P521 ? KEY_P521 : shape == ED25519 ? KEY_ED25519 : shape == RSA ? KEY_RSA : KEY_P256, 2048, shape == COMPRESSED ? "compressed" : NULL, out);
    switch (shape) {
    case TRAILING:
        buf_addc(out, 0);
        break;
    case EXTENDED:
        buf_add(out, span_of(CA_EXTENSIONS, sizeof CA_EXTENSIONS));
        break;
    case OFF_CURVE:
        out->p[out->n - 1] ^= 1;
        break;
    case AT_INFINITY:
        memset(out->p + out->n - KEY_P256_POINT_LEN + 1, 0, KEY_P256_POINT_LEN - 1);
        break;
    case LONG_FORM: { /* 30 59 … as 30 81 59 … */
        CLEANUP(buf_fini) struct buf again = BUF_INIT(256);
        buf_add(&again, span_sub(buf_span(out), 0, 1));
        buf_addc(&again, 0x81);
        buf_add(&again, span_sub(buf_span(out), 1, out->n));
        buf_clear(out);
        buf_add(out, buf_span(&again));
        break;
    }
    case CUT:
        out->n -= 1;
        break;
    case EMPTY:
        buf_clear(out);
        break;
    case NOISE:
        secret_random_bytes(out->p, out->n);
        break;
    case PLAIN:
    case COMPRESSED:
    case P384:
    case P521:
    case ED25519:
    case RSA:
        break;
    }
}

/* --- requests that are well-formed ------------------------------------------------------------------------------------------------------- */

#define LONG_ID "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
static const struct {
    const char *what;
    struct span id;
    enum shape key;
    int64_t life;
    struct span narrow;
} ISSUES[] = {
    {"as_ever", SPAN_LIT("bought"), PLAIN, 0},
    {"another_device", SPAN_LIT("victim"), PLAIN, 0},
    {"a_host_name", SPAN_LIT("localhost"), PLAIN, 0},
    {"a_ca_by_name", SPAN_LIT("Muster server CA"), PLAIN, 0},
    {"a_name_in_a_name", SPAN_LIT("x/O=other/CN=root,O=wide"), PLAIN, 0},
    {"128_bytes", {(const uint8_t *)LONG_ID, 128}, PLAIN, 0},
    {"129_bytes", {(const uint8_t *)LONG_ID, 129}, PLAIN, 0},
    {"no_id", SPAN_LIT(""), PLAIN, 0},
    {"nul_in_id", SPAN_LIT("a\0b"), PLAIN, 0},
    {"control_in_id", SPAN_LIT("a\nb"), PLAIN, 0},
    {"no_utf8", SPAN_LIT("\xff\xfe"), PLAIN, 0},
    {"der_as_id", {CA_EXTENSIONS, sizeof CA_EXTENSIONS}, PLAIN, 0},
    {"a_challenge", SPAN_LIT("muster-challenge-0123456789abcdef"), PLAIN, 0},
    {"a_second", SPAN_LIT("short"), PLAIN, 1},
    {"for_ever", SPAN_LIT("long"), PLAIN, INT64_MAX},
    {"a_century", SPAN_LIT("long"), PLAIN, 100 * CLOCK_YEAR},
    {"below_zero", SPAN_LIT("long"), PLAIN, -1},
    {"far_below_zero", SPAN_LIT("long"), PLAIN, INT64_MIN},
    {"trailing_byte", SPAN_LIT("key"), TRAILING, 0},
    {"extensions_behind_the_key", SPAN_LIT("key"), EXTENDED, 0},
    {"off_the_curve", SPAN_LIT("key"), OFF_CURVE, 0},
    {"at_infinity", SPAN_LIT("key"), AT_INFINITY, 0},
    {"compressed", SPAN_LIT("key"), COMPRESSED, 0},
    {"long_form", SPAN_LIT("key"), LONG_FORM, 0},
    {"cut_key", SPAN_LIT("key"), CUT, 0},
    {"no_key", SPAN_LIT("key"), EMPTY, 0},
    {"noise", SPAN_LIT("key"), NOISE, 0},
    {"p384", SPAN_LIT("key"), P384, 0},
    {"ed25519", SPAN_LIT("key"), ED25519, 0},
    {"p521", SPAN_LIT("key"), P521, 0},
    {"rsa", SPAN_LIT("key"), RSA, 0},
    /* What a provisioning key allows is told to the vault by the gateway; it only takes away. */
    {"narrowed", SPAN_LIT("narrow"), PLAIN, 0, SPAN_LIT("keys=p256\nlife=3600\n")},
    {"narrowed_wider", SPAN_LIT("narrow"), RSA, INT64_MAX, SPAN_LIT("keys=rsa2048\nlife=9223372036854775807\nlife_max=9223372036854775807\n")},
    {"narrowed_to_longer", SPAN_LIT("narrow"), PLAIN, INT64_MAX, SPAN_LIT("usages=digital-signature,key-agreement,content-commitment\nlife=9223372036854775807\nlife_max=9223372036854775807\n")},
    {"narrowed_to_names", SPAN_LIT("narrow"), PLAIN, 0, SPAN_LIT("subject=O=Muster,OU=Servers,CN={device_id}\nsan=dns:{device_id}.example.com\n")},
    {"narrowed_by_noise", SPAN_LIT("narrow"), PLAIN, 0, SPAN_LIT("eku=serverAuth\n")},
};

static int issue(struct attack *a, size_t loop, const char *account, struct span id, struct span key, int64_t life, struct span narrow, struct buf *out, struct wire_answer *answer) {
    struct wire_request rq = {.type = WIRE_ISSUE, .issue = {.account = span_str(account), .device_id = id, .uuid = uuid_new(), .public_key = key, .life = life, .narrow = narrow}};
    return ask(a, loop, written(&rq, out), answer);
}

/* Of random bytes, random lengths, and everything in a random place. */
static void arbitrary(struct attack *a, const char *account) {
    static uint8_t id[300], key[2000];
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX);
    CLEANUP(buf_fini) struct buf good = BUF_INIT(4096);
    int issued = 0, ended = 0;
    key_of(PLAIN, &good);
    for (int i = 0; i < ARBITRARY && !ended; i++) {
        struct wire_answer answer;
        uint16_t n[2];
        int64_t life;
        secret_random_bytes(id, sizeof id);
        secret_random_bytes(key, sizeof key);
        secret_random_bytes(n, sizeof n);
        secret_random_bytes(&life, sizeof life);
        size_t key_n = n[1] % sizeof key, id_n = n[0] % sizeof id;
        if (i % 16 == 0) { /* that would do, for any life */
            memcpy(key, good.p, good.n);
            key_n = good.n;
            life &= INT64_MAX;
            id_n = (size_t)snprintf((char *)id, sizeof id, "arbitrary-%d", i);
        } else if (i % 2) { /* the key that would do, with one byte of it changed */
            memcpy(key, good.p, good.n);
            key_n = good.n;
            key[n[1] % good.n] ^= (uint8_t)(1 << n[0] % 8);
        }
        ended = !issue(a, 0, account, span_of(id, id_n), span_of(key, key_n), life, SPAN_NONE, &out, &answer);
        if (!ended && answer.rc == 0) {
            show(account, &answer);
            issued++;
        }
    }
    say("vault arbitrary %s: %d issued%s", account, issued, ended ? ", ended" : "");
}

/* The same message a hundred times. */
static void replay(struct attack *a, const char *account) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX);
    CLEANUP(buf_fini) struct buf key = BUF_INIT(4096);
    struct wire_answer answer;
    int issued = 0;
    key_of(PLAIN, &key);
    for (int i = 0; i < 100; i++) {
        struct wire_request rq = {.id = 7, .type = WIRE_ISSUE, .issue = {.account = span_str(account), .device_id = SPAN_LIT("replayed"), .public_key = buf_span(&key)}};
        buf_clear(&out);
        if (wire_request_write(&rq, &out) || !ask(a, 0, buf_span(&out), &answer) || answer.rc)
            break;
        show(account, &answer);
        issued++;
    }
    say("vault replay %s: %d issued", account, issued);
}

/* MUSTER_ATTACK_ACCOUNTS: their names. */
void attack_vault(struct attack *a) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX);
    CLEANUP(buf_fini) struct buf key = BUF_INIT(8192);
    CLEANUP(free) char *names = strdup(given("MUSTER_ATTACK_ACCOUNTS"));
    char *rest = NULL, *first = NULL;
    for (char *account = strtok_r(names, " ", &rest); account; account = strtok_r(NULL, " ", &rest)) {
        first = first ? first : account;
        for (size_t i = 0; i < sizeof ISSUES / sizeof *ISSUES; i++) {
            struct wire_answer answer;
            key_of(ISSUES[i].key, &key);
            int got = issue(a, i % a->o->loops, account, ISSUES[i].id, buf_span(&key), ISSUES[i].life, ISSUES[i].narrow, &out, &answer);
            say("vault %s %s: %s", ISSUES[i].what, account, result(account, got, &answer));
        }
    }
    if (first) {
        arbitrary(a, first);
        replay(a, first);
    }
}

static int issue_many(struct attack *a, const char *account, int n) {
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX);
    CLEANUP(buf_fini) struct buf key = BUF_INIT(4096);
    struct wire_answer answer = {0};
    int issued = 0, last = 0;
    key_of(PLAIN, &key);
    for (int i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "one-of-many-%d", i);
        if (!issue(a, (size_t)i % a->o->loops, account, span_str(id), buf_span(&key), 0, SPAN_NONE, &out, &answer))
            break;
        last = answer.rc;
        issued += answer.rc == 0;
    }
    say("ceiling %s: %d of %d issued, then %s", account, issued, n, err_code(last));
    return issued;
}

static const char *forbid(struct attack *a, struct span message);

/* MUSTER_ATTACK_NARROW: an account.  Before and after the vault was ended and started again. */
void attack_ceiling(struct attack *a) {
    static const uint8_t nonsense[] = {0, 0, 0, 1, 0xff, 0xff};
    const char *account = given("MUSTER_ATTACK_NARROW");
    int before = issue_many(a, account, OF_CEILING);
    const char *end = forbid(a, span_of(nonsense, sizeof nonsense));
    int after = issue_many(a, account, OF_CEILING);
    say("ceiling %s: %d before, %s, %d after", account, before, end, after);
}

/* --- requests that the channel does not carry ---------------------------------------------------------------------------------------------- */

/* What comes of it; waits for the next vault where it was the last one's end. */
static const char *forbid(struct attack *a, struct span message) {
    struct wire_answer answer = {0};
    const size_t last = a->o->loops - 1;
    if (ask(a, last, message, &answer))
        return answer.rc ? err_code(answer.rc) : "answered";
    for (size_t i = 0; i < a->o->loops; i++)
        if (!back(a, i))
            return "ended, and not back";
    return "ended, and back";
}

static void fill(struct wire_request *rq, struct span key) {
    const struct span account = span_str(given("MUSTER_ATTACK_NARROW"));
    struct vault_policy wide = {.set = VAULT_SET_LIFE_MAX | VAULT_SET_CEILING | VAULT_SET_RSA | VAULT_SET_PROFILE, .device_life_max = VAULT_LIFE_NONE, .ceiling = 10000000, .rsa_allowed = true, .profile = {.keys = PROFILE_KEYS_EC | PROFILE_KEYS_RSA, .usages = 15, .subject = "O=Muster,CN={device_id}", .san = "dns:{device_id}.example.com"}};
    switch (rq->type) {
    case WIRE_ACCOUNT_CREATE:
    case WIRE_ACCOUNT_POLICY:
        rq->account = (struct vault_account){.name = rq->type == WIRE_ACCOUNT_CREATE ? SPAN_LIT("attackers") : account, .kind = VAULT_TEST, .method = VAULT_BOTH, .policy = wide};
        return;
    case WIRE_ACCOUNT_SHOW:
    case WIRE_ACCOUNT_DELETE:
    case WIRE_ISSUING_RENEW:
        rq->name = account;
        return;
    case WIRE_ROOT_ROTATE:
        rq->rotate.account = account;
        return;
    case WIRE_SERVER_ROTATE:
    case WIRE_SERVER_RETIRE:
        return;
    case WIRE_OCSP_SIGN:
        rq->ocsp = (struct vault_ocsp){.account = account, .life = CLOCK_DAY, .at = {{.hash = OCSP_SHA1, .serial = {1}, .serial_n = 1, .status = OCSP_GOOD}}, .n = 1};
        return;
    case WIRE_KEY_ISSUE:
        rq->key = (struct vault_key_issue){.account = account, .key = uuid_new(), .public_key = key};
        return;
    case WIRE_LINE_ISSUE:
        rq->line = (struct vault_line_issue){.account = account, .line = SPAN_LIT("attackers"), .public_key = key, .life = CLOCK_YEAR};
        return;
    case WIRE_SERVER_ISSUE:
        rq->server.names[0] = SPAN_LIT("localhost");
        rq->server.n = 1;
        rq->server.public_key = key;
        return;
    case WIRE_HEADS_SIGN:
        rq->heads.at[0] = (struct vault_head){.chain = account, .seq = 1};
        rq->heads.n = 1;
        return;
    case WIRE_EXPORT_ANSWER:
        rq->export.allowed = true;
        return;
    case WIRE_CRL_BEGIN:
        rq->crl = (struct vault_crl_begin){.account = account, .life = CLOCK_DAY};
        return;
    case WIRE_CRL_ENTRIES:
        rq->entries.at[0] = (struct crl_entry){.serial = {1}, .revoked = 1};
        rq->entries.n = 1;
        return;
    case WIRE_CRL_SIGN:
    case WIRE_HELLO:
    case WIRE_TIME:
    case WIRE_TIME_SIGN:
    case WIRE_ISSUE:
    case WIRE_SERVER_CA:
    case WIRE_AUDIT_KEY:
        return;
    }
}

static bool asked_for(const char *what) {
    const char *which = given("MUSTER_ATTACK_FORBIDDEN");
    return !*which || strstr(which, what);
}

static void say_forbidden(struct attack *a, const char *what, struct span message) {
    if (asked_for(what))
        say("forbidden %s: %s", what, forbid(a, message));
}

/* MUSTER_ATTACK_FORBIDDEN: which; each costs the vault's process. */
void attack_forbidden(struct attack *a) {
    static const enum wire_type TYPES[] = {
#define R(NAME, name, number, channels, needs) WIRE_##NAME,
#include "vault/requests.def"
#undef R
    };
    static uint8_t large[WIRE_MESSAGE_MAX + 1];
    CLEANUP(buf_fini) struct buf out = BUF_INIT(WIRE_MESSAGE_MAX);
    CLEANUP(buf_fini) struct buf key = BUF_INIT(4096);
    key_of(PLAIN, &key);
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        struct wire_request rq = {.type = TYPES[i]};
        if (TYPES[i] == WIRE_ISSUE || TYPES[i] == WIRE_TIME || TYPES[i] == WIRE_TIME_SIGN)
            continue;
        fill(&rq, buf_span(&key));
        say_forbidden(a, wire_name((uint16_t)TYPES[i]), written(&rq, &out));
    }
    struct wire_request rq = {.type = WIRE_TIME};
    struct span time = written(&rq, &out);
    buf_addc(&out, 0);
    say_forbidden(a, "trailing", buf_span(&out));
    say_forbidden(a, "cut", span_sub(time, 0, 5));
    memset(out.p, 0, 4);
    say_forbidden(a, "id_zero", span_sub(buf_span(&out), 0, time.n));
    secret_random_bytes(large, sizeof large);
    say_forbidden(a, "noise", span_of(large, 1000));
    say_forbidden(a, "oversized", span_of(large, sizeof large));
}
