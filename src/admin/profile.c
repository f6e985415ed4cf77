/* profile: an account's issuing profile over the API.  It is one of the account's settings, and changed as these are: accounts.c. */
#include "registry/profile.h"

#include "admin/internal.h"
#include "registry/account.h"
#include "registry/tried.h"

static void shown(struct http_exchange *x, int rc, const struct err *err, void *op) { reply_done(x, rc, err, TAKE(((struct account_show *)op)->out)); }

void admin_PROFILE_SHOW(struct http_exchange *x, void *arg) {
    const struct account_show s = {.name = grant_account(x), .profile = true};
    job_start(x, JOB_READ, account_show_run, &s, sizeof s, shown);
}

/* The account's own as the shadow's are written: with its life. */
static struct device_profile whole(const struct account_settings *s) {
    struct device_profile p = s->profile;
    p.life = s->device_life;
    return p;
}

static int take_members(json_t *body, struct device_profile *p, struct err *err) {
    const char *key;
    json_t *v;
    json_object_foreach(body, key, v) {
        bool known;
        if (strcmp(key, "shadow") == 0)
            continue;
        int rc = profile_take(p, key, v, &known, err);
        if (rc)
            return rc;
        if (!known)
            return err_set(err, MUSTER_EINVALID, "An issuing profile has no \"%.40s\".", key);
    }
    if (!p->life) /* null */
        p->life = DEVICE_LIFE;
    if (p->life_max && p->life > p->life_max && !json_object_get(body, "life")) /* so that it can be lowered in one step */
        p->life = p->life_max;
    return 0;
}

static void enforce(struct account_settings *s, const struct device_profile *p) {
    s->device_life = p->life;
    s->profile = *p;
    s->profile.life = 0;
}

/* What is tried begins as what is tried already, and that as what holds. */
int profile_change(json_t *body, struct account_settings *s, struct err *err) {
    enum tried_change shadow;
    int rc = tried_change_of(body, &shadow, err);
    struct device_profile p = shadow == TRIED_TRY && s->shadow.life ? s->shadow : whole(s);
    if (rc || (rc = take_members(body, &p, err)))
        return rc;
    if ((shadow == TRIED_ENFORCE || shadow == TRIED_DROP) && json_object_size(body) > 1)
        return err_set(err, MUSTER_EINVALID, "A profile that was tried is enforced, or dropped, as it is.");
    if (shadow == TRIED_ENFORCE && !s->shadow.life)
        return err_set(err, MUSTER_EINVALID, "The account tries no profile.");
    if (shadow == TRIED_TRY)
        s->shadow = p;
    else if (shadow == TRIED_NOT)
        enforce(s, &p);
    else if (shadow == TRIED_ENFORCE)
        enforce(s, &s->shadow);
    if (shadow == TRIED_ENFORCE || shadow == TRIED_DROP)
        s->shadow = (struct device_profile){0};
    return account_settings_check(s, err);
}
