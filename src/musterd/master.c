/* master: see master.h. */
#include "musterd/master.h"

#include "base/passphrase.h"

static int find_credential(struct master *m, struct err *err) {
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (!dir || !*dir)
        return err_set(err, MUSTER_ECONFIG, "master_key = credential: no file is named, and CREDENTIALS_DIRECTORY is not set.");
    if (snprintf(m->path, sizeof m->path, "%s/master", dir) >= (int)sizeof m->path)
        return err_set(err, MUSTER_ECONFIG, "CREDENTIALS_DIRECTORY is too long.");
    m->options.path = m->path;
    return 0;
}

int master_prepare(struct master *m, const struct settings *s, bool twice, struct err *err) {
    static const enum key_master_kind kinds[] = {
        [SETTINGS_MASTER_FILE] = KEY_MASTER_FILE, [SETTINGS_MASTER_PASSPHRASE] = KEY_MASTER_PASSPHRASE, [SETTINGS_MASTER_CREDENTIAL] = KEY_MASTER_CREDENTIAL};
    *m = (struct master){.options = {.kind = kinds[s->master_key]}};
    if (s->master_key == SETTINGS_MASTER_PASSPHRASE) {
        int rc = passphrase_read("passphrase of the vault", twice, KEY_MASTER_PASSPHRASE_MIN, &m->passphrase, err);
        m->options.passphrase = secret_span(&m->passphrase);
        return rc;
    }
    if (s->master_key_file[0]) {
        if (s->master_key_file[0] != '/')
            return err_set(err, MUSTER_ECONFIG, "master_key_file: `%s` is not an absolute path.", s->master_key_file);
        snprintf(m->path, sizeof m->path, "%s", s->master_key_file);
        m->options.path = m->path;
        return 0;
    }
    return s->master_key == SETTINGS_MASTER_CREDENTIAL ? find_credential(m, err) : 0;
}

void master_fini(struct master *m) {
    secret_fini(&m->passphrase);
    m->options.passphrase = SPAN_NONE;
}
