/* short_path: a library for LD_PRELOAD that gives the server CA which `musterd init` makes a path length of 0, as versions of Muster had it that could not rotate
 * it, for tests/integration.  It is a part of no program that is installed. */
#include <dlfcn.h>
#include <string.h>

#include <openssl/x509v3.h>

__attribute__((visibility("default"))) int X509_add1_ext_i2d(X509 *x, int nid, void *value, int critical, unsigned long flags) {
    static int (*real)(X509 *, int, void *, int, unsigned long);
    char name[64] = "";
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "X509_add1_ext_i2d");
    BASIC_CONSTRAINTS *bc = value;
    if (nid == NID_basic_constraints && X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof name) > 0 && !strcmp(name, "Muster server CA") && !bc->pathlen) {
        bc->pathlen = ASN1_INTEGER_new();
        ASN1_INTEGER_set(bc->pathlen, 0);
    }
    return real(x, nid, value, critical, flags);
}
