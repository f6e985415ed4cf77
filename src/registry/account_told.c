/* account_told: see account_told.h.  What is compared is a text of all settings; those that came later stand in it only where they are not as
 * they were before there was such a setting, so that texts of earlier versions stay good. */
#include "registry/account_told.h"

#include "registry/profile.h"
#include "registry/row.h"

#define TEXT_MAX (600 + 2 * PROFILE_TEXT_MAX + ACCOUNT_TRIED_MAX)

/* Settings that came later are in it where they are not the default, so that a text from before there were any stays the same. */
static void text_of(enum account_kind kind, enum account_method method, const struct account_settings *s, char out[TEXT_MAX]) {
    snprintf(out, TEXT_MAX, "kind=%d method=%d reprovision=%d approval=%d expected_only=%d device_key=%d device_life=%lld lost_answer_window=%lld issue_ceiling=%lld", (int)kind, (int)method,
             (int)s->reprovision, s->approval, s->expected_only, (int)s->device_key, (long long)s->device_life, (long long)s->lost_answer_window, (long long)s->issue_ceiling);
    size_t n = strlen(out);
    if (s->renewal_window || s->late_renewal != LATE_RENEWAL || s->superseded_renewal != SUPERSEDED_RENEWAL)
        snprintf(out + n, TEXT_MAX - n, " renewal_window=%lld late_renewal=%lld superseded_renewal=%lld", (long long)s->renewal_window, (long long)s->late_renewal,
                 (long long)s->superseded_renewal);
    n = strlen(out);
    if (s->server_keygen)
        snprintf(out + n, TEXT_MAX - n, " server_keygen=1");
    n = strlen(out);
    if (s->csr_queue)
        snprintf(out + n, TEXT_MAX - n, " csr_queue=1");
    n = strlen(out);
    if (s->hook != HOOK_OFF)
        snprintf(out + n, TEXT_MAX - n, " hook=%d", (int)s->hook);
    char profile[PROFILE_TEXT_MAX + 1];
    n = strlen(out);
    if (*profile_text(&s->profile, profile))
        snprintf(out + n, TEXT_MAX - n, " profile=%s", profile);
    n = strlen(out);
    if (*profile_text(&s->shadow, profile))
        snprintf(out + n, TEXT_MAX - n, " shadow=%s", profile);
    n = strlen(out);
    if (s->backend == BACKEND_PKCS11)
        snprintf(out + n, TEXT_MAX - n, " backend=pkcs11");
    n = strlen(out);
    if (s->tried[0])
        snprintf(out + n, TEXT_MAX - n, " tried=%s", s->tried);
}

struct told {
    char now[TEXT_MAX], before[TEXT_MAX];
};

/* 1: there is one. */
static int find(struct store_tx *control, const char *name, struct told *out, struct err *err) {
    struct store_row *row;
    int found = first_row(control, &row, err, SQL_TOLD_GET, "s", name);
    if (found <= 0)
        return found;
    row_text(row, 0, out->now, sizeof out->now);
    row_text(row, 1, out->before, sizeof out->before);
    store_row_end(row);
    return 1;
}

static int put(struct store_tx *control, const char *name, const char *now, const char *before, struct err *err) { return store_exec(control, NULL, err, SQL_TOLD_SET, "sss", name, now, before); }

int account_told_run(struct store_tx *control, void *arg, struct err *err) {
    const struct account_told *t = arg;
    struct told have;
    char now[TEXT_MAX], before[TEXT_MAX] = "";
    text_of(t->kind, t->method, &t->settings, now);
    if (!t->is_new) {
        text_of(t->kind, t->method_before, &t->settings_before, before);
        int found = find(control, t->name, &have, err);
        if (found < 0)
            return found;
        if (!found || (strcmp(before, have.now) != 0 && strcmp(before, have.before) != 0))
            return err_set(err, MUSTER_ECORRUPT, "The settings of the account %s in the registry are not those that an operator gave it.", t->name);
    }
    return put(control, t->name, now, before, err);
}

int account_told_check_run(struct store_tx *control, void *arg, struct err *err) {
    struct account_issuing *all = arg;
    for (size_t i = 0; i < all->n; i++) {
        struct told have;
        char row[TEXT_MAX];
        int rc = 0, found = find(control, all->at[i].name, &have, err);
        if (found < 0)
            return found;
        text_of(all->at[i].kind, all->at[i].method, &all->at[i].settings, row);
        bool now = found && strcmp(row, have.now) == 0, before = found && !now && strcmp(row, have.before) == 0;
        if (all->at[i].state == ACCOUNT_DELETED) {
            all->at[i].control_s = found && all->at[i].deletion_sealed;
            all->at[i].let_be = !found;
            continue;
        }
        all->at[i].known = found;
        all->at[i].control_s = now || before;
        if (before || (now && have.before[0])) /* the change is over, either way */
            rc = put(control, all->at[i].name, row, "", err);
        if (rc)
            return rc;
    }
    return 0;
}

int account_told_adopt_run(struct store_tx *control, void *arg, struct err *err) {
    const struct account_issuing *all = arg;
    int rc = 0;
    for (size_t i = 0; !rc && i < all->n; i++) {
        char row[TEXT_MAX];
        text_of(all->at[i].kind, all->at[i].method, &all->at[i].settings, row);
        if (all->at[i].state != ACCOUNT_DELETED)
            rc = put(control, all->at[i].name, row, "", err);
    }
    return rc;
}
