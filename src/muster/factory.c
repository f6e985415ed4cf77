/* factory: `muster factory`: what an operator says of factory lines (kit create), and what the lines do, offline: request, start, issue, manifest; see command.h. */
#include "ca/line.h"
#include "ca/manifest.h"
#include "json/json.h"
#include "keyring/keyring.h"
#include "muster/api.h"
#include "muster/ca_part.h"
#include "muster/file_arg.h"
#include "muster/print.h"

#define DEVICE_LIFE (20 * CLOCK_YEAR)

/* --- at the line ---------------------------------------------------------------------------------------------------------------------- */

int command_factory_request(struct invocation *in, struct err *err) {
    const char *dir = ca_part_dir(in), *key = invocation_option(in, "key");
    CLEANUP(secret_fini) struct secret passphrase = SECRET_INIT;
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    struct line_make rq = {.account = span_str(in->account), .line = span_str(invocation_option(in, "line")), .kind = key && strcmp(key, "p384") == 0 ? KEY_P384 : KEY_P256};
    rq.place = ca_part_place(in, "key");
    int rc = rq.place ? keyring_check(rq.place, KEYRING_A_PLACE, err) : ca_part_passphrase(in, true, &passphrase, err);
    rq.passphrase = secret_span(&passphrase);
    if (rc || (rc = line_make(dir, &rq, &pem, err)))
        return rc;
    CLEANUP_JSON json_t *shown = json_object();
    json_set_str(shown, "id", dir);
    json_set_str(shown, "account", in->account);
    json_set_str(shown, "line", invocation_option(in, "line"));
    if (!in->json)
        fprintf(stderr, "The key is in %s and stays there. The request is for `muster factory kit create`.\n", rq.place ? "the token" : dir);
    return ca_part_put_as(in, "request", buf_span(&pem), shown, err);
}

int command_factory_start(struct invocation *in, struct err *err) {
    const char *dir = ca_part_dir(in);
    CLEANUP(buf_fini) struct buf text = BUF_INIT(KIT_MAX);
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    int64_t life;
    int rc = ca_part_life(in, "device-life", DEVICE_LIFE, &life, err);
    if (rc || (rc = file_arg_read(in->args[0], &text, err)))
        return rc;
    if ((rc = line_start(dir, buf_span(&text), life, err)))
        return rc == MUSTER_EKITFILE || rc == MUSTER_EKITFOREIGN ? err_prefix(err, "%s", in->args[0]) : rc;
    if ((rc = ca_open(dir, &ca, err)))
        return rc;
    CLEANUP_JSON json_t *shown = json_object();
    json_set_uuid(shown, "id", &ca.kit.id);
    json_set_str(shown, "directory", dir);
    json_set_str(shown, "account", ca.kit.account);
    json_set_str(shown, "line", ca.kit.line);
    json_set_int(shown, "max_devices", ca.kit.max_devices);
    json_set_str(shown, "id_pattern", ca.kit.id_pattern);
    json_set_time(shown, "expires", ca.kit.expires);
    json_set_time(shown, "not_after", ca.intermediate->not_after);
    json_t *warnings = json_array();
    if (ca.intermediate->not_after - clock_now() < ca.device_life)
        json_array_append_new(warnings, json_string("The line's CA ends before the certificates that it issues would: their ends are clamped."));
    if (json_array_size(warnings))
        json_set(shown, "warnings", warnings);
    else
        json_decref(warnings);
    return ca_part_show(in, shown, err);
}

static int need_line(const struct invocation *in, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    int rc = ca_open(ca_part_dir(in), &ca, err);
    if (rc)
        return rc;
    return ca.kit.doc ? 0 : err_set(err, MUSTER_ENOTFOUND, "%s is no factory line's: `muster factory start` takes its kit in.", ca_part_dir(in));
}

/* As `ca issue`, and what came of it stands in the manifest, whatever else went wrong. */
int command_factory_issue(struct invocation *in, struct err *err) {
    struct err why = ERR_INIT;
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    size_t entries;
    int rc = need_line(in, err);
    if (rc)
        return rc;
    if (invocation_option(in, "passphrase-file") && !strcmp(invocation_option(in, "passphrase-file"), "-"))
        return err_set(err, MUSTER_EUSAGE, "The passphrase is needed twice: --passphrase-file names a file.");
    rc = command_ca_issue(in, err);
    if (rc == MUSTER_EUSAGE)
        return rc;
    int written = ca_part_open(in, false, &ca, &why);
    if (!written)
        written = manifest_write(&ca, &entries, NULL, &why);
    if (written && rc)
        print_message("The manifest was not written: ", err_text(&why));
    if (written && !rc) {
        *err = why;
        return err_prefix(err, "All was issued, but the manifest was not written");
    }
    return rc;
}

int command_factory_manifest(struct invocation *in, struct err *err) {
    CLEANUP(ca_close) struct ca ca = CA_NONE;
    CLEANUP(buf_fini) struct buf text = BUF_INIT(MANIFEST_MAX);
    size_t entries = 0;
    int rc = need_line(in, err);
    if (rc || (rc = ca_part_open(in, false, &ca, err)) || (rc = manifest_write(&ca, &entries, &text, err)))
        return rc;
    CLEANUP_JSON json_t *shown = json_object();
    json_set_uuid(shown, "id", &ca.kit.id);
    json_set_str(shown, "line", ca.kit.line);
    json_set_int(shown, "entries", (int64_t)entries);
    ca_part_warn_clock(&ca, shown);
    return ca_part_put_as(in, "manifest", buf_span(&text), shown, err);
}

/* --- at the server ------------------------------------------------------------------------------------------------------------------------ */

/* The kit is for the line; what is shown is for whoever made it. */
int command_kit_create(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP(buf_fini) struct buf kit = BUF_INIT(KIT_MAX);
    CLEANUP_JSON json_t *body = NULL, *line = NULL;
    const char *out = invocation_option(in, "output");
    bool create = strcmp(in->command->method, "POST") == 0;
    if (create && !invocation_option(in, "request") == !invocation_option(in, "certificate"))
        return err_set(err, MUSTER_EUSAGE, "Give either --request, for the server's own fleet root to sign, or --certificate, signed by your fleet CA (`muster ca sign --line`).");
    int rc = command_path(in, in->command->path, &path, err);
    if (rc || (create && (rc = command_body(in, &body, err))) || (out && strcmp(out, "-") && (rc = file_arg_may_write(out, err))))
        return rc;
    if ((rc = api_json(in->api, in->command->method, buf_str(&path), body, &line, NULL, err)))
        return rc;
    if (out) {
        if (kit_write(line, &kit))
            return err_set(err, MUSTER_EINTERNAL, "The server's answer is no factory line.");
        if ((rc = file_arg_write(out, buf_span(&kit), false, err)))
            return create ? err_prefix(err, "The line was made but its kit was not written; `muster factory kit show -o` writes it again") : rc;
        if (!strcmp(out, "-"))
            return 0;
    }
    if (in->json)
        return print_json(line, err);
    json_object_del(line, "certificate");
    json_object_del(line, "root_certificate");
    print_object(line);
    return 0;
}
