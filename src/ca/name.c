/* name: see name.h. */
#include "ca/name.h"

#include "base/hex.h"
#include "pki/key.h"

#define DEVICE_ID_MAX 128
#define NAME_LONGEST 240 /* room for a suffix within NAME_MAX */

int ca_check_device_id(struct span id, struct err *err) {
    size_t characters = 0;
    for (size_t i = 0; i < id.n; i++)
        characters += (id.p[i] & 0xc0) != 0x80;
    if (id.n == 0 || id.n > DEVICE_ID_MAX || !span_is_utf8(id) || span_has_control(id))
        return err_set(err, MUSTER_EDEVICEID, NULL);
    if (characters > CA_DEVICE_ID_CHARS)
        return err_set(err, MUSTER_EDEVICEID, "The device ID has %zu characters; a certificate's subject CN holds at most %d.", characters, CA_DEVICE_ID_CHARS);
    return 0;
}

static bool is_plain(uint8_t c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || (c == '.' && !first);
}

void ca_file_name(struct buf *out, struct span id) {
    size_t length = 0;
    for (size_t i = 0; i < id.n; i++)
        length += is_plain(id.p[i], i == 0) ? 1 : 3;
    if (length > NAME_LONGEST) {
        struct hash h;
        hash_of(id, &h);
        buf_adds(out, "sha256-");
        hex_add(out, hash_span(&h));
        return;
    }
    for (size_t i = 0; i < id.n; i++) {
        if (is_plain(id.p[i], i == 0))
            buf_addc(out, id.p[i]);
        else
            buf_addf(out, "%%%02X", id.p[i]);
    }
}
