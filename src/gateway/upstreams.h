/* upstreams: what stands behind the gateway: the [route /PREFIX] sections of musterd.conf, ready for use.  Immutable once made, so that the
 * loops share it.  No rule about who may pass is here: whoever asks has been admitted. */
#ifndef MUSTER_GATEWAY_UPSTREAMS_H
#define MUSTER_GATEWAY_UPSTREAMS_H

#include "config/settings.h"
#include "http/client.h"

struct route {
    const struct route_settings *settings;
    struct span prefix;        /* "" for "/" */
    struct http_origin origin;
    char *host;                /* of the URL; origin.host points to it */
    char *authority;           /* HOST[:PORT], for the field Host */
};

struct upstreams;
/* MUSTER_ECONFIG names the route.  Reads the files of TLS. */
int upstreams_new(const struct settings *s, struct upstreams **out, struct err *err) MUSTER_MUST_CHECK;
void upstreams_free(struct upstreams *r); /* NULL accepted; after every client */
bool upstreams_have_names(const struct upstreams *r); /* whether any upstream is a name that has to be resolved */
/* The route of a path as http_path() gives it: the longest prefix of whole segments, one for that account first.  NULL: none. */
const struct route *upstreams_find(const struct upstreams *r, struct span path, struct span account);

/* Who asks, as the template of the path may say it. */
struct route_device {
    struct span account, uuid, device_id; /* device_id percent-encoded */
};
/* Appends the path behind, without a query.  MUSTER_EHTTPMALFORMED: with this device's ID in it, it could be read in two ways. */
int route_path(const struct route *r, struct span path, const struct route_device *d, struct buf *out, struct err *err) MUSTER_MUST_CHECK;

DEFINE_CLEANUP(upstreams_free, struct upstreams *)

#endif
