/* heads: what a signature over audit heads covers.  Shared by the vault, which signs it, and by whoever verifies it. */
#include "vault/vault.h"

void vault_heads_message(int64_t time, const struct vault_head *heads, size_t n, struct buf *out) {
    buf_add(out, span_of("muster audit heads 1", sizeof "muster audit heads 1")); /* with its NUL: no other message begins so */
    buf_add_u64(out, (uint64_t)time);
    buf_add_u32(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        buf_add_u16(out, (uint16_t)heads[i].chain.n);
        buf_add(out, heads[i].chain);
        buf_add_u64(out, heads[i].seq);
        buf_add(out, hash_span(&heads[i].hash));
    }
}
