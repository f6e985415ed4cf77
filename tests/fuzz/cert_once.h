/* cert_once: for the targets that judge chains.  A certificate whose bytes were just read is not read again: of most inputs all are but one.  The
 * reader itself is the target `file`. */
#ifndef MUSTER_TESTS_FUZZ_CERT_ONCE_H
#define MUSTER_TESTS_FUZZ_CERT_ONCE_H

#include "fuzz.h"
#include "pki/cert.h"

#define CERTS_REMEMBERED 1024

/* Like cert_from_der(). */
static inline int cert_once(struct span der, struct cert **out, struct err *err) {
    static struct cert *all[CERTS_REMEMBERED];
    static struct hash names[CERTS_REMEMBERED];
    struct hash name;
    hash_of(der, &name);
    size_t at = (size_t)(name.b[0] | name.b[1] << 8) % CERTS_REMEMBERED;
    if (!all[at] || !hash_eq(&name, &names[at])) {
        struct cert *c = NULL;
        int rc = cert_from_der(der, &c, err);
        if (rc)
            return rc;
        cert_free(all[at]);
        all[at] = c;
        names[at] = name;
    }
    return cert_from_x509_known(all[at]->x, all[at], out);
}

#endif
