/* floor_csr: what reading a certificate request costs at least: base64, slices of DER, and one verification.  P-256 and one line alone, for
 * bench_floor; whatever else comes ends the program. */
#ifndef MUSTER_BENCH_FLOOR_CSR_H
#define MUSTER_BENCH_FLOOR_CSR_H

#include <stddef.h>

#define FLOOR_POINT_LEN 65

struct floor_csr {
    const unsigned char *cn, *point; /* into storage that the next call overwrites; point: uncompressed, of the key that has signed the request */
    size_t cn_n;
};

void floor_csr_init(void);
/* base64: a PKCS#10 without line breaks. */
void floor_csr_read(const char *base64, size_t n, struct floor_csr *out);

#endif
