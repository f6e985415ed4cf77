/* credentials.zip as `muster key install` gets it: what is accepted has each entry once, within its bounds, and reads the same in a zip of our own. */
#include "bundle/credentials.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    CLEANUP(credentials_found_fini) struct credentials_found found = CREDENTIALS_FOUND_INIT;
    CLEANUP(credentials_found_fini) struct credentials_found same = CREDENTIALS_FOUND_INIT;
    CLEANUP(buf_fini) struct buf zip = BUF_INIT(1u << 20);
    struct err err = ERR_INIT;
    int rc = credentials_read(span_of(data, n), &found, &err);
    MUST(rc == 0 || (rc == MUSTER_EINVALID && err.code == rc && err.text[0]));
    if (rc)
        return 0;
    MUST(found.url.n >= 1 && found.url.n <= 4096 && found.p12.n >= 1 && found.p12.n <= 65536 && found.server_ca.n <= 65536);
    struct credentials c = {.url = buf_span(&found.url), .p12 = buf_span(&found.p12), .server_ca = found.server_ca.n ? buf_span(&found.server_ca) : SPAN_LIT("-")};
    MUST(credentials_zip(&c, &zip, &err) == 0 && credentials_read(buf_span(&zip), &same, &err) == 0);
    MUST(span_eq(buf_span(&same.url), c.url) && span_eq(buf_span(&same.p12), c.p12) && span_eq(buf_span(&same.server_ca), c.server_ca) && !same.pushes);
    return 0;
}
