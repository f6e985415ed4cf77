/* passphrase: see passphrase.h. */
#include "base/passphrase.h"

#include <errno.h>
#include <termios.h>

#define INTERRUPT 3 /* ctrl-C, as a character */

/* Without echo, and with ctrl-C as a character, so that no signal can end the program while the terminal is silent. */
static int silence(struct termios *before) {
    if (tcgetattr(STDIN_FILENO, before))
        return -1;
    struct termios silent = *before;
    silent.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL | ISIG);
    silent.c_cc[VEOL] = INTERRUPT; /* ends a line, as a newline does */
    return tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
}

/* Up to the newline, byte by byte: what stands behind it belongs to others. */
static int read_line(const char *what, struct secret *out, struct err *err) {
    CLEANUP(secret_fini) struct secret line = SECRET_INIT;
    size_t n = 0;
    if (secret_alloc(&line, PASSPHRASE_MAX + 1))
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (;;) {
        ssize_t got = read(STDIN_FILENO, line.p + n, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(err, MUSTER_EIO, "The %s cannot be read: %s.", what, strerror(errno));
        if (got == 0 || line.p[n] == '\n')
            break;
        if (line.p[n] == INTERRUPT)
            return err_set(err, MUSTER_EINVALID, "The %s was not given.", what);
        if (++n > PASSPHRASE_MAX)
            return err_set(err, MUSTER_EINVALID, "The %s has more than %d bytes.", what, PASSPHRASE_MAX);
    }
    if (n == 0)
        return err_set(err, MUSTER_EINVALID, "The %s was not given.", what);
    return secret_copy(out, span_of(line.p, n)) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}

static int ask(const char *prompt, const char *what, struct secret *out, struct err *err) {
    struct termios before;
    /* Silent before it asks: what is typed from then on is taken, and never echoed. */
    if (silence(&before))
        return err_set(err, MUSTER_EIO, "The terminal's echo cannot be switched off: %s.", strerror(errno));
    fprintf(stderr, "%s %s: ", prompt, what);
    fflush(stderr);
    int rc = read_line(what, out, err);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    return rc;
}

static int check_length(struct span s, const char *what, size_t min, struct err *err) {
    if (s.n < min || s.n > PASSPHRASE_MAX)
        return err_set(err, MUSTER_EINVALID, "The %s has not between %zu and %d bytes.", what, min, PASSPHRASE_MAX);
    return 0;
}

int passphrase_read(const char *what, bool twice, size_t min, struct secret *out, struct err *err) {
    CLEANUP(secret_fini) struct secret first = SECRET_INIT;
    CLEANUP(secret_fini) struct secret second = SECRET_INIT;
    bool terminal = isatty(STDIN_FILENO);
    int rc = terminal ? ask("Give the", what, &first, err) : read_line(what, &first, err);
    if (rc || (rc = check_length(secret_span(&first), what, min, err)))
        return rc;
    if (terminal && twice) {
        if ((rc = ask("Once more, the", what, &second, err)))
            return rc;
        if (!secret_eq(secret_span(&first), secret_span(&second)))
            return err_set(err, MUSTER_EINVALID, "The two are not the same.");
    }
    *out = first;
    first = SECRET_INIT;
    return 0;
}

int passphrase_read_file(const char *path, const char *what, size_t min, struct secret *out, struct err *err) {
    CLEANUP(secret_fini) struct secret content = SECRET_INIT;
    int rc = secret_read_file(&content, path, PASSPHRASE_MAX + 2, err);
    if (rc)
        return rc;
    long end = span_index(secret_span(&content), '\n');
    struct span line = span_sub(secret_span(&content), 0, end < 0 ? content.n : (size_t)end);
    if ((rc = check_length(line, what, min, err)))
        return rc;
    return secret_copy(out, line) ? err_set(err, MUSTER_ENOMEM, NULL) : 0;
}
