/* line: see line.h. */
#include "ca/line.h"
#include "ca/signer.h"

#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "json/json.h"
#include "pki/line_ca.h"

#define FORMAT 1
#define DESCRIPTION "line.json"

/* --- the line's key and request ------------------------------------------------------------------------------------------------------- */

static int open_dir(const char *path, int *out, struct err *err) {
    *out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out >= 0)
        return 0;
    return errno == ENOENT ? err_set(err, MUSTER_ENOTFOUND, "There is no factory line in %s: `muster factory request` makes one.", path)
                           : err_set(err, MUSTER_EIO, "%s cannot be opened: %s.", path, strerror(errno));
}

static int describe(const struct line_make *rq, struct buf *out) {
    CLEANUP_JSON json_t *doc = json_object();
    json_set_int(doc, "format", FORMAT);
    json_set_span(doc, "account", rq->account);
    json_set_span(doc, "line", rq->line);
    return json_write_pretty(out, doc);
}

static int check_names(struct span account, struct span line, struct err *err) {
    if (!kit_is_label(account, 32))
        return err_set(err, MUSTER_EINVALID, "An account's name is a lower-case DNS label of at most 32 characters.");
    return kit_is_label(line, KIT_NAME_MAX) ? 0 : err_set(err, MUSTER_EINVALID, "A factory line's name is a lower-case DNS label of at most %d characters.", KIT_NAME_MAX);
}

int line_make(const char *path, const struct line_make *rq, struct buf *pem, struct err *err) {
    CLEANUP(buf_fini) struct buf description = BUF_INIT(1024);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(fd_close) int fd = -1;
    char label[32 + 1 + KIT_NAME_MAX + 1];
    struct csr_request csr = {.subject = {.organisation = rq->account, .organisational_unit = rq->line, .common_name = rq->line}};
    int rc = check_names(rq->account, rq->line, err);
    if (rc || (rc = file_make_dir(AT_FDCWD, path, 0700, err)) || (rc = open_dir(path, &fd, err)))
        return rc;
    if (signer_has(fd, SIGNER_BELOW))
        return err_set(err, MUSTER_EEXISTS, "%s has the key of a line, or of a fleet CA, already; none is written over.", path);
    if (describe(rq, &description))
        return err_set(err, MUSTER_ENOMEM, NULL);
    snprintf(label, sizeof label, "%.*s %.*s", SPAN_FMT(rq->account), SPAN_FMT(rq->line));
    const struct signer_make how = {.place = rq->place, .label = label, .kind = rq->kind};
    if ((rc = signer_make(fd, SIGNER_BELOW, &how, &key, err)))
        return rc;
    /* The key last: with it the line is there. */
    const struct ca by = {.key = key};
    if ((rc = signer_fault(&by, csr_make(&csr, key, pem, err), err)) || (rc = file_replace(fd, DESCRIPTION, buf_span(&description), 0644, err)) ||
        (rc = file_replace(fd, "request.csr", buf_span(pem), 0644, err)) || (rc = signer_keep(fd, SIGNER_BELOW, key, rq->passphrase, err))) {
        struct err more = ERR_INIT;
        return signer_discard(fd, SIGNER_BELOW, false, &more) ? err_prefix(err, "The key that was made stays where intermediate.uri.new says") : rc;
    }
    return 0;
}

/* --- the kit ---------------------------------------------------------------------------------------------------------------------------- */

static int read_description(int fd, json_t **doc, const char **account, const char **line, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(1024);
    struct err why = ERR_INIT;
    json_int_t format;
    int rc = file_read(fd, DESCRIPTION, &text, err);
    if (rc == MUSTER_ENOTFOUND)
        return err_set(err, rc, "There is no factory line there: `muster factory request` makes one.");
    if (rc)
        return rc;
    if (!(*doc = json_parse(buf_span(&text), &why)) || json_take(*doc, &why, "{s:I, s:s, s:s}", "format", &format, "account", account, "line", line) || format != FORMAT)
        return err_set(err, MUSTER_ECORRUPT, DESCRIPTION ": %s", err_text(&why));
    return 0;
}

static int check_key(int fd, const struct cert *cert, struct err *err) {
    CLEANUP(buf_fini) struct buf pem = BUF_INIT(65536);
    CLEANUP(csr_free) struct csr *csr = NULL;
    int rc = file_read(fd, "request.csr", &pem, err);
    if (rc || (rc = csr_from_file(buf_span(&pem), &csr, err)))
        return rc;
    return hash_eq(&csr->key.spki, &cert->key.spki) ? 0 : err_set(err, MUSTER_EKITFOREIGN, "The kit is for another key than the one that this line has made.");
}

static int check_kit(int fd, const struct kit *k, struct cert **cert, struct cert **root, struct err *err) {
    CLEANUP_JSON json_t *doc = NULL;
    const char *account = "", *line = "";
    int rc = read_description(fd, &doc, &account, &line, err);
    if (rc)
        return rc;
    if (strcmp(account, k->account) || strcmp(line, k->line))
        return err_set(err, MUSTER_EKITFOREIGN, "The kit is for the line %s of the account %s, and this is %s of %s.", k->line, k->account, line, account);
    if ((rc = cert_from_file(span_str(k->certificate), cert, err)) || (rc = cert_from_file(span_str(k->root), root, err)) || (rc = check_key(fd, *cert, err)) ||
        (rc = line_ca_fit(*cert, span_str(account), span_str(line), clock_now(), err)))
        return rc;
    return cert_signed_by(*cert, *root) ? 0 : err_set(err, MUSTER_EKITFILE, "The certificate of the kit is not signed by its fleet root.");
}

static int write_config(int fd, const struct kit *k, int64_t device_life, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(16384);
    const struct ca_init init = {.device_life = device_life, .subject = {.organisation = span_str(k->account), .organisational_unit = span_str(k->line)}};
    int rc = ca_write_config(&init, clock_now(), &text);
    return rc ? err_set(err, rc, NULL) : file_replace(fd, "ca.json", buf_span(&text), 0644, err);
}

static int make_empty(int fd, const char *name, mode_t mode, struct err *err) {
    int rc = file_create(fd, name, SPAN_NONE, mode, err);
    if (rc == MUSTER_EEXISTS && err)
        *err = ERR_INIT;
    return rc == MUSTER_EEXISTS ? 0 : rc;
}

/* A file that somebody has named, and not one of a directory that was good once. */
static int read_kit(struct span text, struct kit *k, struct err *err) {
    struct err why = ERR_INIT;
    static const char OURS[] = KIT_FILE ": ";
    int rc = kit_read(text, k, &why);
    const char *what = err_text(&why);
    if (rc == MUSTER_ECORRUPT)
        return err_set(err, MUSTER_EKITFILE, "It is no kit of a factory line: %s", strncmp(what, OURS, sizeof OURS - 1) ? what : what + sizeof OURS - 1);
    if (rc && err)
        *err = why;
    return rc;
}

/* ca.json comes last: without it there is no CA, and the same again goes on. */
int line_start(const char *path, struct span text, int64_t device_life, struct err *err) {
    CLEANUP(kit_fini) struct kit k = {0};
    CLEANUP(cert_free) struct cert *cert = NULL;
    CLEANUP(cert_free) struct cert *root = NULL;
    CLEANUP(buf_fini) struct buf cert_text = BUF_INIT(65536);
    CLEANUP(buf_fini) struct buf root_text = BUF_INIT(65536);
    CLEANUP(fd_close) int fd = -1;
    int rc = read_kit(text, &k, err);
    if (rc || (rc = open_dir(path, &fd, err)) || (rc = check_kit(fd, &k, &cert, &root, err)))
        return rc;
    if (cert_pem(cert, &cert_text) || cert_pem(root, &root_text))
        return err_set(err, MUSTER_ENOMEM, NULL);
    if ((rc = file_replace(fd, "root.pem", buf_span(&root_text), 0644, err)) || (rc = file_replace(fd, "intermediate.pem", buf_span(&cert_text), 0644, err)) ||
        (rc = file_make_dir(fd, "issued", 0755, err)) || (rc = make_empty(fd, "lock", 0600, err)) || (rc = make_empty(fd, JOURNAL_FILE, 0644, err)) || (rc = file_replace(fd, KIT_FILE, text, 0644, err)))
        return rc;
    return faccessat(fd, "ca.json", F_OK, 0) == 0 ? 0 : write_config(fd, &k, device_life, err);
}
