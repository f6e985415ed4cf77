/* credentials_check: whether a credentials.zip that was read is good for anything; see credentials.h. */
#include "bundle/credentials.h"
#include "pki/make.h"

static int wrong(struct err *err, const char *what) { return err_set(err, MUSTER_EINVALID, "The file is no credentials.zip that a device could use: %s.", what); }

int credentials_check(struct credentials_found *found, int64_t now, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    CLEANUP(cert_free) struct cert *leaf = NULL;
    size_t n_cas = 0;
    struct key_facts facts;
    int rc = make_pkcs12_read(buf_span(&found->p12), &key, &leaf, &n_cas, err);
    if (rc || (rc = key_facts(key, &facts, err)))
        return rc;
    if (!hash_eq(&facts.spki, &leaf->key.spki))
        return wrong(err, "its key is not the one of its certificate");
    if (n_cas == 0)
        return wrong(err, "its PKCS#12 has no CA certificate, and the client would trust no gateway");
    if (leaf->not_after <= now)
        return err_set(err, MUSTER_EKEYEXPIRED, "The certificate of the provisioning key has expired.");
    found->key = facts.spki;
    found->not_after = leaf->not_after;
    return 0;
}
