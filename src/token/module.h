/* token/module: the PKCS#11 module (OASIS PKCS#11 2.40): P-256 keys that are made in the token, sign there, and cannot leave.
 *
 * The token is found by its label or URI when it is needed, and again where it went away: the module is finalised and initialised anew, at most
 * once a second.  A PIN that was wrong is not tried again, lest the token lock itself.  Blocking; one thread. */
#ifndef MUSTER_TOKEN_MODULE_H
#define MUSTER_TOKEN_MODULE_H

#include "base/cleanup.h"
#include "keys/token_wire.h"
#include "token/process.h"

struct module;
/* Loads the module's library, and nothing else. */
int module_load(const char *path, const char *token, struct secret *pin, struct module **out, struct err *err) MUSTER_MUST_CHECK;
void module_free(struct module *m);
/* C_Initialize, and a first look for the token; that it is not there is no failure. */
void module_begin(struct module *m);
/* Does what is asked, and says what came of it. */
void module_answer(struct module *m, const struct token_request *rq, struct token_answer *a);

DEFINE_CLEANUP(module_free, struct module *)

#endif
