/* manifest_message: see manifest_message.h. */
#include "pki/manifest_message.h"

void manifest_message(struct buf *out, const char *kit, const char *at, int64_t entries, const char *previous) {
    buf_addf(out, "muster manifest 1\n%s\n%s\n%lld\n%s\n", kit, at, (long long)entries, previous);
}
