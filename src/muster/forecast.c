/* forecast: `muster forecast`: GET /api/v1/forecast for people: what ends, in the order in which it does, and whom it stops. */
#include "json/json.h"
#include "muster/api.h"
#include "muster/command.h"
#include "muster/print.h"

#define WIDTH 160
#define NAMES_SHOWN 5

static const json_t *at(const json_t *doc, const char *name) { return json_object_get(doc, name); }
static long long number(const json_t *doc, const char *name) { return json_integer_value(at(doc, name)); }

static const char *word(const json_t *doc, const char *name) {
    const char *s = json_string_value(at(doc, name));
    return s ? s : "";
}

/* Text of the server never drives the terminal. */
__attribute__((format(printf, 1, 2))) static void line(const char *fmt, ...) {
    CLEANUP(buf_fini) struct buf text = BUF_INIT(16384);
    va_list ap;
    va_start(ap, fmt);
    buf_vaddf(&text, fmt, ap);
    va_end(ap);
    print_line(buf_span(&text), WIDTH);
}

static void show_devices(const json_t *cause) {
    CLEANUP(buf_fini) struct buf names = BUF_INIT(8192);
    const json_t *all = at(cause, "devices");
    size_t i, n = json_array_size(all);
    json_t *one;
    json_array_foreach(all, i, one) {
        if (i == NAMES_SHOWN)
            break;
        buf_addf(&names, "%s%s", i ? ", " : "", word(one, "device_id"));
    }
    long long more = number(cause, "left_out") + (long long)(n > NAMES_SHOWN ? n - NAMES_SHOWN : 0);
    if (n)
        line("            %s%s", buf_str(&names), more ? ", …" : "");
}

static void show_cause(const json_t *cause) {
    const char *account = word(cause, "account"), *subject = word(cause, "subject");
    line("%.10s  %s%s%s%s%s", word(cause, "first"), word(cause, "cause"), *account ? " of " : "", account, *subject ? ": " : "", subject);
    if (!strcmp(word(cause, "cause"), "provisioning-key"))
        line("            no new devices with %s (%s)", number(cause, "keys") == 1 ? "it" : "them", word(cause, "code"));
    else if (number(cause, "renews"))
        line("            %lld stop, and %lld unless they renew before (%s), until %.10s", number(cause, "stops"), number(cause, "renews"), word(cause, "code"), word(cause, "last"));
    else
        line("            %lld stop (%s), until %.10s", number(cause, "stops"), word(cause, "code"), word(cause, "last"));
    show_devices(cause);
    line("            %s", word(cause, "fix"));
}

int command_forecast(struct invocation *in, struct err *err) {
    CLEANUP(buf_fini) struct buf path = BUF_INIT(4096);
    CLEANUP_JSON json_t *doc = NULL;
    size_t i;
    json_t *cause;
    int rc = command_path(in, in->command->path, &path, err);
    if (rc || (rc = api_json(in->api, "GET", buf_str(&path), NULL, &doc, NULL, err)))
        return rc;
    if (in->json)
        return print_json(doc, err);
    json_array_foreach(at(doc, "causes"), i, cause)
        show_cause(cause);
    if (number(doc, "renewable"))
        line("Now %lld device%s whose certificate%s ended may renew still, the first until %.16sZ.", number(doc, "renewable"), number(doc, "renewable") == 1 ? "" : "s",
             number(doc, "renewable") == 1 ? " has" : "s have", word(doc, "renewable_until"));
    if (!json_is_true(at(doc, "complete")))
        line("Not whole: %lld damaged row(s) of the registry could not be judged, or there are more ends than are shown: see muster status.", number(doc, "damaged"));
    line("Until %.10s: %lld device%s stop, %lld renew or stop, %lld provisioning key%s.", word(doc, "until"), number(doc, "stops"), number(doc, "stops") == 1 ? "" : "s", number(doc, "renews"),
         number(doc, "keys"), number(doc, "keys") == 1 ? " ends" : "s end");
    return 0;
}
