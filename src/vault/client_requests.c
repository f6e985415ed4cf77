/* vault/client_requests: the request functions of vault.h.  A malformed message would end the vault, so what the wire cannot carry is refused
 * here; what the values mean the vault judges. */
#include "vault/client.h"

int vault_time(struct vault_client *c, vault_time_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_TIME};
    return client_ask(c, &rq, (union client_callback){.time = done}, arg, err);
}

int vault_time_sign(struct vault_client *c, struct span nonce, vault_time_sign_fn done, void *arg, struct err *err) {
    struct wire_request rq; /* as below */
    if (nonce.n < VAULT_TIME_NONCE_MIN || nonce.n > VAULT_TIME_NONCE_MAX)
        return err_set(err, MUSTER_EINVALID, "A nonce has %d to %d bytes.", VAULT_TIME_NONCE_MIN, VAULT_TIME_NONCE_MAX);
    rq.type = WIRE_TIME_SIGN;
    rq.nonce = nonce;
    return client_ask(c, &rq, (union client_callback){.time_sign = done}, arg, err);
}

int vault_issue(struct vault_client *c, const struct vault_issue *given, vault_issue_fn done, void *arg, struct err *err) {
    struct wire_request rq; /* its larger members stay as they are: clearing them costs more than the rest */
    rq.type = WIRE_ISSUE;
    rq.issue = *given;
    return client_ask(c, &rq, (union client_callback){.issue = done}, arg, err);
}

int vault_ocsp_sign(struct vault_client *c, const struct vault_ocsp *given, vault_ocsp_fn done, void *arg, struct err *err) {
    struct wire_request rq; /* likewise */
    bool shaped = given->n >= 1 && given->n <= OCSP_SINGLES_MAX && given->nonce.n <= OCSP_NONCE_MAX;
    for (size_t i = 0; shaped && i < given->n; i++)
        shaped = given->at[i].hash != OCSP_OTHER && given->at[i].serial_n >= 1 && given->at[i].serial_n <= OCSP_SERIAL_MAX;
    if (!shaped)
        return err_set(err, MUSTER_EINVALID, "That is no question to an OCSP responder.");
    rq.type = WIRE_OCSP_SIGN;
    rq.ocsp = *given;
    return client_ask(c, &rq, (union client_callback){.ocsp = done}, arg, err);
}

int vault_hello(struct vault_client *c, uint64_t log_version, vault_hello_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_HELLO, .log_version = log_version};
    return client_ask(c, &rq, (union client_callback){.hello = done}, arg, err);
}

/* Kind and method are a byte each on the wire. */
static int account_request(struct vault_client *c, enum wire_type type, const struct vault_account *given, vault_account_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = type, .account = *given};
    if ((unsigned)given->kind > UINT8_MAX || (unsigned)given->method > UINT8_MAX)
        return err_set(err, MUSTER_EINVALID, "There is no such kind or method.");
    return client_ask(c, &rq, (union client_callback){.account = done}, arg, err);
}

int vault_account_create(struct vault_client *c, const struct vault_account *rq, vault_account_fn done, void *arg, struct err *err) {
    return account_request(c, WIRE_ACCOUNT_CREATE, rq, done, arg, err);
}

int vault_account_policy(struct vault_client *c, const struct vault_account *rq, vault_account_fn done, void *arg, struct err *err) {
    return account_request(c, WIRE_ACCOUNT_POLICY, rq, done, arg, err);
}

int vault_account_show(struct vault_client *c, struct span account, vault_account_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_ACCOUNT_SHOW, .name = account};
    return client_ask(c, &rq, (union client_callback){.account = done}, arg, err);
}

int vault_issuing_renew(struct vault_client *c, struct span account, vault_account_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_ISSUING_RENEW, .name = account};
    return client_ask(c, &rq, (union client_callback){.account = done}, arg, err);
}

int vault_root_rotate(struct vault_client *c, const struct vault_root_rotate *given, vault_account_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_ROOT_ROTATE, .rotate = *given};
    return client_ask(c, &rq, (union client_callback){.account = done}, arg, err);
}

int vault_account_delete(struct vault_client *c, struct span account, vault_version_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_ACCOUNT_DELETE, .name = account};
    return client_ask(c, &rq, (union client_callback){.version = done}, arg, err);
}

int vault_key_issue(struct vault_client *c, const struct vault_key_issue *given, vault_issue_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_KEY_ISSUE, .key = *given};
    return client_ask(c, &rq, (union client_callback){.issue = done}, arg, err);
}

int vault_line_issue(struct vault_client *c, const struct vault_line_issue *given, vault_issue_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_LINE_ISSUE, .line = *given};
    return client_ask(c, &rq, (union client_callback){.issue = done}, arg, err);
}

int vault_server_issue(struct vault_client *c, const struct vault_server_issue *given, vault_issue_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_SERVER_ISSUE};
    if (given->n_names < 1 || given->n_names > VAULT_NAMES_MAX)
        return err_set(err, MUSTER_EINVALID, "A server certificate has 1 to %d names.", VAULT_NAMES_MAX);
    memcpy(rq.server.names, given->names, given->n_names * sizeof *given->names);
    rq.server.n = given->n_names;
    rq.server.public_key = given->public_key;
    return client_ask(c, &rq, (union client_callback){.issue = done}, arg, err);
}

int vault_server_ca(struct vault_client *c, vault_server_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_SERVER_CA};
    return client_ask(c, &rq, (union client_callback){.server = done}, arg, err);
}

int vault_server_rotate(struct vault_client *c, const struct vault_server_rotate *given, vault_server_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_SERVER_ROTATE, .server_rotate = *given};
    return client_ask(c, &rq, (union client_callback){.server = done}, arg, err);
}

int vault_server_retire(struct vault_client *c, const struct hash *spki, vault_server_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_SERVER_RETIRE, .spki = *spki};
    return client_ask(c, &rq, (union client_callback){.server = done}, arg, err);
}

int vault_audit_key(struct vault_client *c, vault_der_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_AUDIT_KEY};
    return client_ask(c, &rq, (union client_callback){.der = done}, arg, err);
}

int vault_heads_sign(struct vault_client *c, const struct vault_head *heads, size_t n, vault_heads_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_HEADS_SIGN};
    if (n < 1 || n > VAULT_HEADS_MAX)
        return err_set(err, MUSTER_EINVALID, "1 to %d heads are signed together.", VAULT_HEADS_MAX);
    for (size_t i = 0; i < n; i++)
        if (heads[i].chain.n > VAULT_ACCOUNT_MAX)
            return err_set(err, MUSTER_EINVALID, "The name of an audit chain has at most %d bytes.", VAULT_ACCOUNT_MAX);
    memcpy(rq.heads.at, heads, n * sizeof *heads);
    rq.heads.n = n;
    return client_ask(c, &rq, (union client_callback){.heads = done}, arg, err);
}

int vault_export_answer(struct vault_client *c, const uint8_t nonce[VAULT_NONCE_LEN], bool allowed, vault_done_fn done, void *arg, struct err *err) {
    struct wire_request rq = {.type = WIRE_EXPORT_ANSWER};
    memcpy(rq.export.nonce, nonce, sizeof rq.export.nonce);
    rq.export.allowed = allowed;
    return client_ask(c, &rq, (union client_callback){.done = done}, arg, err);
}

int vault_crl_begin(struct vault_client *c, const struct vault_crl_begin *given, vault_crl_begin_fn done, void *arg, struct err *err) {
    struct wire_request rq;
    rq.type = WIRE_CRL_BEGIN;
    rq.crl = *given;
    return client_ask(c, &rq, (union client_callback){.crl_begin = done}, arg, err);
}

int vault_crl_entries(struct vault_client *c, const struct crl_entry *entries, size_t n, vault_der_fn done, void *arg, struct err *err) {
    struct wire_request rq;
    if (n < 1 || n > VAULT_CRL_PIECE)
        return err_set(err, MUSTER_EINVALID, "1 to %d entries of a CRL are sent together.", VAULT_CRL_PIECE);
    rq.type = WIRE_CRL_ENTRIES;
    memcpy(rq.entries.at, entries, n * sizeof *entries);
    rq.entries.n = n;
    return client_ask(c, &rq, (union client_callback){.der = done}, arg, err);
}

int vault_crl_sign(struct vault_client *c, vault_crl_sign_fn done, void *arg, struct err *err) {
    struct wire_request rq;
    rq.type = WIRE_CRL_SIGN;
    return client_ask(c, &rq, (union client_callback){.crl_sign = done}, arg, err);
}
