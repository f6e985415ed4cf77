/* install: puts what a device needs into an image, at the places where its client looks for it. */
#ifndef MUSTER_CA_INSTALL_H
#define MUSTER_CA_INSTALL_H

#include <jansson.h>

#include "ca/image.h"
#include "ca/server.h"

/* A layout names every file, mode and directory (install.c): "aktualizr" is what a stock aktualizr reads. */
struct layout;
const struct layout *install_layout(const char *name); /* NULL: not known */

/* Key, certificate (leaf first) and gateway of one device, or with zip the credentials that all devices of a base image share. */
struct install {
    const struct layout *layout;
    struct span key, chain;         /* PEM */
    const struct ca_server *server; /* both parts given */
    struct span zip;                /* credentials.zip, in place of all these */
    bool force;                     /* over another key */
    bool config;                    /* write the client's configuration too */
};

/* Whether key and certificate belong together, to this device ID, and can be used now; MUSTER_EINVALID, _EIDNONE, _ECERTEXPIRED, …. */
int install_check(struct span key, struct span chain, struct span device_id, struct err *err) MUSTER_MUST_CHECK;
/* Makes the directories, and MUSTER_EKEYINPLACE where the image has a key and force is false: to be asked before a key is made for it. */
int install_prepare(const struct image *image, const struct install *in, struct err *err) MUSTER_MUST_CHECK;
/* Writes, in an order in which an unfinished image has no certificate; then the same again goes on.  Adds "files" (path, mode) and "warnings" to the report. */
int install_run(const struct image *image, const struct install *in, json_t *report, struct err *err) MUSTER_MUST_CHECK;

#endif
