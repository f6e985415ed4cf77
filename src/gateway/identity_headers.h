/* identity_headers: the fields in which a device's proven identity reaches what stands behind the gateway.
 *
 * Whoever passes a request on, or answers for one that another proxy passes on (/auth), names the device in these fields and in no
 * other way; and takes those away that the client sent itself.  Immutable after identity_headers_parse(); from any thread. */
#ifndef MUSTER_GATEWAY_IDENTITY_HEADERS_H
#define MUSTER_GATEWAY_IDENTITY_HEADERS_H

#include "registry/admit.h"

enum identity_value {
    IDENTITY_ACCOUNT,   /* the account's name */
    IDENTITY_UUID,      /* the device's UUID */
    IDENTITY_DEVICE_ID, /* percent-encoded: all but letters, digits and -._~ (RFC 3986, 2.3) */
    IDENTITY_VALUES,
};
#define IDENTITY_HEADER_MAX 64 /* bytes of a name */

struct identity_headers {
    char name[IDENTITY_VALUES][IDENTITY_HEADER_MAX + 1]; /* lower case; "": not sent */
};

/* The setting identity_headers: a preset ("muster", "ota-ce"), or "account=NAME uuid=NAME device-id=NAME", of which some may be missing
 * but not all.  MUSTER_ECONFIG. */
int identity_headers_parse(const char *setting, struct identity_headers *out, struct err *err) MUSTER_MUST_CHECK;
/* Whether a field from outside would pass for one of them, in whatever case and with any sign for `-`: those of the setting, those of each
 * preset, and all that begin with x-muster-. */
bool identity_headers_claim(const struct identity_headers *h, struct span field);
/* Calls fn for each field of an admitted device, in the order of enum identity_value. */
void identity_headers_each(const struct identity_headers *h, const struct admit *a, void (*fn)(void *arg, const char *name, const char *value), void *arg);

#endif
