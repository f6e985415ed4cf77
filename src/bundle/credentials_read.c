/* credentials_read: credentials.zip read back; see credentials.h.  In memory, as it is made. */
#include <zip.h>

#include "bundle/credentials.h"

#define ENTRIES_MAX 64

static int wrong(struct err *err, const char *what) { return err_set(err, MUSTER_EINVALID, "The file is no credentials.zip that a device could use: %s.", what); }

static inline void zip_discard_it(zip_t *z) { zip_discard(z); }
DEFINE_CLEANUP(zip_discard_it, zip_t *)
static inline void zip_close_entry(zip_file_t *f) { zip_fclose(f); }
DEFINE_CLEANUP(zip_close_entry, zip_file_t *)

static zip_t *open_zip(struct span zip, struct err *err) {
    zip_error_t e;
    zip_error_init(&e);
    zip_source_t *s = zip_source_buffer_create(zip.p, zip.n, 0, &e);
    zip_t *z = s ? zip_open_from_source(s, ZIP_RDONLY | ZIP_CHECKCONS, &e) : NULL;
    if (!z) {
        zip_source_free(s);
        (void)wrong(err, "it cannot be read as a zip");
    }
    zip_error_fini(&e);
    return z;
}

static int read_entry(zip_t *z, zip_uint64_t at, struct buf *out, struct err *err) {
    zip_stat_t st;
    if (out->n)
        return wrong(err, "it has an entry twice");
    if (zip_stat_index(z, at, 0, &st) || !(st.valid & ZIP_STAT_SIZE) || st.size == 0 || st.size > out->max)
        return wrong(err, "an entry of it is empty or too large");
    if ((st.valid & ZIP_STAT_ENCRYPTION_METHOD) && st.encryption_method != ZIP_EM_NONE)
        return wrong(err, "it is encrypted");
    CLEANUP(zip_close_entry) zip_file_t *f = zip_fopen_index(z, at, 0);
    uint8_t *to = f ? buf_extend(out, (size_t)st.size) : NULL;
    uint8_t more;
    /* Read to the end: only there is the checksum compared. */
    if (!to || zip_fread(f, to, st.size) != (zip_int64_t)st.size || zip_fread(f, &more, 1) != 0)
        return wrong(err, "an entry of it cannot be read whole");
    return 0;
}

/* What garage-push and garage-sign take from the same file (doc/wire.md). */
static bool is_for_publishing(const char *name) {
    static const char *const names[] = {"treehub.json", "targets.sec", "client_auth.p12", "api_gateway.url"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

int credentials_read(struct span zip, struct credentials_found *out, struct err *err) {
    CLEANUP(zip_discard_it) zip_t *z = open_zip(zip, err);
    zip_int64_t n = z ? zip_get_num_entries(z, 0) : 0;
    if (!z)
        return MUSTER_EINVALID;
    if (n > ENTRIES_MAX)
        return wrong(err, "it has too many entries");
    for (zip_int64_t i = 0; i < n; i++) {
        const char *name = zip_get_name(z, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        struct buf *to = !name                                      ? NULL
                         : !strcmp(name, "autoprov.url")             ? &out->url
                         : !strcmp(name, "autoprov_credentials.p12") ? &out->p12
                         : !strcmp(name, "server_ca.pem")            ? &out->server_ca
                                                                     : NULL;
        int rc = to ? read_entry(z, (zip_uint64_t)i, to, err) : 0;
        if (rc)
            return rc;
        out->pushes = out->pushes || (name && is_for_publishing(name));
    }
    if (out->url.n == 0)
        return wrong(err, "it has no autoprov.url");
    return out->p12.n ? 0 : wrong(err, "it has no autoprov_credentials.p12");
}
