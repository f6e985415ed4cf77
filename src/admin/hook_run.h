/* hook_run: what accounts ask before they issue (registry/hook.h) is sent by the courier to the account's webhook for certificate.ask, or the server's, signed as
 * webhooks are, and the status of the answer decides: 202 wait, any other 2xx yes, 403 no; everything else, no answer within 10 s, and no such webhook
 * are failures, which are a no for a short time.  Nothing waits for it but the rows that ask. */
#ifndef MUSTER_ADMIN_HOOK_RUN_H
#define MUSTER_ADMIN_HOOK_RUN_H

#include "admin/internal.h"

#define HOOKS_UNDER_WAY 64         /* of the courier's 256 orders */
#define HOOKS_UNDER_WAY_ACCOUNT 16 /* of one account, so that a slow one holds up nobody else */
#define HOOKS_TRIED 32             /* likewise of those on trial, beside them */
#define HOOKS_TRIED_ACCOUNT 8

struct hooks *hooks_new(struct control *c, struct err *err);
void hooks_free(struct hooks *h); /* behind webhooks_free() */

#endif
