/* keyring/pins: see pins.h. */
#include "keyring/pins.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hex.h"

#define KEPT "pins-refused" /* in the directory of keyring_refusals(): the key of the hashes, then those, one a line in hex */
#define PIN_MAX 256
#define MARK_LEN 16
#define MARKS_MAX 32

struct mark {
    uint8_t b[MARK_LEN];
    bool kept; /* in the file as well */
};
struct marks {
    struct hash key;
    struct mark mark[MARKS_MAX];
    size_t n;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct marks here; /* what only this process knows: what could not be kept, and what it has tried once more */
static char *dir;         /* NULL: nothing is kept */
static bool again;        /* what is kept is tried once more */

/* --- marks ------------------------------------------------------------------------------------------------------------------------------------------ */

static int mark_of(const struct hash *key, const struct pin_asked *asked, struct span pin, struct mark *out) {
    CLEANUP(buf_wipe) struct buf b = BUF_INIT(2048);
    struct hash h;
    buf_reserve(&b, 2048);
    buf_add(&b, hash_span(key));
    buf_add(&b, span_of(asked->who, strlen(asked->who) + 1));
    buf_add(&b, pin);
    if (!buf_ok(&b))
        return MUSTER_ENOMEM;
    hash_of(buf_span(&b), &h);
    *out = (struct mark){.kept = false};
    memcpy(out->b, h.b, MARK_LEN);
    return 0;
}

/* Its number; n: it is not there. */
static size_t find(const struct marks *m, const struct pin_asked *asked, struct span pin) {
    struct mark wanted;
    size_t i = 0;
    if (!m->n || mark_of(&m->key, asked, pin, &wanted))
        return m->n;
    while (i < m->n && memcmp(m->mark[i].b, wanted.b, MARK_LEN) != 0)
        i++;
    return i;
}

static void forget(struct marks *m, size_t i) { memmove(m->mark + i, m->mark + i + 1, (--m->n - i) * sizeof *m->mark); }

static void add(struct marks *m, const struct pin_asked *asked, struct span pin, bool kept) {
    struct mark one;
    if (!m->n)
        secret_random_bytes(m->key.b, sizeof m->key.b);
    if (find(m, asked, pin) < m->n || mark_of(&m->key, asked, pin, &one))
        return;
    if (m->n == MARKS_MAX)
        forget(m, 0); /* the oldest */
    one.kept = kept;
    m->mark[m->n++] = one;
}

/* --- on the disk ------------------------------------------------------------------------------------------------------------------------------------ */

static bool next_line(struct span *rest, uint8_t *out, size_t n) {
    long end = span_index(*rest, '\n');
    if (end < 0 || hex_decode(span_sub(*rest, 0, (size_t)end), out, n))
        return false;
    *rest = span_sub(*rest, (size_t)end + 1, rest->n);
    return true;
}

static int open_dir(void) { return dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1; }

/* What is damaged is as if it never was there. */
static void load(int fd, struct marks *out) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(2 * (sizeof out->key.b + 1) + (MARKS_MAX + 1) * (2 * MARK_LEN + 1));
    out->n = 0;
    if (fd < 0 || file_read(fd, KEPT, &text, NULL))
        return;
    struct span rest = buf_span(&text);
    if (next_line(&rest, out->key.b, sizeof out->key.b))
        while (out->n < MARKS_MAX && next_line(&rest, out->mark[out->n].b, MARK_LEN))
            out->n++;
}

static bool keep(int fd, const struct marks *m) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(4096);
    if (fd < 0 || !m->n)
        return fd >= 0 && file_remove(fd, KEPT, NULL) == 0;
    hex_add(&text, hash_span(&m->key));
    for (size_t i = 0; i < m->n; i++) {
        buf_adds(&text, "\n");
        hex_add(&text, span_of(m->mark[i].b, MARK_LEN));
    }
    buf_adds(&text, "\n");
    return buf_ok(&text) && file_replace(fd, KEPT, buf_span(&text), 0600, NULL) == 0;
}

void keyring_refusals(const char *in, bool once_more) {
    pthread_mutex_lock(&lock);
    free(dir);
    dir = in ? realpath(in, NULL) : NULL;
    again = once_more;
    for (size_t i = here.n; i > 0; i--)
        if (here.mark[i - 1].kept)
            forget(&here, i - 1);
    pthread_mutex_unlock(&lock);
}

/* --- PINs ------------------------------------------------------------------------------------------------------------------------------------------- */

int pin_read(const struct pin_source *from, const char *name, struct secret *out, struct err *err) {
    CLEANUP(secret_fini) struct secret file = SECRET_INIT;
    struct span pin = SPAN_NONE;
    if (from->env[0]) {
        const char *value = getenv(from->env);
        if (!value)
            return err_set(err, MUSTER_EKEYPIN, "%s is looked for in the environment variable %s, which is not set.", name, from->env);
        pin = span_str(value);
    } else if (from->file[0]) {
        struct err why = ERR_INIT;
        int rc = secret_read_file(&file, from->file, PIN_MAX, &why);
        if (rc)
            return err_set(err, rc == MUSTER_ENOMEM ? rc : MUSTER_EKEYPIN, "%s: %.400s", name, err_text(&why));
        pin = secret_span(&file);
        while (pin.n && (pin.p[pin.n - 1] == '\n' || pin.p[pin.n - 1] == '\r'))
            pin.n--;
    } else {
        return 0;
    }
    if (!pin.n || pin.n > PIN_MAX)
        return err_set(err, MUSTER_EKEYPIN, "%s is empty, or longer than %d bytes.", name, PIN_MAX);
    return secret_copy(out, pin) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

int pin_check(const struct pin_asked *asked, struct span pin, struct err *err) {
    struct marks kept;
    pthread_mutex_lock(&lock);
    bool known = find(&here, asked, pin) < here.n;
    if (!known && dir && !again) {
        CLEANUP(fd_close) int fd = open_dir();
        load(fd, &kept);
        known = find(&kept, asked, pin) < kept.n;
    }
    bool agent = dir != NULL;
    pthread_mutex_unlock(&lock);
    if (!known)
        return 0;
    return err_set(err, MUSTER_EKEYPIN, "%s was refused before, and is not tried again until it is another one%s: tokens lock themselves after a few wrong ones.", asked->pin,
                   agent ? ", or once by `muster-agent run --now`" : "");
}

void pin_refused(const struct pin_asked *asked, struct span pin) {
    struct marks kept;
    pthread_mutex_lock(&lock);
    CLEANUP(fd_close) int fd = open_dir();
    load(fd, &kept);
    add(&kept, asked, pin, true);
    bool done = keep(fd, &kept);
    if (!done || again)
        add(&here, asked, pin, done);
    pthread_mutex_unlock(&lock);
}

/* Only what was tried once more can be known as refused. */
void pin_taken(const struct pin_asked *asked, struct span pin) {
    struct marks kept;
    pthread_mutex_lock(&lock);
    CLEANUP(fd_close) int fd = again ? open_dir() : -1;
    load(fd, &kept);
    size_t i = find(&kept, asked, pin);
    if (i < kept.n) {
        forget(&kept, i);
        (void)keep(fd, &kept); /* or it is tried once more the next time */
    }
    pthread_mutex_unlock(&lock);
}
