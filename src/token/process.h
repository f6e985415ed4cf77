/* token: the process that has the PKCS#11 module.  It makes keys in the token and signs digests with them, for the vault alone.
 *
 * The module is somebody else's code, in C, with threads and files of its own: so it runs here, where there is no vault, no database and nothing
 * from the network of the devices.  It has the token's PIN and a channel to the vault.  A call into the module that does not come back
 * ends the process after TOKEN_HANG_SECONDS, and the supervisor starts another one. */
#ifndef MUSTER_TOKEN_PROCESS_H
#define MUSTER_TOKEN_PROCESS_H

#include "base/err.h"
#include "base/secret.h"

#define TOKEN_HANG_SECONDS 30
#define TOKEN_PIN_MAX 256 /* bytes */

struct token_options {
    const char *module;     /* path of the module */
    const char *token;      /* its label, or a URI by RFC 7512 ("pkcs11:…") */
    struct secret *pin;     /* taken over; empty: no login */
    int parent_fd;          /* loop/parent.h; PARENT_CHANNEL brings the one to the vault */
    int (*confine_files)(void *arg, struct err *err); /* both are called before anything of the module runs, a constructor of its library included */
    int (*confine)(void *arg, struct err *err);
    void *confine_arg;
};

/* The settings, as far as they can be judged without the module.  MUSTER_ECONFIG. */
int token_settings_check(const char *module, const char *token, struct err *err) MUSTER_MUST_CHECK;
/* Until SIGTERM, PARENT_DRAIN or the supervisor's end. */
int token_process_run(const struct token_options *o, struct err *err) MUSTER_MUST_CHECK;

#endif
