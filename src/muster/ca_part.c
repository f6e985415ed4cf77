/* ca_part: see ca_part.h. */
#include "muster/ca_part.h"

#include "base/passphrase.h"
#include "ca/list.h"
#include "json/json.h"
#include "keyring/keyring.h"
#include "muster/file_arg.h"
#include "muster/print.h"

#define PASSPHRASE "passphrase of the fleet CA"
#define SKEW 300 /* seconds that clocks of two machines, or one that is set by the network, may differ without a word */

const char *ca_part_dir(const struct invocation *in) {
    const char *given = invocation_option(in, "ca"), *environment = getenv("MUSTER_CA_DIR");
    return given ? given : environment && *environment ? environment : "ca";
}

int ca_part_passphrase(const struct invocation *in, bool twice, struct secret *out, struct err *err) {
    const char *file = invocation_option(in, "passphrase-file");
    if (file && strcmp(file, "-"))
        return passphrase_read_file(file, PASSPHRASE, CA_PASSPHRASE_MIN, out, err);
    if (!file && !isatty(STDIN_FILENO))
        return err_set(err, MUSTER_EUSAGE, "The " PASSPHRASE " is asked on a terminal; elsewhere give --passphrase-file FILE, where - is the first line of standard input.");
    return passphrase_read(PASSPHRASE, twice, CA_PASSPHRASE_MIN, out, err);
}

int ca_part_unlock(const struct invocation *in, struct ca *ca, bool root_key, struct err *err) {
    CLEANUP(secret_fini) struct secret passphrase = SECRET_INIT;
    const char *named = invocation_option(in, "ca-key");
    int rc = named ? keyring_check(named, KEYRING_A_KEY, err) : ca_needs_passphrase(ca, root_key) ? ca_part_passphrase(in, false, &passphrase, err) : 0;
    return rc ? rc : ca_unlock(ca, root_key, named, secret_span(&passphrase), err);
}

const char *ca_part_place(const struct invocation *in, const char *option) {
    const char *key = invocation_option(in, option);
    return key && strchr(key, ':') ? key : NULL;
}

int ca_part_open(const struct invocation *in, bool root_key, struct ca *out, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    int rc = ca_open(ca_part_dir(in), &ca, err); /* before anybody is asked for anything */
    if (rc || (rc = ca_part_unlock(in, &ca, root_key, err)))
        return rc;
    *out = ca;
    ca = CA_NONE;
    return 0;
}

int ca_part_kind(const struct invocation *in, bool of_ca, enum key_kind *kind, int *bits, struct err *err) {
    const char *name = invocation_option(in, "key");
    if (ca_key_kind(span_str(name ? name : "p256"), of_ca, kind, bits))
        return 0;
    return err_set(err, MUSTER_EUSAGE, "--key takes %s, not \"%s\".", of_ca ? "p256, p384, rsa3072 or rsa4096" : "p256, p384, rsa2048, rsa3072, rsa4096 or ed25519", name);
}

struct subject ca_part_subject(const struct invocation *in) {
    return (struct subject){.country = span_str(invocation_option(in, "country")),
                            .state = span_str(invocation_option(in, "state")),
                            .locality = span_str(invocation_option(in, "locality")),
                            .organisation = span_str(invocation_option(in, "organisation")),
                            .organisational_unit = span_str(invocation_option(in, "organisational-unit")),
                            .serial_number = span_str(invocation_option(in, "serial-number"))};
}

int ca_part_life(const struct invocation *in, const char *option, int64_t otherwise, int64_t *out, struct err *err) {
    const char *text = invocation_option(in, option);
    *out = otherwise;
    if (!text)
        return 0;
    if (clock_parse_span(span_str(text), out) || *out < CLOCK_HOUR || *out > CA_LIFE_MAX)
        return err_set(err, MUSTER_EUSAGE, "--%s takes a length of time from 1h to 100y, such as 20y or 365d, not \"%s\".", option, text);
    return 0;
}

static int read_root(struct ca_server *s, const char *path, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    int rc = file_arg_read(path, &pem, err);
    if (rc)
        return rc; /* it names the file */
    return ca_server_set_root(s, buf_span(&pem), clock_now(), err) ? err_prefix(err, "%s", path) : 0;
}

static int read_url(struct ca_server *s, const char *path, struct err *err) {
    CLEANUP(buf_fini) struct buf url = BUF_INIT(4096);
    int rc = file_arg_read(path, &url, err);
    if (rc)
        return rc;
    return ca_server_set_url(s, buf_span(&url), err) ? err_prefix(err, "%s", path) : 0;
}

int ca_part_server(const struct invocation *in, struct ca_server *out, struct err *err) {
    const char *dir = invocation_option(in, "server"), *file = invocation_option(in, "server-ca"), *url = invocation_option(in, "url");
    char path[4096];
    int rc = 0;
    if (dir && !file) {
        if (snprintf(path, sizeof path, "%s/server-ca.pem", dir) >= (int)sizeof path)
            return err_set(err, MUSTER_EUSAGE, "--server's directory is too long.");
        rc = read_root(out, path, err);
    }
    if (!rc && dir && !url && snprintf(path, sizeof path, "%s/gateway.url", dir) < (int)sizeof path)
        rc = read_url(out, path, err);
    if (!rc && file)
        rc = read_root(out, file, err);
    if (!rc && url)
        rc = ca_server_set_url(out, span_str(url), err);
    return rc;
}

static void warn(json_t *object, const char *text) {
    json_t *warnings = json_object_get(object, "warnings");
    if (!warnings)
        json_set(object, "warnings", warnings = json_array());
    json_array_append_new(warnings, json_string(text));
}

void ca_part_warn_clock(const struct ca *ca, json_t *object) {
    char newest[CLOCK_RFC3339_LEN + 1], here[CLOCK_RFC3339_LEN + 1], text[480];
    int64_t now = clock_now(), begin = ca_issuer(ca)->not_before;
    clock_rfc3339(now, here);
    if (now < begin) {
        clock_rfc3339(begin, newest);
        snprintf(text, sizeof text, "By this machine's clock it is %s, before the CA itself begins (%s): the clock is wrong, and so is the time that was written down. Set it before anything else is done.", here, newest);
        warn(object, text);
        return;
    }
    if (ca->journal.newest <= now + SKEW)
        return;
    clock_rfc3339(ca->journal.newest, newest);
    snprintf(text, sizeof text, "The journal has an entry of %s, and by this machine's clock it is %s: one of the two is wrong. Where the clock was ahead, certificates that were issued then begin a day before "
             "the journal's times for them, and no gateway admits them earlier: issue those anew with --again, and revoke them.", newest, here);
    warn(object, text);
}

json_t *ca_part_issued(const struct ca *ca, const struct ca_issued *issued, struct span device_id) {
    json_t *o = json_object();
    json_set_str(o, "id", issued->serial);
    json_set_str(o, "serial", issued->serial);
    if (device_id.n)
        json_set_span(o, "device_id", device_id);
    json_set_time(o, "not_after", issued->not_after);
    if (issued->clamped)
        warn(o, "The certificate ends with the CA that signed it, earlier than asked for.");
    if (ca)
        ca_part_warn_clock(ca, o);
    return o;
}

int ca_part_show(const struct invocation *in, const json_t *object, struct err *err) {
    print_warnings(object);
    if (in->json)
        return print_json(object, err);
    print_object(object);
    return 0;
}

int ca_part_put(const struct invocation *in, struct span pem, json_t *object, struct err *err) { return ca_part_put_as(in, "certificate", pem, object, err); }

int ca_part_put_as(const struct invocation *in, const char *member, struct span pem, json_t *object, struct err *err) {
    const char *output = invocation_option(in, "output");
    bool to_file = output && strcmp(output, "-");
    int rc;
    if (to_file && (rc = file_arg_write(output, pem, false, err)))
        return rc;
    if (to_file)
        json_set_str(object, "output", output);
    if (!to_file && !in->json) {
        print_warnings(object);
        return file_arg_write("-", pem, false, err);
    }
    if (in->json)
        json_set_span(object, member, pem);
    return ca_part_show(in, object, err);
}
