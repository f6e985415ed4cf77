/* status: `muster status`: GET /api/v1/status on one screen of 80 by 24 for a server with a few accounts.  What needs an operator comes first;
 * what does not fit is counted. */
#include <limits.h>
#include <time.h>

#include "base/clock.h"
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/print.h"

#define WIDTH 80
#define ATTENTION_LINES 5
#define ACCOUNT_LINES 4
#define REFUSED_LINES 2
#define EXPIRES_LINES 2

static const json_t *at(const json_t *doc, const char *name) { return json_object_get(doc, name); }
static long long number(const json_t *doc, const char *name) { return json_integer_value(at(doc, name)); }

/* Everything that is shown goes through here: text of the server never drives the terminal, and no line is longer than the screen. */
__attribute__((format(printf, 1, 2))) static void line(const char *fmt, ...) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(16384);
    va_list ap;
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    print_line(buf_span(&text), WIDTH);
}

static const char *word(const json_t *doc, const char *name) {
    const char *s = json_string_value(at(doc, name));
    return s ? s : "-";
}

/* "3.2 GB", in one of four buffers in turn. */
static const char *bytes(long long n) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    static char texts[4][24];
    static unsigned turn;
    double v = (double)n;
    size_t u = 0;
    while (v >= 1000 && u + 1 < sizeof units / sizeof *units) {
        v /= 1000;
        u++;
    }
    char *out = texts[turn++ % 4];
    snprintf(out, sizeof texts[0], v < 10 && u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return out;
}

static void more(size_t all, size_t shown, const char *what) {
    if (all > shown)
        line("  and %zu more %s; see --json", all - shown, what);
}

/* --- what needs you ------------------------------------------------------------------------------------------------------------------- */

/* What of it fits into so many bytes, ended at a word. */
static struct span that_fits(struct span s, size_t room) {
    size_t n = room;
    if (s.n <= room)
        return s;
    while (n && s.p[n] != ' ')
        n--;
    return span_sub(s, 0, n ? n : room);
}

/* How many lines it took: two where it does not fit into one, with "…" for what is left out of the second, and what to type in any case. */
static size_t show_item(const char *level, const char *account, const char *text, const char *command) {
    CLEANUP(buf_fini) struct buf all = BUF_INIT(16384);
    CLEANUP(buf_fini) struct buf type = BUF_INIT(WIDTH);
    const size_t room = WIDTH - 9;
    buf_addf(&all, "%s%s%s", account ? account : "", account ? ": " : "", text);
    if (command)
        buf_addf(&type, " [%s]", command);
    if (all.n + type.n <= room) {
        line("%-8s %s%s", level, buf_str(&all), buf_str(&type));
        return 1;
    }
    struct span first = that_fits(buf_span(&all), room), rest = span_trim(span_sub(buf_span(&all), first.n, all.n)), second = rest;
    if (rest.n + type.n > room)
        second = that_fits(rest, room - type.n - 1);
    line("%-8s %.*s", level, SPAN_FMT(first));
    line("%-8s %.*s%s%s", "", SPAN_FMT(second), second.n < rest.n ? "…" : "", buf_str(&type));
    return 2;
}

static void show_attention(const json_t *doc) {
    const json_t *all = at(doc, "attention");
    size_t i, n = json_array_size(all), used = 0, shown = 0;
    json_t *one;
    if (!n)
        line("Nothing needs you.");
    json_array_foreach(all, i, one) {
        const char *account = json_string_value(at(one, "account"));
        if (used + 1 >= ATTENTION_LINES && used)
            break;
        used += show_item(word(one, "level"), account, word(one, "text"), json_string_value(at(one, "command")));
        shown++;
    }
    more(n, shown, "that need you");
}

/* --- accounts ------------------------------------------------------------------------------------------------------------------------------ */

static void show_accounts(const json_t *doc) {
    const json_t *accounts = at(doc, "accounts"), *items = at(accounts, "items");
    size_t i, shown = 0;
    json_t *a;
    line("%-20s %-10s %8s %7s %6s %7s %5s %8s", "account", "kind", "active", "pending", "quar.", "revoked", "+1h", "end 30d");
    json_array_foreach(items, i, a) {
        const json_t *d = at(a, "devices");
        if (i == ACCOUNT_LINES)
            break;
        line("%-20s %-10s %8lld %7lld %6lld %7lld %5lld %8lld", word(a, "id"), word(a, "kind"), number(d, "active"), number(d, "pending"), number(d, "quarantined"),
             number(d, "revoked"), number(a, "registered_hour"), number(a, "certificates_end_30d"));
        shown++;
    }
    more((size_t)number(accounts, "total"), shown, "accounts");
}

/* --- what ends, and who is refused --------------------------------------------------------------------------------------------------------- */

static void show_expires(const json_t *doc) {
    const json_t *all = at(doc, "expires");
    size_t i;
    json_t *one;
    json_array_foreach(all, i, one) {
        const char *account = json_string_value(at(one, "account")), *when = word(one, "at");
        if (i == EXPIRES_LINES)
            break;
        line("%-10s %.10s  %s%s%s", i ? "" : "ends next", when, word(one, "kind"), account ? " of " : "", account ? account : "");
    }
}

static void show_refused(const json_t *doc) {
    const json_t *refused = at(doc, "refused"), *all = at(refused, "items"), *g = at(doc, "gateway");
    size_t i;
    json_t *one;
    if (g)
        line("%-10s %lld of %lld requests in the last %s; of the last day%s:", "refused", number(g, "refused_hour"), number(g, "requests_hour"),
             number(g, "counted_seconds") >= 3540 ? "hour" : "minutes", json_array_size(all) ? "" : " nothing");
    else
        line("%-10s %s%lld times in the last day", "refused", json_is_true(at(refused, "complete")) ? "" : "at least ", number(refused, "count"));
    json_array_foreach(all, i, one) {
        if (i == REFUSED_LINES)
            break;
        line("%-10s %6lld %s: %s", "", number(one, "count"), word(one, "code"), word(one, "reason"));
    }
}

/* --- the server's parts -------------------------------------------------------------------------------------------------------------------- */

/* Who is not confined comes first: the line is cut at its end. */
static void show_sandbox(const json_t *doc) {
    const json_t *sandbox = at(doc, "sandbox"), *all = at(sandbox, "processes");
    CLEANUP(buf_fini) struct buf loose = BUF_INIT(1024);
    CLEANUP(buf_fini) struct buf confined = BUF_INIT(1024);
    long long least = LLONG_MAX;
    size_t i;
    json_t *p;
    json_array_foreach(all, i, p) {
        bool good = json_is_true(at(p, "confined"));
        struct buf *of = good ? &confined : &loose;
        buf_addf(of, "%s%s", of->n ? ", " : "", word(p, "process"));
        if (good && number(p, "landlock") < least)
            least = number(p, "landlock");
    }
    if (loose.n)
        buf_adds(&loose, confined.n ? " NOT CONFINED; " : " NOT CONFINED");
    if (confined.n)
        buf_addf(&confined, " (Landlock %lld)", least);
    line("%-10s %s: %s%s", "sandbox", json_is_true(at(sandbox, "on")) ? "on" : "OFF", buf_str(&loose), buf_str(&confined));
}

static void show_server(const json_t *doc) {
    const json_t *vault = at(doc, "vault"), *store = at(doc, "store"), *enrolments = at(doc, "enrolments"), *clock = at(doc, "clock");
    if (!vault)
        return;
    line("%-10s %lld devices in the last hour, %lld in the last minute; %lld connections", "enrolment", number(enrolments, "hour"), number(enrolments, "minute"),
         number(at(doc, "gateway"), "connections"));
    if (json_is_integer(at(vault, "answered_us")))
        line("%-10s %s, answered in %.1f ms; clock %s", "vault", word(vault, "state"), (double)number(vault, "answered_us") / 1000, word(clock, "state"));
    else
        line("%-10s %s; clock %s", "vault", word(vault, "state"), word(clock, "state"));
    const json_t *registry = at(store, "registry"), *control = at(store, "control");
    line("%-10s registry %s, %s and %s of log; control %s; %s free", "store", word(registry, "state"), bytes(number(registry, "bytes")), bytes(number(registry, "wal_bytes")),
         word(control, "state"), json_is_integer(at(store, "free_bytes")) ? bytes(number(store, "free_bytes")) : "unknown");
    show_sandbox(doc);
}

static void show(const json_t *doc) {
    const char *account = json_string_value(at(doc, "account"));
    line("muster %s  %s  %s%s  %s", word(doc, "version"), account ? account : word(doc, "gateway_url"), word(doc, "at"), json_is_true(at(doc, "ok")) ? "" : "  NOT WELL",
         account ? "(this account alone)" : "");
    show_attention(doc);
    putchar('\n');
    show_accounts(doc);
    putchar('\n');
    show_expires(doc);
    show_refused(doc);
    show_server(doc);
}

static int once(struct invocation *in, bool *ok, struct err *err) {
    CLEANUP_JSON json_t *doc = NULL;
    int rc = api_json(in->api, "GET", in->command->path, NULL, &doc, NULL, err);
    if (rc)
        return rc;
    *ok = json_is_true(at(doc, "ok"));
    if (in->json)
        return print_json(doc, err);
    show(doc);
    return 0;
}

/* Again and again until it is interrupted; a server that does not answer is said, and asked again. */
static _Noreturn void watch(struct invocation *in, int64_t seconds) {
    for (;;) {
        struct err err = ERR_INIT;
        bool ok;
        printf("\x1b[H\x1b[2J");
        if (once(in, &ok, &err))
            line("%s", err_text(&err));
        fflush(stdout);
        const struct timespec pause = {.tv_sec = (time_t)seconds};
        nanosleep(&pause, NULL);
    }
}

int command_status(struct invocation *in, struct err *err) {
    const char *every = invocation_option(in, "watch");
    bool ok = false, check = invocation_option(in, "check");
    uint64_t seconds = 0;
    if (every && (!span_to_u64(span_str(every), &seconds) || seconds < 1 || seconds > 3600))
        return err_set(err, MUSTER_EUSAGE, "--watch takes 1 to 3600 seconds, not \"%s\".", every);
    if (every && (in->json || check))
        return err_set(err, MUSTER_EUSAGE, "--watch goes with neither --json nor --check.");
    if (every)
        watch(in, (int64_t)seconds);
    int rc = once(in, &ok, err);
    if (!rc && check && !ok)
        rc = err_set(err, MUSTER_EUNAVAILABLE, "The server is not well: something critical needs you.");
    return rc;
}
