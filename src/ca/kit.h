/* kit: what a factory line is allowed to make, and by which CA: kit.json, which the server's operator hands to the line (`muster factory kit create`), and which
 * lies in the line's directory afterwards.
 *
 *   {"format":1,"id":UUID,"account":A,"line":L,"max_devices":N,"id_pattern":P,"begins":TIME,"expires":TIME,"certificate":PEM,"root_certificate":PEM}
 *
 * Nothing in it is secret, and nothing in it is what the gateway goes by: that is in the registry.  The line keeps to it so that what it makes comes in. */
#ifndef MUSTER_CA_KIT_H
#define MUSTER_CA_KIT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/uuid.h"

#define KIT_FILE "kit.json"
#define KIT_MAX 65536
#define KIT_NAME_MAX 63

struct kit {
    json_t *doc; /* owned; NULL: the CA is no line's */
    struct uuid id;
    const char *account, *line, *id_pattern; /* in doc */
    const char *certificate, *root;          /* PEM; likewise */
    int64_t max_devices, begins, expires;
};
/* MUSTER_ECORRUPT, or _EVERSION where a newer version wrote it. */
int kit_read(struct span text, struct kit *out, struct err *err) MUSTER_MUST_CHECK;
/* Of what the server says of a line, with its certificates. */
int kit_write(const json_t *line, struct buf *out) MUSTER_MUST_CHECK;
void kit_fini(struct kit *k);
/* A lower-case DNS label: of an account, at most 32 characters, or of a line, at most KIT_NAME_MAX. */
bool kit_is_label(struct span name, size_t max);
/* Whether the line may make one more device of that ID at that time, having made so many.  MUSTER_EKIT. */
int kit_check(const struct kit *k, struct span device_id, int64_t made, int64_t now, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP_FINI(kit_fini, struct kit)

#endif
