/* csr_import: `csr import`: a file of any number of certificates, so many at a time, with those of CAs each time. */
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/file_arg.h"
#include "muster/print.h"
#include "pki/cert.h"

#define FILE_MAX (256u << 20)
#define BATCH 32
#define BETWEEN_MAX 7 /* certificates of CAs */
#define BODY_MAX (200 * 1024)

static const char BEGIN[] = "-----BEGIN ";

struct importing {
    struct invocation *in;
    struct buf path, between, batch; /* of the request; PEM */
    size_t n, n_between;
    int64_t imported, refused;
    int code;    /* of the first that was refused */
    char reason[480];
    json_t *items; /* those that were refused */
};

static void importing_fini(struct importing *im) {
    buf_fini(&im->path);
    buf_fini(&im->between);
    buf_fini(&im->batch);
    json_decref(im->items);
}
DEFINE_CLEANUP_FINI(importing_fini, struct importing)

static void note(struct importing *im, const json_t *answer) {
    size_t i;
    json_t *one;
    im->imported += json_integer_value(json_object_get(answer, "imported"));
    im->refused += json_integer_value(json_object_get(answer, "refused"));
    json_array_foreach(json_object_get(answer, "items"), i, one) {
        const char *code = json_string_value(json_object_get(one, "code"));
        if (!code)
            continue;
        if (!im->code) {
            im->code = err_from_code(code);
            snprintf(im->reason, sizeof im->reason, "%s", json_string_value(json_object_get(one, "reason")));
        }
        json_array_append(im->items, one);
        if (!im->in->json)
            fprintf(stderr, "%s: %s\n", json_string_value(json_object_get(one, "subject")), json_string_value(json_object_get(one, "reason")));
    }
}

static int send(struct importing *im, struct err *err) {
    CLEANUP_JSON json_t *body = json_object();
    CLEANUP_JSON json_t *answer = NULL;
    if (!im->n)
        return 0;
    buf_add(&im->batch, buf_span(&im->between));
    int rc = buf_check(&im->batch, err);
    json_set_span(body, "certificates", buf_span(&im->batch));
    if (rc || (rc = api_json(im->in->api, "POST", buf_str(&im->path), body, &answer, NULL, err)))
        return rc;
    note(im, answer);
    im->n = 0;
    buf_clear(&im->batch);
    return 0;
}

/* Takes one PEM block off what is left of the file. */
static bool next_block(struct span *rest, struct span *block) {
    long from = span_find(*rest, SPAN_LIT(BEGIN));
    if (from < 0)
        return false;
    *rest = span_sub(*rest, (size_t)from, rest->n);
    long next = span_find(span_sub(*rest, 1, rest->n), SPAN_LIT(BEGIN));
    size_t n = next >= 0 ? (size_t)next + 1 : rest->n;
    *block = span_sub(*rest, 0, n);
    *rest = span_sub(*rest, n, rest->n);
    return true;
}

/* cas: only those of CAs, which go with every batch; else only the others. */
static int each(struct importing *im, struct span file, bool cas, struct err *err) {
    struct span rest = file, block;
    for (size_t at = 1; next_block(&rest, &block); at++) {
        CLEANUP(cert_free) struct cert *c = NULL;
        int rc = cert_from_file(block, &c, err);
        if (rc)
            return err_prefix(err, "Certificate %zu", at);
        if (c->ca != cas)
            continue;
        if (cas) {
            CLEANUP(buf_fini) struct buf pem = BUF_INIT(BODY_MAX);
            if ((rc = cert_pem(c, &pem)))
                return err_set(err, rc, NULL);
            if (span_find(buf_span(&im->between), buf_span(&pem)) >= 0) /* each device's chain has it */
                continue;
            if (im->n_between++ == BETWEEN_MAX)
                return err_set(err, MUSTER_EINVALID, "There are more than %d different certificates of CAs in the file.", BETWEEN_MAX);
            buf_add(&im->between, buf_span(&pem));
            rc = buf_check(&im->between, NULL);
        } else {
            rc = cert_pem(c, &im->batch);
            im->n++;
        }
        if (rc)
            return err_set(err, rc, NULL);
        if (!cas && (im->n == BATCH || im->batch.n + im->between.n > BODY_MAX / 2) && (rc = send(im, err)))
            return rc;
    }
    return cas ? 0 : send(im, err);
}

int command_csr_import(struct invocation *in, struct err *err) {
    CLEANUP(importing_fini) struct importing im = {.in = in, .path = BUF_INIT(4096), .between = BUF_INIT(BODY_MAX), .batch = BUF_INIT(BODY_MAX), .items = json_array()};
    CLEANUP(buf_fini) struct buf file = BUF_INIT(FILE_MAX);
    CLEANUP_JSON json_t *answer = json_object();
    int rc = command_path(in, in->command->path, &im.path, err);
    if (rc || (rc = file_arg_read(in->args[0], &file, err)) || (rc = each(&im, buf_span(&file), true, err)) || (rc = each(&im, buf_span(&file), false, err)))
        return rc;
    if (!im.imported && !im.refused)
        return err_set(err, MUSTER_EINVALID, "There is no certificate of a device in the file.");
    json_set_str(answer, "id", in->account);
    json_set_int(answer, "imported", im.imported);
    json_set_int(answer, "refused", im.refused);
    if (in->json)
        json_set(answer, "items", json_incref(im.items));
    if (in->json ? (rc = print_json(answer, err)) : (print_object(answer), 0))
        return rc;
    if (!im.refused)
        return 0;
    return err_set(err, im.code && err_exit(im.code) == 1 ? im.code : MUSTER_ESTATE, "%lld of %lld certificates were refused, the first because: %s", (long long)im.refused, (long long)(im.refused + im.imported), im.reason);
}
