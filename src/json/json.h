/* json: jansson as this project uses it.  Input is strict (RFC 8259, duplicate keys refused, no data behind the document, depth
 * bounded by jansson, NUL in strings refused); output is compact with keys in the order of insertion. */
#ifndef MUSTER_JSON_JSON_H
#define MUSTER_JSON_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/uuid.h"

/* The document, an object or array, as a new reference; NULL with MUSTER_EJSON and the line and column. */
json_t *json_parse(struct span text, struct err *err);
/* As json_unpack_ex with JSON_STRICT: every key has to be named in fmt ("s?s" optional).  MUSTER_EJSON names the field. */
int json_take(json_t *doc, struct err *err, const char *fmt, ...) MUSTER_MUST_CHECK;
/* Appends the document. */
int json_write(struct buf *out, const json_t *doc) MUSTER_MUST_CHECK;
int json_write_pretty(struct buf *out, const json_t *doc) MUSTER_MUST_CHECK; /* for people: indent 2, newline at the end */
/* RFC 8785-like canonical bytes for hashing: sorted keys, compact. */
int json_write_sorted(struct buf *out, const json_t *doc) MUSTER_MUST_CHECK;

/* Appends a text as a JSON string, byte for byte as json_write() does, without a document around it: for answers that are written often. */
void json_add_text(struct buf *out, struct span text);

/* Setters that take care of NULL and ownership; on failure the object is marked by the missing key and json_write fails later. */
void json_set_str(json_t *obj, const char *key, const char *value);  /* NULL value: JSON null */
void json_set_span(json_t *obj, const char *key, struct span value); /* invalid UTF-8 is replaced by U+FFFD */
void json_set_int(json_t *obj, const char *key, int64_t value);
void json_set_bool(json_t *obj, const char *key, bool value);
void json_set_time(json_t *obj, const char *key, int64_t t);         /* RFC 3339; 0: null */
void json_set_hex(json_t *obj, const char *key, struct span bytes);
void json_set_uuid(json_t *obj, const char *key, const struct uuid *u); /* nil: null */
void json_set(json_t *obj, const char *key, json_t *value);          /* takes the reference */

DEFINE_CLEANUP(json_decref, json_t *)
#define CLEANUP_JSON __attribute__((cleanup(json_decref_cleanup__)))

#endif
