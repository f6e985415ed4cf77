/* api: one client of the operators' API (libcurl).  The token travels in a header and is never shown. */
#ifndef MUSTER_MUSTER_API_H
#define MUSTER_MUSTER_API_H

#include <jansson.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"

struct api;

/* Where the server is: `data` (its data directory, on the server: admin.url, admin.token, server-ca.pem) or, where NULL, the
 * environment: MUSTER_URL, MUSTER_TOKEN_FILE, MUSTER_CA. */
int api_open(const char *data, struct api **out, struct err *err) MUSTER_MUST_CHECK;
void api_free(struct api *a);

struct api_answer {
    int status;
    struct buf body;   /* at most 64 MiB */
    char key_id[64];   /* X-Muster-Key */
    char key_name[160];
};
void api_answer_fini(struct api_answer *r);

/* A request; body NULL: none.  An answer of 400 and above is an error: its code and text, with the advice behind it; the problem
 * document itself is then left in *problem (NULL accepted). */
int api_call(struct api *a, const char *method, const char *path, const json_t *body, struct api_answer *answer, json_t **problem,
             struct err *err) MUSTER_MUST_CHECK;
/* The same, with a JSON answer. */
int api_json(struct api *a, const char *method, const char *path, const json_t *body, json_t **answer, json_t **problem, struct err *err) MUSTER_MUST_CHECK;
/* From now on an answer may take hours, and on a terminal it is shown that it is waited for: what, a literal.  path: what says how far it is, asked
 * once a second by a connection of its own; say: its answer as text. */
typedef void (*api_say_fn)(struct buf *line, const json_t *said);
void api_wait_long(struct api *a, const char *what, const char *path, api_say_fn say);
/* Appends text percent-encoded for one path segment or query value (RFC 3986, unreserved kept). */
void api_encode(struct buf *out, const char *text);

DEFINE_CLEANUP(api_free, struct api *)
DEFINE_CLEANUP_FINI(api_answer_fini, struct api_answer)

#endif
