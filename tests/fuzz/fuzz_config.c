/* musterd.conf: what is accepted is what stands there (a second, simpler reader agrees), and comes back after it was written. */
#include <sys/mman.h>

#include "config/settings.h"
#include "fuzz.h"

static struct buf written;

static int load(struct span text, struct settings *s, struct err *err) {
    static int fd = -1;
    static char path[40];
    if (fd < 0) {
        fd = memfd_create("muster-fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    MUST(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, text.p, text.n, 0) == (ssize_t)text.n);
    *s = (struct settings){0};
    return settings_load(path, s, err);
}

static void value_text(const struct config_key *k, const struct settings *s, char *out, size_t n) {
    const void *at = (const char *)s + k->offset;
    if (k->type == CONFIG_TEXT || k->type == CONFIG_LIST)
        snprintf(out, n, "%s", *(char *const *)at);
    else if (k->type == CONFIG_BOOL)
        snprintf(out, n, "%s", *(const bool *)at ? "yes" : "no");
    else if (k->type == CONFIG_CHOICE)
        snprintf(out, n, "#%d", *(const int *)at);
    else
        snprintf(out, n, "%lld", (long long)*(const int64_t *)at);
}

static bool is_blank(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static struct span strip(struct span s) {
    while (s.n && is_blank(s.p[0]))
        s = span_sub(s, 1, s.n);
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* A line sets a text to what stands behind its '=' or ':', blanks at the ends apart: nothing is cut off, nothing is left out. */
static void check_line(struct span line, const struct settings *s) {
    line = strip(line);
    if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
        return;
    size_t at = 0;
    while (at < line.n && line.p[at] != '=' && line.p[at] != ':')
        at++;
    MUST(at < line.n);
    struct span name = strip(span_sub(line, 0, at)), value = strip(span_sub(line, at + 1, line.n));
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct config_key *k = &SETTINGS_TABLE[i];
        if (k->type == CONFIG_TEXT && span_eq_str(name, k->name))
            MUST(span_eq_str(value, *(char *const *)((const char *)s + k->offset)));
    }
}

/* The words of host, put together again, are host. */
static void check_hosts(const struct settings *s) {
    char **hosts = NULL;
    size_t n = 0;
    struct err err = ERR_INIT;
    CLEANUP(buf_fini) struct buf again = BUF_INIT(8192);
    if (settings_hosts(s, &hosts, &n, &err)) {
        MUST(err.code == MUSTER_ECONFIG && s->host[0] == '\0');
        return;
    }
    for (size_t i = 0; i < n; i++)
        buf_addf(&again, "%s%s", i ? " " : "", hosts[i]);
    MUST(n >= 1 && hosts[n] == NULL && !strcmp(buf_str(&again), s->host));
    settings_hosts_free(hosts);
}

static void check_loaded(struct span in, const struct settings *s) {
    MUST(s->loops >= 0 && s->loops <= 256 && s->connections >= 16 && s->session_seconds >= 60 && s->rsa_pool <= 10000);
    MUST(s->host && s->listen && s->log_level >= 0 && s->log_level <= 3 && s->master_key >= 0 && s->master_key <= 2);
    MUST(!strstr(s->host, "  ") && s->host[0] != ' ' && span_index(in, 0) < 0);
    if (span_starts(in, SPAN_LIT("\xef\xbb\xbf")))
        in = span_sub(in, 3, in.n);
    while (in.n && in.p[0] != '[') { /* behind it stand keys of sections */
        long end = span_index(in, '\n');
        check_line(end < 0 ? in : span_sub(in, 0, (size_t)end), s);
        in = end < 0 ? SPAN_NONE : span_sub(in, (size_t)end + 1, in.n);
    }
}

#define KEYS 80

/* The file that `init` would write with these values loads to the same values, where they fit on its lines. */
static void check_written(const struct settings *s) {
    static char texts[KEYS][4100];
    const char *set[2 * KEYS + 1] = {NULL};
    size_t of[KEYS]; /* which key each of them is */
    struct settings same;
    struct err err = ERR_INIT;
    size_t n = 0;
    MUST(SETTINGS_COUNT <= KEYS);
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct config_key *k = &SETTINGS_TABLE[i];
        value_text(k, s, texts[i], sizeof texts[i]);
        if (k->type == CONFIG_CHOICE || strlen(texts[i]) + strlen(k->name) > 190)
            continue;
        of[n / 2] = i;
        set[n++] = k->name;
        set[n++] = texts[i];
    }
    set[n] = NULL;
    written = BUF_INIT(256 * 1024);
    config_write(&written, SETTINGS_TABLE, SETTINGS_COUNT, set);
    config_write_section(&written, &SETTINGS_ROUTE); /* comments alone */
    MUST(buf_ok(&written));
    int rc = load(buf_span(&written), &same, &err);
    buf_fini(&written);
    MUST(rc == 0);
    for (size_t i = 0; i < n; i += 2) {
        char text[4100];
        value_text(&SETTINGS_TABLE[of[i / 2]], &same, text, sizeof text);
        MUST(!strcmp(text, set[i + 1]));
    }
    settings_fini(&same);
}

/* The same text says the same again, key by key; a copy of each key is the key. */
static void check_same(struct span in, const struct settings *s) {
    struct settings again, copy = {0};
    struct err err = ERR_INIT;
    MUST(load(in, &again, &err) == 0 && settings_same(s, &again));
    for (size_t i = 0; i < SETTINGS_COUNT; i++)
        MUST(config_copy_key(&SETTINGS_TABLE[i], &copy, s, &err) == 0);
    MUST(config_same(SETTINGS_TABLE, SETTINGS_COUNT, s, &copy));
    again.loops++;
    MUST(!settings_same(s, &again));
    settings_fini(&again);
    settings_fini(&copy);
}

/* With another value for one key it says that one, and of all others the same. */
static void check_rewritten(struct span in, const struct settings *s) {
    const char *const set[] = {"admin", "[::1]:7", "gateway_url", "", NULL};
    struct settings changed;
    struct err err = ERR_INIT;
    written = BUF_INIT(in.n + 256);
    config_rewrite(in, set, &written);
    MUST(buf_ok(&written));
    int rc = load(buf_span(&written), &changed, &err);
    buf_fini(&written);
    MUST(rc == 0 && !strcmp(changed.admin, "[::1]:7") && changed.gateway_url[0] == '\0' && changed.n_routes == s->n_routes);
    for (size_t i = 0; i < SETTINGS_COUNT; i++)
        if (strcmp(SETTINGS_TABLE[i].name, "admin") && strcmp(SETTINGS_TABLE[i].name, "gateway_url"))
            MUST(config_same_key(&SETTINGS_TABLE[i], s, &changed));
    settings_fini(&changed);
}

/* The same text as an option of the command line: NAME=VALUE. */
static void check_option(struct span in) {
    struct settings s = {0};
    char text[600];
    if (in.n >= sizeof text)
        return;
    snprintf(text, sizeof text, "%.*s", SPAN_FMT(in));
    char *value = strchr(text, '=');
    if (!value)
        return;
    *value++ = '\0';
    struct err err = ERR_INIT;
    int rc = config_set(SETTINGS_TABLE, SETTINGS_COUNT, &s, "option", text, value, &err);
    MUST(rc == 0 || (rc == err.code && err.text[0]));
    settings_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct span in = span_of(data, n);
    struct settings s;
    struct err err = ERR_INIT;
    int rc = load(in, &s, &err);
    MUST(rc == 0 || (rc == err.code && err.text[0]));
    if (rc == 0) {
        check_loaded(in, &s);
        check_hosts(&s);
        check_written(&s);
        check_same(in, &s);
        check_rewritten(in, &s);
    }
    settings_fini(&s);
    check_option(in);
    return 0;
}
