/* device_id: see device_id.h. */
#include "agent/device_id.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/secret.h"
#include "base/uuid.h"
#include "keyring/keyring.h"

#define COMMAND_MS 60000 /* that the command may take */
#define SOURCE_MAX 4096 /* bytes of a file or of an output that is read */

int device_id_accept(struct span id, const char *source, struct err *err) {
    if (id.n == 0 || id.n > DEVICE_ID_MAX || !span_is_utf8(id) || span_has_control(id))
        return err_set(err, MUSTER_EINVALID, "%s names no device: an ID is one line of 1 to %d bytes of UTF-8, without control characters.", source, DEVICE_ID_MAX);
    return 0;
}

static int take_line(struct span text, const char *source, struct buf *id, struct err *err) {
    for (const char *end = "\n\r"; *end; end++) /* whatever stands behind it belongs to it, and is refused */
        if (text.n && text.p[text.n - 1] == (uint8_t)*end)
            text.n--;
    struct span line = span_trim(text);
    int rc = device_id_accept(line, source, err);
    if (rc)
        return rc;
    buf_add(id, line);
    return buf_check(id, err);
}

static int read_file(const char *sysroot, const char *path, struct buf *text, struct err *err) {
    char full[3 * OPTIONS_VALUE_MAX];
    snprintf(full, sizeof full, "%s%s", sysroot, path);
    buf_clear(text);
    return file_read(AT_FDCWD, full, text, err);
}

static int from_file(const struct options *o, struct buf *id, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(SOURCE_MAX);
    int rc = file_read(AT_FDCWD, o->device_id_file, &text, err);
    return rc ? rc : take_line(buf_span(&text), o->device_id_file, id, err);
}

/* The command, without the PINs of keys in its environment. */
static void shell_line(const struct options *o, struct buf *out) {
    const char *const uris[] = {o->key, o->credentials_key};
    char names[2][64];
    for (size_t i = 0; i < 4; i++) {
        keyring_pin_variables(uris[i / 2], names);
        if (names[i % 2][0])
            buf_addf(out, "unset -v %s\n", names[i % 2]);
    }
    buf_adds(out, o->device_id_command);
}

/* Its wait status, with what it has printed; -1: it cannot be run, -2: it did not end in time. */
static int run_command(const char *line, struct buf *out) {
    int ends[2], status = -1;
    int64_t until = clock_mono_ms() + COMMAND_MS;
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        if (dup2(ends[1], STDOUT_FILENO) >= 0)
            execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    bool open = pid > 0, late = false;
    while (open) {
        uint8_t piece[512];
        struct pollfd p = {.fd = ends[0], .events = POLLIN};
        int64_t left = until - clock_mono_ms();
        late = left <= 0 || poll(&p, 1, (int)left) == 0;
        ssize_t n = late ? 0 : read(ends[0], piece, sizeof piece);
        if (n > 0)
            buf_add(out, span_of(piece, (size_t)n));
        open = n > 0 || (n < 0 && errno == EINTR);
    }
    close(ends[0]);
    if (late)
        kill(-pid, SIGKILL);
    if (pid > 0 && waitpid(pid, &status, 0) != pid)
        status = -1;
    return late ? -2 : status;
}

static int from_command(const struct options *o, struct buf *id, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(SOURCE_MAX), line = BUF_INIT(2 * OPTIONS_VALUE_MAX);
    shell_line(o, &line);
    int status = buf_ok(&line) ? run_command(buf_str(&line), &text) : -1;
    if (status == -2)
        return err_set(err, MUSTER_EINVALID, "The command for the device ID took more than %d seconds, and was ended.", COMMAND_MS / 1000);
    if (status == -1 || !WIFEXITED(status) || WEXITSTATUS(status))
        return err_set(err, MUSTER_EINVALID, "The command for the device ID failed (%s %d).", WIFSIGNALED(status) ? "signal" : "exit status",
                       status == -1 ? 127 : WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    int rc = buf_check(&text, err);
    return rc ? rc : take_line(buf_span(&text), "The command for the device ID", id, err);
}

/* machine-id(5) asks not to tell the ID itself to anybody: what is told is a UUID (version 4 by its form) that cannot be traced back. */
static int from_machine_id(const struct options *o, struct buf *id, struct err *err) {
    static const uint8_t salt[crypto_auth_hmacsha256_KEYBYTES] = "muster-agent device ID";
    CLEANUP(buf_fini) struct buf text = BUF_INIT(SOURCE_MAX);
    uint8_t machine[16], hash[crypto_auth_hmacsha256_BYTES];
    struct uuid u;
    char said[UUID_TEXT_LEN + 1];
    int rc = read_file(o->sysroot, "/etc/machine-id", &text, err);
    if (rc)
        return err_prefix(err, "There is no machine ID to derive the device ID from");
    if (hex_decode(span_sub(buf_span(&text), 0, text.n && text.p[text.n - 1] == '\n' ? text.n - 1 : text.n), machine, sizeof machine) || sodium_is_zero(machine, sizeof machine))
        return err_set(err, MUSTER_EINVALID, "/etc/machine-id does not hold a machine ID yet; name the device by --device-id, or run the agent after systemd made one.");
    crypto_auth_hmacsha256(hash, machine, sizeof machine, salt);
    memcpy(u.b, hash, sizeof u.b);
    u.b[6] = (u.b[6] & 0x0f) | 0x40;
    u.b[8] = (u.b[8] & 0x3f) | 0x80;
    uuid_text(&u, said);
    buf_adds(id, said);
    return buf_check(id, err);
}

/* What makers leave in the field; two devices of one name would be worse than none. */
static bool is_filler(struct span s) {
    static const char *const FILLERS[] = {"To Be Filled By O.E.M.", "To be filled by O.E.M.", "Default string", "System Serial Number", "Not Specified", "Not Applicable", "Not Available",
                                          "None", "N/A", "INVALID", "Unknown", "Serial Number", "123456789", "1234567890", "0123456789"};
    bool same = true;
    for (size_t i = 0; i < sizeof FILLERS / sizeof *FILLERS; i++)
        if (span_eq_nocase(s, span_str(FILLERS[i])))
            return true;
    for (size_t i = 1; i < s.n; i++)
        same = same && s.p[i] == s.p[0];
    return same; /* "", "0", "00000000", "xxxxxxx" */
}

static int from_serial(const struct options *o, struct buf *id, struct err *err) {
    static const char *const PLACES[] = {"/sys/class/dmi/id/product_serial", "/sys/firmware/devicetree/base/serial-number", "/sys/class/dmi/id/board_serial"};
    CLEANUP(buf_fini) struct buf text = BUF_INIT(SOURCE_MAX);
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        if (read_file(o->sysroot, PLACES[i], &text, NULL))
            continue;
        struct span s = buf_span(&text);
        while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\0')) /* a device tree ends its texts in NUL */
            s.n--;
        if (!is_filler(span_trim(s)))
            return take_line(s, PLACES[i], id, err);
    }
    return err_set(err, MUSTER_EINVALID, "The firmware names no serial number of this device (DMI needs root to be read); name the device by --device-id.");
}

/* A card that is there in hardware, with an address that its maker gave it. */
static bool mac_of(const struct options *o, const char *card, struct buf *text, uint8_t mac[6]) {
    char path[OPTIONS_VALUE_MAX + 300];
    struct stat st;
    snprintf(path, sizeof path, "%s/sys/class/net/%s/device", o->sysroot, card);
    if (stat(path, &st))
        return false;
    snprintf(path, sizeof path, "/sys/class/net/%s/address", card);
    if (read_file(o->sysroot, path, text, NULL) || text->n < 17)
        return false;
    for (size_t i = 0; i < 6; i++)
        if (hex_decode(span_sub(buf_span(text), 3 * i, 2), mac + i, 1) || (i < 5 && text->p[3 * i + 2] != ':'))
            return false;
    return !(mac[0] & 3) && !sodium_is_zero(mac, 6); /* neither a group's nor one that somebody made up */
}

static int from_mac(const struct options *o, struct buf *id, struct err *err) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(SOURCE_MAX);
    char path[OPTIONS_VALUE_MAX + 32], first[256] = "";
    uint8_t mac[6], found[6] = {0};
    snprintf(path, sizeof path, "%s/sys/class/net", o->sysroot);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || (first[0] && strcmp(e->d_name, first) > 0) || !mac_of(o, e->d_name, &text, mac))
            continue;
        snprintf(first, sizeof first, "%s", e->d_name);
        memcpy(found, mac, sizeof found);
    }
    if (d)
        closedir(d);
    if (!first[0])
        return err_set(err, MUSTER_EINVALID, "There is no network card with an address of its own to call this device by; name it by --device-id.");
    hex_add(id, span_of(found, sizeof found));
    return buf_check(id, err);
}

int device_id_find(const struct options *o, struct buf *id, struct err *err) {
    static const struct {
        const char *name;
        int (*find)(const struct options *, struct buf *, struct err *);
    } SOURCES[] = {{"machine-id", from_machine_id}, {"serial", from_serial}, {"mac", from_mac}};
    if (o->device_id[0])
        return take_line(span_str(o->device_id), "--device-id", id, err);
    if (o->device_id_file[0])
        return from_file(o, id, err);
    if (o->device_id_command[0])
        return from_command(o, id, err);
    for (size_t i = 0; i < sizeof SOURCES / sizeof *SOURCES; i++)
        if (!strcmp(o->device_id_from, SOURCES[i].name))
            return SOURCES[i].find(o, id, err);
    return err_set(err, MUSTER_EINTERNAL, NULL);
}
