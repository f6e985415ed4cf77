/* A registry in a directory of its own, for tests that write rows by hand while it is closed.  Group set-up and tear-down make the directory
 * and remove it. */
#ifndef MUSTER_TEST_ON_DISK_H
#define MUSTER_TEST_ON_DISK_H

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <sqlite3.h>

#include "registry/registry.h"

static char on_disk_dir[] = "/tmp/muster-registry-XXXXXX";
static char on_disk_path[64];

/* Opened, made or migrated where it has to be; to close with store_close(). */
static struct store *on_disk_open(void) {
    struct store *s = NULL;
    struct err err = ERR_INIT;
    if (registry_open(&(struct registry_open){.path = on_disk_path, .queue_max = 10, .readers = 1, .migrate = true, .unsafe_no_sync = true}, &s, &err))
        fail_msg("%s", err_text(&err));
    return s;
}

/* An empty one, closed. */
static inline void on_disk_anew(void) {
    unlink(on_disk_path);
    store_close(on_disk_open());
}

static int on_disk_make(void **state) {
    if (!mkdtemp(on_disk_dir))
        return -1;
    snprintf(on_disk_path, sizeof on_disk_path, "%s/registry.db", on_disk_dir);
    return 0;
}

static int on_disk_drop(void **state) {
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", on_disk_dir);
    return system(command);
}

#endif
