/* own_key: see own_key.h. */
#include "registry/own_key.h"

#include "base/hex.h"
#include "registry/profile.h"

#define OFFER_COUNTS (7 * CLOCK_DAY) /* one that no operator has accepted, since it was last shown: by a certificate with a wrong ID, once, no key is lost for good */

/* Free: unless another device has asked for it, by a request that waits for the fleet CA or for being collected, or by a certificate that it has shown. */
static int look_who_waits(struct store_tx *tx, int64_t account, const struct device *d, const struct hash *spki, enum own_key *out, struct err *err) {
    int64_t whose, now = clock_now();
    int rc = one_int(tx, &whose, -1, err, SQL_KEY_WAITS, "biii", hash_span(spki), d ? d->row : 0, now - OFFER_COUNTS, now + CLOCK_AHEAD);
    if (!rc && whose >= 0)
        *out = whose == account ? OWN_KEY_WAITS : OWN_KEY_ELSEWHERE;
    return rc;
}

int own_key_load(struct store_tx *tx, int64_t account, const struct device *d, const struct hash *spki, enum own_key *out, struct err *err) {
    struct store_row *row;
    *out = OWN_KEY_FREE;
    int found = first_row(tx, &row, err, SQL_KEY_BY_SPKI, "b", hash_span(spki));
    if (found > 0) {
        store_row_end(row);
        *out = OWN_KEY_PROVISIONING;
        return 0;
    }
    if (found < 0 || (found = first_row(tx, &row, err, SQL_LINE_BY_SPKI, "ib", account, hash_span(spki))) < 0)
        return found;
    if (found) { /* of a CA: whoever makes devices with it is none */
        store_row_end(row);
        *out = OWN_KEY_ELSEWHERE;
        return 0;
    }
    if ((found = first_row(tx, &row, err, SQL_DKEY_HELD, "b", hash_span(spki))) < 0)
        return found;
    if (found) {
        bool own = d && store_int(row, 1) == d->row, barred = store_int(row, 2) != 0;
        store_row_end(row);
        *out = !own ? OWN_KEY_ELSEWHERE : barred ? OWN_KEY_BARRED : OWN_KEY_OWN;
        return 0;
    }
    if ((found = first_row(tx, &row, err, SQL_DKEY_GET, "ib", account, hash_span(spki))) < 0)
        return found;
    if (!found)
        return look_who_waits(tx, account, d, spki, out, err);
    store_row_end(row); /* not held: barred when its device's tombstone was lifted */
    *out = OWN_KEY_BARRED;
    return 0;
}

int own_key_whose(enum own_key whose, const struct hash *spki, struct err *why) {
    char digest[2 * PKI_HASH_LEN + 1];
    switch (whose) {
    case OWN_KEY_FREE:
    case OWN_KEY_OWN:
        return 0;
    case OWN_KEY_BARRED:
        return err_set(why, MUSTER_EKEYBARRED, NULL);
    case OWN_KEY_ELSEWHERE:
        return err_set(why, MUSTER_EKEYELSEWHERE, NULL);
    case OWN_KEY_WAITS:
        hex_encode(hash_span(spki), digest);
        return err_set(why, MUSTER_EKEYELSEWHERE, "Another device has asked for a certificate with this very key, or shown one; `muster device list --spki %s` says which.", digest);
    case OWN_KEY_PROVISIONING:
        break;
    }
    return err_set(why, MUSTER_EKEYELSEWHERE, "The key of the request is a provisioning key's, which every image has; the device needs one of its own.");
}

int own_key_judge(const struct account *a, const struct prov_key *key, const struct key_facts *k, enum own_key whose, struct err *why) {
    struct err kind = ERR_INIT;
    if (k->kind == KEY_RSA && k->bits > KEY_RSA_OWN_MAX)
        return err_set(why, MUSTER_ECSR, "The request cannot be signed: its key is RSA of %d bits, and at most %d are certified.", k->bits, KEY_RSA_OWN_MAX);
    if (profile_judge(a, key, k, &kind))
        return err_set(why, MUSTER_ECSR, "The request cannot be signed. %s", kind.text);
    return own_key_whose(whose, &k->spki, why);
}
