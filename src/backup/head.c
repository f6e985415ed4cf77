/* head: how it is read and written; see head.h.  The key is head_key.c's. */
#include "backup/head.h"

#include "base/cursor.h"

#define MAGIC "MUSTER backup 1\n"

void backup_head_put(const struct backup_head *h, struct buf *out) {
    buf_adds(out, MAGIC);
    buf_addc(out, (uint8_t)h->to);
    if (h->to == BACKUP_TO_PASSPHRASE) {
        buf_add(out, span_of(h->costs.salt, sizeof h->costs.salt));
        buf_add_u32(out, h->costs.operations);
        buf_add_u64(out, h->costs.memory);
    } else {
        buf_add(out, span_of(h->recipient, sizeof h->recipient));
        buf_add(out, span_of(h->sealed, sizeof h->sealed));
    }
    buf_add(out, span_of(h->stream, sizeof h->stream));
}

int backup_head_write(struct backup_head *h, struct span key, struct buf *out, struct err *err) {
    CLEANUP(buf_fini) struct buf bound = BUF_INIT(BACKUP_HEAD_MAX);
    CLEANUP(buf_fini) struct buf box = BUF_INIT(SEAL_OVERHEAD);
    backup_head_put(h, &bound);
    int rc = buf_check(&bound, err);
    if (rc || (rc = seal_close(key, buf_span(&bound), SPAN_NONE, &box)))
        return err_set(err, rc, NULL);
    memcpy(h->box, box.p, sizeof h->box);
    buf_add(out, buf_span(&bound));
    buf_add(out, buf_span(&box));
    return buf_check(out, err);
}

int backup_head_read(struct span front, struct backup_head *out, size_t *n, struct err *err) {
    struct cursor c = cursor_of(front);
    struct span magic = cursor_bytes(&c, sizeof MAGIC - 1);
    *out = (struct backup_head){.to = cursor_u8(&c)};
    if (c.failed || !span_eq_str(magic, MAGIC))
        return err_set(err, MUSTER_EINVALID, "This is no backup of Muster's.");
    if (out->to != BACKUP_TO_PASSPHRASE && out->to != BACKUP_TO_RECIPIENT)
        return err_set(err, MUSTER_EINVALID, "The backup is encrypted in a way that this version of Muster does not know.");
    struct span salt = SPAN_NONE, recipient = SPAN_NONE, sealed = SPAN_NONE;
    if (out->to == BACKUP_TO_PASSPHRASE) {
        salt = cursor_bytes(&c, sizeof out->costs.salt);
        out->costs.operations = cursor_u32(&c);
        out->costs.memory = cursor_u64(&c);
    } else {
        recipient = cursor_bytes(&c, sizeof out->recipient);
        sealed = cursor_bytes(&c, sizeof out->sealed);
    }
    struct span stream = cursor_bytes(&c, sizeof out->stream), box = cursor_bytes(&c, sizeof out->box);
    if (c.failed)
        return err_set(err, MUSTER_EINVALID, "The backup is cut off in its head.");
    if (salt.n)
        memcpy(out->costs.salt, salt.p, salt.n);
    if (recipient.n) {
        memcpy(out->recipient, recipient.p, recipient.n);
        memcpy(out->sealed, sealed.p, sealed.n);
    }
    memcpy(out->stream, stream.p, stream.n);
    memcpy(out->box, box.p, box.n);
    *n = front.n - c.rest.n;
    return 0;
}
