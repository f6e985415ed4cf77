/* tried: shadow mode.  What of an account's settings, a provisioning key's bounds and a fleet root's rules is tried, before it is enforced: it refuses nobody, and
 * whom it would have refused is written down (MUSTER_ESHADOW).
 *
 * Whoever decides is asked twice: by what holds, which counts, and once more, as a pure question, by the same with what is tried put over it.  So a policy that is
 * tried is judged by the very code that judges it once it is enforced.
 *
 * In a row stands the text of a JSON object with the members that are tried, as the API shows them; "" where none is.  What is tried of certificates themselves (kinds
 * of keys, lives, names) stands beside it, as profiles do (profile.h), and is put over likewise. */
#ifndef MUSTER_REGISTRY_TRIED_H
#define MUSTER_REGISTRY_TRIED_H

#include "json/json.h"
#include "registry/account.h"
#include "registry/key.h"
#include "registry/row.h"

/* What the member `shadow` of a change says. */
enum tried_change { TRIED_NOT, TRIED_TRY, TRIED_ENFORCE, TRIED_DROP };
int tried_change_of(const json_t *body, enum tried_change *out, struct err *err) MUSTER_MUST_CHECK;

/* What can be tried, each list ended by NULL. */
extern const char *const TRIED_OF_ACCOUNT[], *const TRIED_OF_KEY[], *const TRIED_OF_ROOT[];
bool tried_can(const char *const *of, const char *member);
/* What is tried becomes the members of `whole` that it has, or that `body` names; both of `of` alone. */
int tried_put(char *tried, size_t size, const char *const *of, const json_t *whole, const json_t *body, struct err *err) MUSTER_MUST_CHECK;
json_t *tried_json(const char *tried); /* a new object; null: nothing is tried, or it cannot be read */
/* The members that hold from now on, as a new object: those that were tried (TRIED_ENFORCE), or none (TRIED_DROP); and `confirm`, where the body has it.  beside: more than these is tried.
 * NULL: there is nothing, or the body says more than that. */
json_t *tried_settle(enum tried_change change, const char *tried, bool beside, const json_t *body, struct err *err);

/* What holds with what is tried over it, for whoever decides; false: nothing is tried.  Of an account `hook` is then the rule by which somebody is asked on trial. */
bool tried_account(const struct account *a, struct account *out);
bool tried_key(const struct prov_key *k, struct prov_key *out);
bool tried_root(const struct root *r, struct root *out);
/* Of an account and the provisioning key that somebody comes by (NULL: by none): *a and *k become what is tried of each, in `room`; false: nothing is of either. */
struct tried_room {
    struct account account;
    struct prov_key key;
};
bool tried_of(const struct account **a, const struct prov_key **k, struct tried_room *room);
enum root_state tried_root_state(const struct root *r); /* that is tried, whatever holds; 0: none is */

/* The code of a refusal, by what is tried, of what was not refused. */
void tried_refused(struct err *out, const struct err *why);

#endif
