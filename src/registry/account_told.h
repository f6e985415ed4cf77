/* account_told: what an operator last wanted an account to be, in control.db, where the gateway does not get at it.
 *
 * The registry's row of an account is what control tells the vault: ceiling, lives, kinds of keys, methods, and that there is such an account at
 * all.  A captured gateway can write that row.  So control tells the vault nothing of an account whose row is not one that it wrote itself:
 * neither what was wanted last nor, while a change is under way, what was there before. */
#ifndef MUSTER_REGISTRY_ACCOUNT_TOLD_H
#define MUSTER_REGISTRY_ACCOUNT_TOLD_H

#include "registry/account.h"

/* Before the vault is told.  before NULL: the account is new. */
struct account_told {
    char name[ACCOUNT_NAME_MAX + 1];
    enum account_kind kind;
    enum account_method method;
    struct account_settings settings;
    bool is_new;
    enum account_method method_before;
    struct account_settings settings_before; /* as the registry has them: MUSTER_ECORRUPT where control did not write them */
};
int account_told_run(struct store_tx *control, void *arg /* struct account_told */, struct err *err);

/* Whether each row is control's own (at[i].control_s), and, where a change was cut off, what it came to. */
int account_told_check_run(struct store_tx *control, void *arg /* struct account_issuing */, struct err *err);

/* Once, when control.db begins to hold this: the rows as they are. */
int account_told_adopt_run(struct store_tx *control, void *arg /* struct account_issuing */, struct err *err);

#endif
