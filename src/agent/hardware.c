/* hardware: see hardware.h. */
#include "agent/hardware.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

#define KEYS "keys"
#define KEYS_MAX 16 /* that may wait for their removal: a token is not filled up with them */
#define LABEL "muster-agent"
#define PUBLIC_MAX 1024

struct list {
    struct buf text;
};
#define LIST_INIT ((struct list){BUF_INIT((KEYS_MAX + 2) * KEYRING_URI_MAX)})
static void list_fini(struct list *l) { buf_fini(&l->text); }
DEFINE_CLEANUP_FINI(list_fini, struct list)

static int list_read(const struct place *p, struct list *out, struct err *err) {
    int rc = file_read(p->fd, KEYS, &out->text, err);
    return rc == MUSTER_ENOTFOUND ? 0 : rc;
}

static bool next_line(struct span *rest, char uri[KEYRING_URI_MAX]) {
    while (rest->n) {
        long end = span_index(*rest, '\n');
        struct span line = span_sub(*rest, 0, end < 0 ? rest->n : (size_t)end);
        *rest = span_sub(*rest, end < 0 ? rest->n : line.n + 1, rest->n);
        if (!line.n || line.n >= KEYRING_URI_MAX)
            continue;
        snprintf(uri, KEYRING_URI_MAX, "%.*s", SPAN_FMT(line));
        return true;
    }
    return false;
}

static size_t list_count(const struct list *l) {
    char uri[KEYRING_URI_MAX];
    size_t n = 0;
    for (struct span rest = buf_span(&l->text); next_line(&rest, uri);)
        n++;
    return n;
}

static int list_write(const struct place *p, struct span text, struct err *err) {
    return text.n ? file_replace(p->fd, KEYS, text, 0644, err) : file_remove(p->fd, KEYS, err);
}

/* --- making ------------------------------------------------------------------------------------------------------------------------------------------ */

struct made {
    const struct place *p;
    char uri[KEYRING_URI_MAX];
};

static int note(void *arg, const char *uri, struct err *err) {
    CLEANUP(list_fini) struct list l = LIST_INIT;
    struct made *m = arg;
    snprintf(m->uri, sizeof m->uri, "%s", uri);
    int rc = list_read(m->p, &l, err);
    if (rc)
        return rc;
    if (list_count(&l) >= KEYS_MAX)
        return err_set(err, MUSTER_EKEYFULL, "%d keys that this agent has made could not be removed again (%s/" KEYS "); no further one is made.", KEYS_MAX, m->p->dir);
    buf_addf(&l.text, "%s\n", uri);
    return buf_ok(&l.text) ? list_write(m->p, buf_span(&l.text), err) : err_set(err, MUSTER_ENOMEM, NULL);
}

void hardware_place(const struct session *s, char out[KEYRING_URI_MAX]) {
    char now[KEYRING_URI_MAX];
    unsigned current = place_current(&s->place);
    out[0] = '\0';
    if (s->o->key[0])
        snprintf(out, KEYRING_URI_MAX, "%s", strcmp(s->o->key, "file") ? s->o->key : "");
    else if (current && place_where(&s->place, current, now, NULL) == 0)
        keyring_place_of(now, out);
}

int hardware_put(const struct session *s, unsigned number, const char *uri, const EVP_PKEY *public, struct err *err) {
    CLEANUP(buf_fini) struct buf der = BUF_INIT(PUBLIC_MAX), line = BUF_INIT(KEYRING_URI_MAX + 1);
    int rc = key_public_der(public, &der, err);
    buf_addf(&line, "%s\n", uri);
    if (rc || (rc = place_put(&s->place, number, "pkey.uri", buf_span(&line), 0644, err)))
        return rc;
    return place_put(&s->place, number, "pkey.pub", buf_span(&der), 0644, err);
}

int hardware_make(struct session *s, const char *place, unsigned number, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct made m = {.p = &s->place};
    int rc = hardware_settle(s, err); /* what was made in vain before makes room */
    if (rc || (rc = keyring_make(place, LABEL, note, &m, &key, err)))
        return rc;
    session_say(s, "a key was made in the %s", keyring_place(place) == KEYRING_TPM2 ? "TPM" : "token");
    return hardware_put(s, number, m.uri, key, err);
}

/* --- removing ---------------------------------------------------------------------------------------------------------------------------------------- */

/* *needed: whether an identity names it, or may: one whose key's name is gone and that has its public half. */
static int look_needed(const struct place *p, const char *uri, bool *needed, struct err *err) {
    const unsigned numbers[] = {place_current(p), place_next(p)};
    *needed = false;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char where[KEYRING_URI_MAX];
        int rc = numbers[i] ? place_where(p, numbers[i], where, err) : 0;
        if (rc)
            return rc;
        bool may = numbers[i] && (where[0] ? keyring_same(where, uri) : place_has(p, numbers[i], "pkey.pub"));
        *needed = *needed || may;
    }
    return 0;
}

static bool removed(struct session *s, const char *uri) {
    struct err why = ERR_INIT;
    if (keyring_remove(uri, &why) == 0) {
        session_say(s, "a key that is not needed any more was removed from the %s", keyring_place(uri) == KEYRING_TPM2 ? "TPM" : "token");
        return true;
    }
    session_say(s, "a key that is not needed any more could not be removed yet: %s", err_text(&why));
    return false;
}

int hardware_settle(struct session *s, struct err *err) {
    if (faccessat(s->place.fd, HOOKS_DUE, F_OK, 0) == 0)
        return 0; /* who was not told of the new key may still need the one before */
    CLEANUP(list_fini) struct list l = LIST_INIT, left = LIST_INIT;
    char uri[KEYRING_URI_MAX];
    int rc = list_read(&s->place, &l, err);
    for (struct span rest = buf_span(&l.text); !rc && next_line(&rest, uri);) {
        bool needed;
        if ((rc = look_needed(&s->place, uri, &needed, err)) == 0 && (needed || !removed(s, uri)))
            buf_addf(&left.text, "%s\n", uri);
    }
    return rc || left.text.n == l.text.n ? rc : list_write(&s->place, buf_span(&left.text), err);
}

size_t hardware_left(const struct place *p) {
    CLEANUP(list_fini) struct list l = LIST_INIT;
    char uri[KEYRING_URI_MAX];
    size_t n = 0;
    if (list_read(p, &l, NULL))
        return 0;
    for (struct span rest = buf_span(&l.text); next_line(&rest, uri);) {
        bool needed = true;
        n += look_needed(p, uri, &needed, NULL) == 0 && !needed;
    }
    return n;
}
