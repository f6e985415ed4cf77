/* courier: the process that sends what webhooks are told.  Called by musterd's child.
 *
 * It is the only one that connects to others, and reads what they answer, so it has nothing that is worth taking: no file of DIR, no key,
 * no database.  Control signs, and hands it one finished request at a time.  It knows the setting webhook_networks, and asks it for each
 * address that it is about to connect to. */
#ifndef MUSTER_COURIER_PROCESS_H
#define MUSTER_COURIER_PROCESS_H

#include "base/err.h"

struct courier_options {
    const char *networks; /* the setting; "": see address.h */
    int parent_fd;
    int (*confine)(void *arg, struct err *err);
    void *confine_arg;
};

/* Whether webhook_networks is a list of networks. MUSTER_ECONFIG. */
int courier_settings_check(const char *networks, struct err *err) MUSTER_MUST_CHECK;
/* Until PARENT_DRAIN, SIGTERM, the supervisor's end, or a channel that ends without a successor. */
int courier_process_run(const struct courier_options *o, struct err *err) MUSTER_MUST_CHECK;

#endif
