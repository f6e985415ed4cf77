/* vault/issue: the requests that make certificates; see serve.h.  The vault is an issuer, not a signing oracle: names, profile, dates
 * and serial are chosen here, within the account's policy. */
#include "base/clock.h"
#include "vault/policy.h"
#include "vault/serve.h"

#define TIME_LIFE (7 * CLOCK_DAY) /* of the certificate of a key that signs times */
#define BACKDATE CLOCK_DAY /* for devices whose clock is behind */

static int public_key_facts(struct span der, struct key_facts *facts, struct err *err) {
    if (key_facts_from_public_der(der, facts, NULL))
        return err_set(err, MUSTER_EINVALID, "The public key cannot be read.");
    return 0;
}

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

/* One that was made while the clock ran ahead begins on a day to come: what it signed would be good for nothing until then. */
static int check_begun(const struct authority *ca, const char *what, const char *help, int64_t now, struct err *err) {
    char begin[CLOCK_RFC3339_LEN + 1];
    if (ca->cert->not_before <= now)
        return 0;
    clock_rfc3339(ca->cert->not_before, begin);
    return err_retry(err, MUSTER_EVAULT, SERVE_RETRY_SECONDS, "The account's %s begins at %s: the clock ran ahead when it was made, or is behind now. %s", what, begin, help);
}

static int check_root_begun(const struct account *a, int64_t now, struct err *err) {
    return check_begun(a->fleet_root, "fleet root", "Where the clock is right `muster root rotate` makes one that is good now.", now, err);
}

/* Signs what *rq says, with the dates set here: from a day before now until `life` from now, or until the CA's end. */
static int sign(struct vault *v, struct make_request *rq, struct authority *ca, struct key_store *keys, int64_t now, int64_t life,
                struct vault_issued *out, struct err *err) {
    struct buf *der = &v->der[0];
    if (ca->cert->not_after <= now)
        return err_retry(err, MUSTER_EVAULT, SERVE_RETRY_SECONDS, "The CA that would sign the certificate has expired; it has to be renewed first.");
    rq->not_before = now - BACKDATE;
    rq->not_after = earlier(life_end(now, life), ca->cert->not_after);
    trail_serial(rq->serial);
    buf_clear(der);
    int rc = authority_sign(ca, keys, rq, der, err);
    if (rc)
        return rc;
    *out = (struct vault_issued){.der = buf_span(der), .issuer = ca->cert->fingerprint, .not_before = rq->not_before, .not_after = rq->not_after};
    memcpy(out->serial, rq->serial, sizeof out->serial);
    return 0;
}

int serve_issue(struct vault *v, const struct wire_request *request, int64_t now, struct wire_answer *answer, struct err *err) {
    const struct vault_issue *given = &request->issue;
    struct account *a;
    struct key_facts facts;
    struct device_profile profile;
    int64_t life;
    int rc = serve_shared_account(v, given->account, &a, err);
    if (rc || (rc = policy_device_id(given->device_id, err)) || (rc = policy_device_profile(&a->policy, given->narrow, &profile, err)) ||
        (rc = public_key_facts(given->public_key, &facts, err)) || (rc = device_profile_key(&profile, &facts, given->narrow.n ? "The account, or the provisioning key," : "The account", err)) || (rc = policy_device_life(&profile, given->life, &life, err)))
        return rc;
    CLEANUP(device_profile_names_fini) struct device_profile_names names = DEVICE_PROFILE_NAMES_INIT;
    struct make_request rq = {.profile = PROFILE_DEVICE, .public_key = given->public_key};
    if ((rc = device_profile_fill(&profile, span_str(a->name), given->device_id, &given->uuid, &names, &rq, err)))
        return rc;
    if ((rc = check_root_begun(a, now, err)) || (rc = check_begun(a->issuing_ca, "issuing CA", "Where the clock is right another one takes its place in a moment.", now, err)))
        return rc;
    char ocsp[VAULT_OCSP_URL_MAX + 1 + VAULT_ACCOUNT_MAX + 1];
    if (v->ocsp_url && *v->ocsp_url) {
        snprintf(ocsp, sizeof ocsp, "%s/%s", v->ocsp_url, a->name);
        rq.ocsp = span_str(ocsp);
    }
    bool *counted = trail_counted(); /* a request that waited for its signature is counted once */
    if (!counted || !*counted) {
        if ((rc = count_take(v->counts, v->records, a->name, secret_span(&a->data_key), a->policy.ceiling, now, err)))
            return rc;
        if (counted)
            *counted = true;
    }
    return sign(v, &rq, a->issuing_ca, a->keys, now, life, &answer->issued, err);
}

int serve_key_issue(struct vault *v, const struct wire_request *request, int64_t now, struct wire_answer *answer, struct err *err) {
    const struct vault_key_issue *given = &request->key;
    struct account *a;
    struct key_facts facts;
    int64_t longest = v->core->lives.provisioning_key;
    int rc = serve_shared_account(v, given->account, &a, err);
    if (rc || (rc = public_key_facts(given->public_key, &facts, err)) || (rc = policy_provisioning_key(&facts, a->policy.rsa_allowed, err)))
        return rc;
    if (given->life < 0)
        return err_set(err, MUSTER_EINVALID, "The life of a certificate cannot be negative.");
    if ((rc = check_begun(a->provisioning_ca, "provisioning CA", "Where the clock is right `muster root rotate` makes one that is good now.", now, err)))
        return rc;
    char uuid[UUID_TEXT_LEN + 1];
    uuid_text(&given->key, uuid);
    struct make_request rq = {
        .profile = PROFILE_PROVISIONING_KEY,
        .subject.common_name = span_str(uuid),
        .subject.organisation = span_str(a->name),
        .subject.organisational_unit = SPAN_LIT("Provisioning keys"),
        .public_key = given->public_key,
    };
    return sign(v, &rq, a->provisioning_ca, a->keys, now, given->life ? earlier(given->life, longest) : longest, &answer->issued, err);
}

/* A CA of the account with that key would be bound by what binds a line, and the line by nothing. */
static bool is_cas_key(const struct account *a, const struct hash *spki) {
    bool same = hash_eq(&a->fleet_root->cert->key.spki, spki) || hash_eq(&a->issuing_ca->cert->key.spki, spki) || hash_eq(&a->provisioning_ca->cert->key.spki, spki);
    for (size_t i = 0; i < a->n_superseded; i++)
        same = same || hash_eq(&a->superseded[i]->cert->key.spki, spki);
    for (size_t i = 0; i < a->n_former; i++)
        same = same || hash_eq(&a->former[i].root->cert->key.spki, spki);
    return same;
}

int serve_line_issue(struct vault *v, const struct wire_request *request, int64_t now, struct wire_answer *answer, struct err *err) {
    const struct vault_line_issue *given = &request->line;
    struct account *a;
    struct key_facts facts;
    char name[sizeof "Factory line " + VAULT_LINE_MAX];
    int rc = serve_shared_account(v, given->account, &a, err);
    if (rc || (rc = public_key_facts(given->public_key, &facts, err)) || (rc = policy_line(given->line, &facts, err)))
        return rc;
    if (given->life <= 0)
        return err_set(err, MUSTER_EINVALID, "The life of a factory line's CA is above 0.");
    if ((rc = check_root_begun(a, now, err)))
        return rc;
    if (is_cas_key(a, &facts.spki) || hash_eq(&v->core->server_ca->cert->key.spki, &facts.spki))
        return err_set(err, MUSTER_EINVALID, "The key is one of Muster's own.");
    snprintf(name, sizeof name, "Factory line %.*s", SPAN_FMT(given->line));
    struct make_request rq = {
        .profile = PROFILE_LINE_CA,
        .subject = {.common_name = policy_too_long_for_cn(span_str(name)) ? given->line : span_str(name), .organisation = span_str(a->name), .organisational_unit = given->line},
        .public_key = given->public_key,
    };
    return sign(v, &rq, a->fleet_root, a->keys, now, earlier(given->life, VAULT_LINE_LIFE_MAX), &answer->issued, err);
}

int serve_server_issue(struct vault *v, const struct wire_request *request, int64_t now, struct wire_answer *answer, struct err *err) {
    struct key_facts facts;
    size_t n = request->server.n;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(VAULT_NAMES_MAX * 256);
    const char *names[VAULT_NAMES_MAX + 1] = {NULL};
    size_t at[VAULT_NAMES_MAX];
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        if ((rc = policy_server_name(request->server.names[i], err)))
            return rc;
        at[i] = text.n;
        buf_add(&text, request->server.names[i]);
        buf_addc(&text, '\0');
    }
    if ((rc = buf_check(&text, err)) || (rc = public_key_facts(request->server.public_key, &facts, err)) || (rc = policy_server_key(&facts, err)))
        return rc;
    for (size_t i = 0; i < n; i++)
        names[i] = (const char *)text.p + at[i];
    struct span first = request->server.names[0];
    struct make_request rq = {
        .profile = PROFILE_SERVER,
        .subject.common_name = policy_too_long_for_cn(first) ? SPAN_NONE : first,
        .subject.organisation = policy_too_long_for_cn(first) ? SPAN_LIT("Muster") : SPAN_NONE, /* a subject is never empty */
        .dns = names,
        .public_key = request->server.public_key,
    };
    return sign(v, &rq, core_gateway_ca(v->core, now), v->core->keys, now, v->core->lives.server, &answer->issued, err);
}

int issue_time_certificate(struct vault *v, struct span public_key, int64_t now, struct vault_issued *out, struct err *err) {
    struct make_request rq = {.profile = PROFILE_TIME, .subject.common_name = SPAN_LIT("Muster time"), .public_key = public_key};
    return sign(v, &rq, core_time_ca(v->core, now), v->core->keys, now, TIME_LIFE, out, err);
}
