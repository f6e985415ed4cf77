/* A row of the table chain, which was written of what devices showed: two bytes with the length of its leaf, the leaf, its CA certificates. */
#include "fuzz.h"
#include "registry/device_chain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    CLEANUP(device_chain_fini) struct device_chain c = {0};
    CLEANUP(buf_fini) struct buf leaf = BUF_INIT(1u << 20);
    CLEANUP(buf_fini) struct buf cas = BUF_INIT(1u << 20);
    struct err err = ERR_INIT;
    if (n < 2)
        return 0;
    const struct span in = span_of(data + 2, n - 2);
    const size_t at = (size_t)data[0] << 8 | data[1];
    const struct span first = span_sub(in, 0, at < in.n ? at : in.n), rest = at < in.n ? span_sub(in, at, in.n - at) : SPAN_NONE;
    int rc = device_chain_read(first, rest, &c, &err);
    MUST(c.n < CHAIN_MAX_CERTS && (rc == 0 || (rc == MUSTER_ECORRUPT && err.code == rc)));
    if (rc)
        return 0;
    MUST(c.leaf && cert_der(c.leaf, &leaf) == 0 && leaf.n > 0);
    for (size_t i = 0; i < c.n; i++)
        MUST(c.cas[i] && cert_der(c.cas[i], &cas) == 0);
    MUST((rest.n == 0) == (c.n == 0));
    return 0;
}
