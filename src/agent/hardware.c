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

/* --- removing ---------------------------------------------------------------------------------------------------------------------------------------- */

/* Whether an identity needs the key of that name: it may where the identity names it by its label alone, or has its public half and lost its name. */
enum need { NOBODY, MAYBE, SURELY };

static int look_needed(const struct place *p, const char *uri, enum need *need, struct err *err) {
    const unsigned numbers[] = {place_current(p), place_next(p)};
    *need = NOBODY;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char where[KEYRING_URI_MAX];
        int rc = numbers[i] ? place_where(p, numbers[i], where, err) : 0;
        if (rc)
            return rc;
        bool may = numbers[i] && (where[0] ? keyring_same(where, uri) : place_has(p, numbers[i], "pkey.pub"));
        enum need one = !may ? NOBODY : where[0] && keyring_exact(where) ? SURELY : MAYBE;
        *need = one > *need ? one : *need;
    }
    return 0;
}

/* Whether it is the key of an identity by what it is, however that one's URI is spelt; true where that cannot be known. */
static bool belongs(const struct place *p, const EVP_PKEY *key) {
    const unsigned numbers[] = {place_current(p), place_next(p)};
    CLEANUP(buf_fini) struct buf der = BUF_INIT(PUBLIC_MAX);
    bool mine = key_public_der(key, &der, NULL) != 0;
    for (size_t i = 0; !mine && i < sizeof numbers / sizeof *numbers; i++) {
        CLEANUP(buf_fini) struct buf public = BUF_INIT(PUBLIC_MAX);
        if (!numbers[i])
            continue;
        bool in_file = !place_has(p, numbers[i], "pkey.pub") && !place_has(p, numbers[i], "pkey.uri");
        mine = !in_file && (place_get(p, numbers[i], "pkey.pub", &public, NULL) || span_eq(buf_span(&public), buf_span(&der)));
    }
    return mine;
}

/* By the module and the PIN that are known now, which may have moved since it was made. */
static void name_now(const struct session *s, const char *listed, char out[KEYRING_URI_MAX]) {
    char now[KEYRING_URI_MAX];
    unsigned current = place_current(&s->place);
    if (keyring_moved(listed, s->o->key, out) || (current && place_where(&s->place, current, now, NULL) == 0 && keyring_moved(listed, now, out)))
        return;
    snprintf(out, KEYRING_URI_MAX, "%s", listed);
}

/* False: it stays in the list. */
static bool removed(struct session *s, const char *listed, enum need need) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    char uri[KEYRING_URI_MAX];
    struct err why = ERR_INIT;
    name_now(s, listed, uri);
    int rc = keyring_open(uri, &key, &why);
    if ((rc == MUSTER_EKEYGONE && need == MAYBE) || (rc == 0 && belongs(&s->place, key)))
        return false;
    if ((rc == 0 || rc == MUSTER_EKEYGONE) && keyring_remove(uri, &why) == 0) {
        session_say(s, "a key that is not needed any more was removed from the %s", keyring_place(uri) == KEYRING_TPM2 ? "TPM" : "token");
        return true;
    }
    session_say(s, "a key that is not needed any more could not be removed yet: %s", err_text(&why));
    return false;
}

/* The key that was in use when what hooks were not told of began: programs may use it still, and those that followed none.  False: nobody knows. */
static bool told_of(const struct session *s, char uri[KEYRING_URI_MAX]) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(KEYRING_URI_MAX);
    if (file_read(s->place.fd, HOOKS_KEY, &text, NULL))
        return false;
    snprintf(uri, KEYRING_URI_MAX, "%s", buf_str(&text));
    return true;
}

static int settle(struct session *s, bool all, struct err *err) {
    CLEANUP(list_fini) struct list l = LIST_INIT, left = LIST_INIT;
    char uri[KEYRING_URI_MAX], told[KEYRING_URI_MAX] = "";
    if (!all && faccessat(s->place.fd, HOOKS_DUE, F_OK, 0) == 0 && !told_of(s, told))
        return 0;
    int rc = list_read(&s->place, &l, err);
    for (struct span rest = buf_span(&l.text); !rc && next_line(&rest, uri);) {
        enum need need;
        bool waits = told[0] && keyring_same(told, uri);
        if ((rc = look_needed(&s->place, uri, &need, err)) == 0 && (waits || need == SURELY || !removed(s, uri, need)))
            buf_addf(&left.text, "%s\n", uri);
    }
    return rc || left.text.n == l.text.n ? rc : list_write(&s->place, buf_span(&left.text), err);
}

int hardware_settle(struct session *s, struct err *err) { return settle(s, false, err); }

size_t hardware_left(const struct place *p) {
    CLEANUP(list_fini) struct list l = LIST_INIT;
    char uri[KEYRING_URI_MAX];
    size_t n = 0;
    if (list_read(p, &l, NULL))
        return 0;
    for (struct span rest = buf_span(&l.text); next_line(&rest, uri);) {
        enum need need;
        n += look_needed(p, uri, &need, NULL) == 0 && need == NOBODY;
    }
    return n;
}

/* --- making one -------------------------------------------------------------------------------------------------------------------------------------- */

int hardware_make(struct session *s, const char *place, unsigned number, struct err *err) {
    CLEANUP(EVP_PKEY_free) EVP_PKEY *key = NULL;
    struct made m = {.p = &s->place};
    int rc = hardware_settle(s, err); /* what was made in vain before makes room */
    rc = rc ? rc : keyring_make(place, LABEL, note, &m, &key, err);
    if (rc == MUSTER_EKEYFULL && faccessat(s->place.fd, HOOKS_DUE, F_OK, 0) == 0) { /* a hook that fails for ever must not end the device */
        session_say(s, "there is no room for another key: the one before goes, although hooks in %s fail and were not told of the change", s->o->hooks);
        rc = settle(s, true, err);
        rc = rc ? rc : keyring_make(place, LABEL, note, &m, &key, err);
    }
    if (rc)
        return rc;
    session_say(s, "a key was made in the %s", keyring_place(place) == KEYRING_TPM2 ? "TPM" : "token");
    return hardware_put(s, number, m.uri, key, err);
}

int hardware_follow(struct session *s, struct err *err) {
    CLEANUP(buf_fini) struct buf line = BUF_INIT(KEYRING_URI_MAX + 1);
    CLEANUP(EVP_PKEY_free) EVP_PKEY *so_far = NULL, *key = NULL;
    char now[KEYRING_URI_MAX], moved[KEYRING_URI_MAX];
    unsigned current = place_current(&s->place);
    if (!current || place_where(&s->place, current, now, NULL) || !keyring_moved(now, s->o->key, moved) || keyring_open(now, &so_far, NULL) == 0)
        return 0;
    if (keyring_open(moved, &key, NULL) || !belongs(&s->place, key))
        return 0; /* as it stands, then */
    buf_addf(&line, "%s\n", moved);
    int rc = place_put(&s->place, current, "pkey.uri", buf_span(&line), 0644, err);
    if (!rc)
        session_say(s, "the key's module and PIN are those that `key` names now");
    return rc;
}
