/* ca: `muster ca init`, `sign`, `prove`, `list`, `show`: the fleet CA on this machine, without any server; see command.h. */
#include <sys/stat.h>

#include "ca/line.h"
#include "ca/signer.h"
#include "json/json.h"
#include "keyring/keyring.h"
#include "muster/ca_part.h"
#include "muster/ca_sign.h"
#include "muster/file_arg.h"
#include "muster/print.h"

#define ROOT_LIFE (40 * CLOCK_YEAR)
#define DEVICE_LIFE (20 * CLOCK_YEAR)
#define LINE_LIFE (30 * CLOCK_YEAR)

/* --- showing ---------------------------------------------------------------------------------------------------------------- */

static json_t *about_cert(const struct cert *c) {
    json_t *o = json_object();
    CLEANUP(buf_fini) struct buf text = BUF_INIT(65536);
    cert_subject_text(c, &text);
    json_set_span(o, "subject", buf_span(&text));
    buf_clear(&text);
    cert_serial_hex(c, &text);
    json_set_span(o, "serial", buf_span(&text));
    json_set_hex(o, "fingerprint", hash_span(&c->fingerprint));
    json_set_str(o, "key", key_kind_name(c->key.kind));
    json_set_int(o, "bits", c->key.bits);
    json_set_time(o, "not_after", c->not_after);
    return o;
}

static json_t *about_ca(const char *dir, const struct ca *ca) {
    json_t *o = json_object(), *record;
    char where[KEYRING_URI_MAX];
    int64_t devices = 0, open = (int64_t)json_object_size(ca->journal.open);
    const char *serial, *device_id;
    json_object_foreach(ca->journal.devices, device_id, record)
        devices += journal_issued(&ca->journal, device_id) != NULL;
    int64_t issued = 0, revoked = 0;
    json_object_foreach(ca->journal.serials, serial, record) {
        issued += journal_is(record, "issued");
        revoked += journal_is(record, "revoked");
    }
    json_set_hex(o, "id", hash_span(&ca->root->fingerprint));
    json_set_str(o, "directory", dir);
    json_set(o, "root", about_cert(ca->root));
    json_set(o, "intermediate", ca->intermediate ? about_cert(ca->intermediate) : json_null());
    signer_where(ca->fd, SIGNER_ROOT, where);
    json_set_str(o, "root_key", where[0] ? where : NULL);
    if (ca->intermediate) {
        signer_where(ca->fd, SIGNER_BELOW, where);
        json_set_str(o, "intermediate_key", where[0] ? where : NULL);
    }
    json_set(o, "subject", json_incref(json_object_get(ca->config, "subject")));
    json_set_int(o, "device_life", ca->device_life);
    json_set_int(o, "devices", devices);
    json_set_int(o, "certificates", issued);
    if (revoked)
        json_set_int(o, "revoked", revoked);
    if (open)
        json_set_int(o, "unfinished", open);
    json_t *warnings = json_array();
    if (ca_issuer(ca)->not_after - clock_now() < ca->device_life)
        json_array_append_new(warnings, json_string("What issues ends before the certificates that it issues would: their ends are clamped."));
    if (json_array_size(warnings))
        json_set(o, "warnings", warnings);
    else
        json_decref(warnings);
    return o;
}

/* --- init ------------------------------------------------------------------------------------------------------------------- */

int command_ca_init(struct invocation *in, struct err *err) {
    const char *dir = ca_part_dir(in);
    CLEANUP(secret_fini) struct secret passphrase = SECRET_INIT;
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    struct ca_init init = {.intermediate = invocation_option(in, "intermediate") != NULL, .name = span_str(invocation_option(in, "name")), .subject = ca_part_subject(in)};
    init.place = ca_part_place(in, "key");
    init.root_place = invocation_option(in, "root-key") ? invocation_option(in, "root-key") : NULL;
    init.kind = KEY_P256;
    int rc = init.place ? keyring_check(init.place, KEYRING_A_PLACE, err) : ca_part_kind(in, true, &init.kind, &init.bits, err);
    if (!rc && init.root_place)
        rc = keyring_check(init.root_place, KEYRING_A_PLACE, err);
    if (rc || (rc = ca_part_life(in, "root-life", ROOT_LIFE, &init.root_life, err)) || (rc = ca_part_life(in, "device-life", DEVICE_LIFE, &init.device_life, err)))
        return rc;
    if (access(dir, F_OK) == 0 && (rc = ca_open(dir, &ca, NULL)) != MUSTER_ECAMISSING)
        return err_set(err, MUSTER_EEXISTS, "There is a fleet CA in %s already.", dir);
    const bool in_files = !init.place && (init.intermediate || !init.root_place);
    if (in_files && (rc = ca_part_passphrase(in, true, &passphrase, err)))
        return rc;
    init.passphrase = secret_span(&passphrase);
    if ((rc = ca_make(dir, &init, err)) || (rc = ca_open(dir, &ca, err)))
        return rc;
    if (!in->json)
        fprintf(stderr, "The fleet CA is in %s. Keep a copy of the directory%s: without them no further device can be made.\n", dir,
                !in_files ? ", and the token" : init.root_place ? ", of the passphrase, and the token" : " and of the passphrase");
    CLEANUP_JSON json_t *shown = about_ca(dir, &ca);
    return ca_part_show(in, shown, err);
}

/* --- sign and prove --------------------------------------------------------------------------------------------------------- */

static const char BEGIN[] = "-----BEGIN ";

/* Where a block begins, from there on; all of it where none does. */
static size_t next_begin(struct span file, size_t from) {
    long at = span_find(span_sub(file, from, file.n), SPAN_LIT(BEGIN));
    return at >= 0 ? from + (size_t)at : file.n;
}

/* Takes one request off what is left of a file: a PEM block, or all of a file that has none. */
static struct span next_request(struct span *rest) {
    size_t n = next_begin(*rest, 1);
    if (n < rest->n && !span_starts(*rest, SPAN_LIT(BEGIN))) /* text in front of the first one */
        n = next_begin(*rest, n + 1);
    struct span one = span_sub(*rest, 0, n);
    *rest = span_sub(*rest, n, rest->n);
    return one;
}

static int sign_one(const struct invocation *in, struct ca *ca, struct ca_order *order, struct span request, struct buf *id, struct ca_issued *issued, struct err *err) {
    CLEANUP(csr_free) struct csr *csr = NULL;
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(8192);
    const char *expected = invocation_option(in, "device");
    int rc = csr_from_file(request, &csr, err);
    if (rc || (rc = csr_device_id(csr, id, err)) || (rc = csr_public_der(csr, &spki, err)))
        return rc;
    if (expected && !span_eq_str(buf_span(id), expected))
        return err_set(err, MUSTER_ECSR, "The request is for the device ID %s, not for %s.", buf_str(id), expected);
    order->device_id = buf_span(id);
    order->public_key = buf_span(&spki);
    return ca_issue(ca, order, issued, err);
}

/* Those of a file with several; what was issued before one that is refused is in the CA's directory. */
static int sign_all(const struct invocation *in, struct ca *ca, struct ca_order *order, struct span file, struct buf *chains, size_t *n, struct err *err) {
    for (struct span rest = file; rest.n; ++*n) {
        CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
        CLEANUP(buf_fini) struct buf id = BUF_INIT(1024);
        int rc = sign_one(in, ca, order, next_request(&rest), &id, &issued, err);
        if (rc)
            return err_prefix(err, "Request %zu (%zu certificates were issued before, and are in %s/issued)", *n + 1, *n, ca_part_dir(in));
        buf_add(chains, buf_span(&issued.chain));
    }
    return buf_check(chains, err);
}

/* The CA of a factory line, by the root's key. */
static int sign_line(const struct invocation *in, const char *name, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(buf_fini) struct buf file = BUF_INIT(65536);
    CLEANUP(buf_fini) struct buf spki = BUF_INIT(8192);
    CLEANUP(csr_free) struct csr *csr = NULL;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    const char *slash = strchr(name, '/');
    struct line_sign rq = {0};
    if (!slash || invocation_option(in, "device") || invocation_option(in, "again"))
        return err_set(err, MUSTER_EUSAGE, "--line takes ACCOUNT/LINE, and neither --device nor --again goes with it.");
    rq.account = span_of(name, (size_t)(slash - name));
    rq.line = span_str(slash + 1);
    int rc = ca_part_life(in, "life", LINE_LIFE, &rq.life, err);
    if (rc || (rc = ca_part_open(in, true, &ca, err)))
        return rc;
    if (!ca.key_is_root)
        return err_set(err, MUSTER_ENOTFOUND, "root.key is not in the fleet CA's directory: bring it back from where it is kept, or name the key by --ca-key.");
    if ((rc = file_arg_read(in->args[0], &file, err)) || (rc = csr_from_file(buf_span(&file), &csr, err)) || (rc = csr_public_der(csr, &spki, err)))
        return rc;
    if (!csr_is_of(csr, rq.account, rq.line))
        return err_set(err, MUSTER_EINVALID, "The request %s is not that line's, or does not say so: its subject has to be O=%.*s, OU=%.*s, one of each, as `muster factory request` makes it.", in->args[0],
                       SPAN_FMT(rq.account), SPAN_FMT(rq.line));
    rq.public_key = buf_span(&spki);
    if ((rc = ca_sign_line(&ca, &rq, &issued, err)))
        return rc;
    CLEANUP_JSON json_t *shown = ca_part_issued(&ca, &issued, SPAN_NONE);
    json_set_str(shown, "line", name);
    return ca_part_put(in, buf_span(&issued.chain), shown, err);
}

int command_ca_sign(struct invocation *in, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(buf_fini) struct buf id = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf file = BUF_INIT(256u << 20);
    CLEANUP(buf_fini) struct buf chains = BUF_INIT(512u << 20);
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    CLEANUP_JSON json_t *shown = NULL;
    const char *output = invocation_option(in, "output");
    struct ca_order order = {.again = invocation_option(in, "again") != NULL};
    size_t n = 0;
    struct stat st;
    if (invocation_option(in, "line"))
        return sign_line(in, invocation_option(in, "line"), err);
    int rc = ca_part_life(in, "life", 0, &order.life, err);
    if (rc || (rc = ca_part_open(in, false, &ca, err)))
        return rc;
    if (stat(in->args[0], &st) == 0 && S_ISDIR(st.st_mode))
        return ca_sign_directory(in, &ca, order.life, err);
    if ((rc = file_arg_read(in->args[0], &file, err)))
        return rc;
    if (output && strcmp(output, "-") && access(output, F_OK) == 0)
        return err_set(err, MUSTER_EEXISTS, "%s exists already.", output);
    struct span rest = buf_span(&file), first = next_request(&rest);
    if (rest.n) {
        if ((rc = sign_all(in, &ca, &order, buf_span(&file), &chains, &n, err)))
            return rc;
        shown = json_object();
        json_set_str(shown, "id", ca_part_dir(in));
        json_set_int(shown, "issued", (int64_t)n);
        ca_part_warn_clock(&ca, shown);
        rc = ca_part_put(in, buf_span(&chains), shown, err);
        return rc ? err_prefix(err, "%zu certificates were issued and are in %s/issued", n, ca_part_dir(in)) : 0;
    }
    if ((rc = sign_one(in, &ca, &order, first, &id, &issued, err)))
        return rc;
    shown = ca_part_issued(&ca, &issued, order.device_id);
    rc = ca_part_put(in, buf_span(&issued.chain), shown, err);
    return rc ? err_prefix(err, "The certificate %s was issued and is in %s/issued", issued.serial, ca_part_dir(in)) : 0;
}

int command_ca_prove(struct invocation *in, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(ca_issued_fini) struct ca_issued issued = CA_ISSUED_INIT;
    int rc = ca_part_open(in, true, &ca, err);
    if (rc || (rc = ca_prove(&ca, span_str(in->args[0]), &issued, err)))
        return rc;
    CLEANUP_JSON json_t *shown = ca_part_issued(&ca, &issued, SPAN_NONE);
    json_set_str(shown, "signed_by", ca.key_is_root ? "root" : "intermediate");
    return ca_part_put(in, buf_span(&issued.chain), shown, err);
}

/* --- list and show ---------------------------------------------------------------------------------------------------------- */

static bool is_wanted(const struct invocation *in, const json_t *record) {
    const char *state = invocation_option(in, "state"), *kind = invocation_option(in, "kind"), *prefix = invocation_option(in, "prefix");
    const char *id = json_string_value(json_object_get(record, "device_id"));
    return (!state || !strcmp(state, json_string_value(json_object_get(record, "state")))) &&
           !strcmp(kind ? kind : "device", json_string_value(json_object_get(record, "kind"))) && (!prefix || (id && !strncmp(id, prefix, strlen(prefix))));
}

int command_ca_list(struct invocation *in, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP_JSON json_t *list = json_array();
    const char *serial;
    json_t *record;
    int rc = ca_open(ca_part_dir(in), &ca, err);
    if (rc)
        return rc;
    json_object_foreach(ca.journal.serials, serial, record)
        if (is_wanted(in, record) && json_array_append(list, record))
            return err_set(err, MUSTER_ENOMEM, NULL);
    if (in->json)
        return print_json(list, err);
    print_table(list, in->command->columns);
    return 0;
}

/* A serial, or the newest certificate of a device ID. */
static const json_t *find(const struct ca *ca, const char *name) {
    const json_t *record = json_object_get(ca->journal.serials, name);
    if (record)
        return record;
    const json_t *of_device = json_object_get(ca->journal.devices, name);
    return journal_issued(&ca->journal, name) ? journal_issued(&ca->journal, name) : json_array_get(of_device, json_array_size(of_device) - 1);
}

int command_ca_show(struct invocation *in, struct err *err) {
    const char *dir = ca_part_dir(in), *output = invocation_option(in, "output");
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(buf_fini) struct buf chain = BUF_INIT(CA_CHAIN_MAX);
    int rc = ca_open(dir, &ca, err);
    if (rc)
        return rc;
    if (!in->args[0]) {
        CLEANUP_JSON json_t *shown = about_ca(dir, &ca);
        return ca_part_show(in, shown, err);
    }
    const json_t *record = find(&ca, in->args[0]);
    if (!record)
        return err_set(err, MUSTER_ENOTFOUND, "The fleet CA has no serial and no device ID %.128s.", in->args[0]);
    CLEANUP_JSON json_t *shown = json_copy((json_t *)record);
    if (!journal_is(record, "issued") && !journal_is(record, "revoked"))
        return ca_part_show(in, shown, err);
    if ((rc = ca_chain(&ca, json_string_value(json_object_get(record, "serial")), &chain, err)))
        return rc;
    if (output)
        return ca_part_put(in, buf_span(&chain), shown, err);
    json_set_span(shown, "certificate", buf_span(&chain));
    if (!in->json)
        json_object_del(shown, "certificate");
    return ca_part_show(in, shown, err);
}
