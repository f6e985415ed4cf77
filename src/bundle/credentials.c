/* credentials: see credentials.h.  libzip, all in memory: the key must not reach a temporary file. */
#include "bundle/credentials.h"

#include <zip.h>

#include "base/cleanup.h"

static int failed(struct err *err, zip_error_t *e) { return err_set(err, MUSTER_EINTERNAL, "credentials.zip cannot be made: %s.", zip_error_strerror(e)); }

static bool add(zip_t *z, const char *name, struct span content) {
    zip_source_t *s = zip_source_buffer(z, content.p, content.n, 0);
    zip_int64_t at = s ? zip_file_add(z, name, s, ZIP_FL_ENC_UTF_8) : -1;
    if (s && at < 0)
        zip_source_free(s);
    /* Unpacked, nobody but its owner reads it. */
    return at >= 0 && zip_file_set_external_attributes(z, (zip_uint64_t)at, 0, ZIP_OPSYS_UNIX, (zip_uint32_t)0100600 << 16) == 0;
}

static int read_back(zip_source_t *s, struct buf *out, struct err *err) {
    zip_stat_t st;
    if (zip_source_stat(s, &st) || zip_source_open(s))
        return failed(err, zip_source_error(s));
    uint8_t *to = buf_extend(out, (size_t)st.size);
    zip_int64_t n = to ? zip_source_read(s, to, st.size) : -1;
    zip_source_close(s);
    return n == (zip_int64_t)st.size ? 0 : buf_check(out, err) ? MUSTER_ENOMEM : failed(err, zip_source_error(s));
}

int credentials_zip(const struct credentials *c, struct buf *out, struct err *err) {
    zip_error_t e;
    zip_error_init(&e);
    zip_source_t *s = zip_source_buffer_create(NULL, 0, 0, &e);
    zip_t *z = s ? zip_open_from_source(s, ZIP_TRUNCATE, &e) : NULL;
    if (!z) {
        if (s)
            zip_source_free(s);
        return failed(err, &e);
    }
    zip_source_keep(s);
    int rc = 0;
    if (!add(z, "autoprov.url", c->url) || !add(z, "autoprov_credentials.p12", c->p12) || !add(z, "server_ca.pem", c->server_ca) || zip_close(z)) {
        rc = failed(err, zip_get_error(z));
        zip_discard(z);
    } else {
        rc = read_back(s, out, err);
    }
    zip_source_free(s);
    return rc;
}
