/* settings: the table of musterd.conf(5); see settings.h. */
#include "config/settings.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct settings, member)

const struct config_key SETTINGS_TABLE[] = {
    {"host", CONFIG_LIST, AT(host), "localhost", 0, 0, NULL,
     "Host names and addresses of the gateway; the first is the one in URLs. 127.0.0.1 and ::1 are always in its certificate besides. Each account also has <account>.<first host>."},
    {"listen", CONFIG_TEXT, AT(listen), "127.0.0.1:8443", 0, 0, NULL, "Address and port of the gateway, where devices connect. Port 0 picks one."},
    {"admin", CONFIG_TEXT, AT(admin), "127.0.0.1:9443", 0, 0, NULL, "Address and port of the operators' API. Port 0 picks one."},
    {"gateway_url", CONFIG_TEXT, AT(gateway_url), "", 0, 0, NULL, "URL of the gateway as devices see it. Empty: https://<first host>:<port>."},
    {"proxy_from", CONFIG_LIST, AT(proxy_from), "", 0, 0, NULL,
     "Addresses and networks of the balancers in front of the gateway. A connection from there has to begin with a PROXY header of version 2, which names the client; a connection from anywhere else must not."},
    {"auth_socket", CONFIG_TEXT, AT(auth_socket), "", 0, 0, NULL,
     "Path of a Unix socket where a proxy of your own asks at /auth whether a request may go on (nginx's auth_request, Envoy's ext_authz). Empty: none. Whoever may write there can name any device's certificate."},
    {"auth_socket_group", CONFIG_TEXT, AT(auth_socket_group), "", 0, 0, NULL, "Group that may connect to auth_socket. Empty: its owner alone."},
    {"auth_users", CONFIG_LIST, AT(auth_users), "", 0, 0, NULL, "Users, by name or number, whose processes are answered on auth_socket: the proxy's. root is answered always."},
    {"identity_headers", CONFIG_LIST, AT(identity_headers), "muster", 0, 0, NULL,
     "The header fields that name the device to what stands behind the gateway: muster (x-muster-account, x-muster-device-uuid, x-muster-device-id), ota-ce (x-ats-namespace, x-ats-device-uuid, x-ats-device-id), or names of your own: account=NAME uuid=NAME device-id=NAME. The device ID is percent-encoded."},
    {"crl_listen", CONFIG_TEXT, AT(crl_listen), "", 0, 0, NULL,
     "ADDR:PORT where the gateway serves certificate revocation lists and answers OCSP without TLS, and nothing else. Port 0 picks one. Empty: nowhere; `muster crl export` has the lists all the same."},
    {"crl_interval", CONFIG_SPAN, AT(crl_interval), "1d", 1, 2592000, NULL, "A revocation list is made again after this long, and within a second of each revocation."},
    {"crl_life", CONFIG_SPAN, AT(crl_life), "7d", 2, 34560000, NULL, "How long after it was made a revocation list names its next update: beyond it verifiers take it for too old, and refuse everybody."},
    {"certificate_ocsp", CONFIG_TEXT, AT(certificate_ocsp), "", 0, 0, NULL,
     "The URL of OCSP that new device certificates name, as verifiers reach crl_listen: http://HOST:PORT/ocsp; the account is put behind it. It stays in them for their life. Empty: they name none."},
    {"ocsp_life", CONFIG_SPAN, AT(ocsp_life), "1h", 60, 259200, NULL, "How long after it was made an OCSP answer names its next update. A verifier that keeps it may let in for so long who is revoked meanwhile."},
    {"loops", CONFIG_INT, AT(loops), "0", 0, 256, NULL, "Event-loop threads of the gateway. 0: one a core."},
    {"sandbox", CONFIG_BOOL, AT(sandbox), "on", 0, 0, NULL, "Confine each process with Landlock and seccomp. Off is for kernels that cannot; it is said in the log at each start."},
    {"vault_user", CONFIG_TEXT, AT(vault_user), "", 0, 0, NULL, "User of the vault's process when started as root. Empty: the one that started it."},
    {"control_user", CONFIG_TEXT, AT(control_user), "", 0, 0, NULL, "User of the operators' process when started as root."},
    {"gateway_user", CONFIG_TEXT, AT(gateway_user), "", 0, 0, NULL, "User of the gateway's process when started as root."},
    {"courier_user", CONFIG_TEXT, AT(courier_user), "", 0, 0, NULL, "User of the process that delivers webhooks when started as root with the three others. Empty: nobody."},
    {"log_level", CONFIG_CHOICE, AT(log_level), "info", 0, 0, "debug|info|warn|error", "The least level that is written to stderr."},
    {"log_format", CONFIG_CHOICE, AT(log_format), "text", 0, 0, "text|json", "How events are written: a line of key=value pairs, or a JSON object a line."},
    {"log_requests", CONFIG_CHOICE, AT(log_requests), "refused", 0, 0, "off|refused|all",
     "Which requests of devices and operators get a line of their own: none, those answered with 400 and above, or all."},
    {"metrics_open", CONFIG_BOOL, AT(metrics_open), "no", 0, 0, NULL,
     "Let anybody who reaches the operators' API read /metrics without a token: numbers, and the names of accounts."},
    {"master_key", CONFIG_CHOICE, AT(master_key), "file", 0, 0, "file|passphrase|credential",
     "Where the vault's master key comes from: a key file, a passphrase (asked on the terminal, or the first line of stdin), or a passphrase as a systemd credential."},
    {"master_key_file", CONFIG_TEXT, AT(master_key_file), "", 0, 0, NULL, "The key file, or the credential's file. Empty: DIR/vault/master.key, or $CREDENTIALS_DIRECTORY/master."},
    {"pkcs11_module", CONFIG_TEXT, AT(pkcs11_module), "", 0, 0, NULL,
     "Path of the PKCS#11 module of a token (HSM, smart card) in which CA keys of accounts are made, where an account has backend pkcs11. It runs in a process of its own. Empty: none."},
    {"pkcs11_token", CONFIG_TEXT, AT(pkcs11_token), "", 0, 0, NULL, "The token: its label, or a URI by RFC 7512 (pkcs11:token=…;serial=…)."},
    {"pkcs11_pin_file", CONFIG_TEXT, AT(pkcs11_pin_file), "", 0, 0, NULL,
     "File of mode 0600 whose first line is the token's PIN. Empty: the systemd credential pkcs11-pin where there is one, otherwise no login."},
    {"pkcs11_files", CONFIG_LIST, AT(pkcs11_files), "", 0, 0, NULL,
     "Files and directories that the module reads and writes, such as /var/lib/softhsm/tokens or /dev/bus/usb; it may read /usr, /lib and a few files of /etc besides, and nothing of the data directory."},
    {"pkcs11_network", CONFIG_BOOL, AT(pkcs11_network), "no", 0, 0, NULL,
     "Let the module make connections: to a daemon of this machine (pcscd) or over the network. It needs a token_user of its own then: a process of the vault's user could ask for keys at DIR/vault.sock."},
    {"token_user", CONFIG_TEXT, AT(token_user), "", 0, 0, NULL, "User of the process with the PKCS#11 module when started as root with the others. Empty: the vault's."},
    {"server_certificate", CONFIG_TEXT, AT(server_certificate), "", 0, 0, NULL,
     "PEM file with the operator's own certificate of the gateway, leaf first. Empty: Muster makes and renews its own."},
    {"server_key", CONFIG_TEXT, AT(server_key), "", 0, 0, NULL, "PEM file with the private key of server_certificate; readable by its owner alone."},
    {"server_chain_check", CONFIG_BOOL, AT(server_chain_check), "yes", 0, 0, NULL,
     "Refuse to start with a server_certificate that does not chain to the anchor that enrolled devices were given: they would be stranded."},
    {"connections", CONFIG_INT, AT(connections), "4096", 16, 1000000, NULL, "Connections that one event loop holds; beyond, the oldest that says nothing, the oldest idle one or a slow one is closed."},
    {"enrolments", CONFIG_INT, AT(enrolments), "256", 1, 100000, NULL,
     "Enrolments under way at a time. Devices beyond them get 429 with a Retry-After of their own, which spreads them over the time that the line will take; devices that are enrolled go on, and renewals have a quarter as many places besides."},
    {"limit_source", CONFIG_INT, AT(limit_source), "6000", 0, 1000000, NULL,
     "Handshakes that fail and requests that are refused, a minute, of one address (of IPv6, of one /64 network). Beyond, connections from there are closed at once. 0: no limit."},
    {"limit_device", CONFIG_INT, AT(limit_device), "120", 0, 1000000, NULL, "Enrolments, renewals and reports (ECUs, hardware, network, packages, configuration, events) of one device, a minute; beyond, 429. 0: no limit."},
    {"limit_key", CONFIG_INT, AT(limit_key), "60000", 0, 1000000, NULL, "Enrolments that are asked for with one provisioning key, a minute, whatever becomes of them; beyond, 429. 0: no limit."},
    {"limit_account", CONFIG_INT, AT(limit_account), "120000", 0, 1000000, NULL, "The same of all provisioning keys of an account. 0: no limit."},
    {"limit_guesses", CONFIG_INT, AT(limit_guesses), "30", 0, 1000000, NULL,
     "Wrong codes of invitations (EST) that one source may try a minute; beyond, 429. 0: no limit."},
    {"limit_time", CONFIG_INT, AT(limit_time), "600", 0, 1000000, NULL, "Signed times (GET /time) that one source may ask for a minute; beyond, 429. 0: no limit."},
    {"limit_ocsp", CONFIG_INT, AT(limit_ocsp), "500", 1, 100000, NULL,
     "OCSP answers that are signed a second, whoever asks; beyond, tryLater. What was answered before and still holds needs no signature."},
    {"sessions", CONFIG_INT, AT(sessions), "20000", 0, 10000000, NULL, "TLS sessions that can be resumed. 0: none."},
    {"session_seconds", CONFIG_SPAN, AT(session_seconds), "2h", 60, 604800, NULL, "How long a TLS session can be resumed."},
    {"webhook_networks", CONFIG_LIST, AT(webhook_networks), "", 0, 0, NULL,
     "Networks in CIDR form that webhooks may be sent to. Empty: anywhere but this machine. Loopback only where it is named here, and plain http only to there; link-local and metadata addresses never."},
    {"webhook_retry_first", CONFIG_SPAN, AT(webhook_retry_first), "10s", 1, 3600, NULL, "Wait after the first failed attempt of a webhook; it doubles with each further one, and is a fifth longer or shorter by chance."},
    {"webhook_retry_most", CONFIG_SPAN, AT(webhook_retry_most), "1h", 1, 86400, NULL, "The longest wait between two attempts, and the longest Retry-After that is obeyed."},
    {"webhook_retry_for", CONFIG_SPAN, AT(webhook_retry_for), "24h", 1, 2592000, NULL, "How long an event is tried; then it is a dead letter, and waits for an operator."},
    {"webhook_queue", CONFIG_INT, AT(webhook_queue), "100000", 10, 10000000, NULL, "Events that wait for one webhook; beyond, the oldest becomes a dead letter."},
    {"rsa_pool", CONFIG_INT, AT(rsa_pool), "16", 0, 10000, NULL, "RSA-2048 keys made ahead for accounts whose devices get RSA keys."},
};
const size_t SETTINGS_COUNT = sizeof SETTINGS_TABLE / sizeof *SETTINGS_TABLE;

#undef AT
#define AT(member) offsetof(struct route_settings, member)

static const struct config_key ROUTE_TABLE[] = {
    {"upstream", CONFIG_TEXT, AT(upstream), "", 0, 0, NULL, "The server behind: http://HOST[:PORT] or https://HOST[:PORT]. A name is looked up again for each new connection."},
    {"path", CONFIG_TEXT, AT(path), "", 0, 0, NULL,
     "The path there: a text with {rest} (what follows the prefix, with its slash), {account}, {uuid} (the device's) and {device_id} (percent-encoded). Empty: the path as the device sent it."},
    {"accounts", CONFIG_LIST, AT(accounts), "", 0, 0, NULL, "The accounts whose devices the route is for. Empty: all; a route of the same prefix that names the account comes before it."},
    {"keep_host", CONFIG_BOOL, AT(keep_host), "no", 0, 0, NULL, "Send the Host that the device sent, where it is a name of the gateway, instead of the upstream's."},
    {"connect_timeout", CONFIG_SPAN, AT(connect_timeout), "5s", 1, 600, NULL, "For the connection and its TLS handshake."},
    {"response_timeout", CONFIG_SPAN, AT(response_timeout), "60s", 1, 86400, NULL, "From the end of the request to the beginning of the answer."},
    {"idle_timeout", CONFIG_SPAN, AT(idle_timeout), "60s", 1, 86400, NULL, "Without a byte of the answer, or with no room for the request's next one."},
    {"connections", CONFIG_INT, AT(connections), "256", 1, 100000, NULL, "Connections to the upstream that one event loop has at a time; beyond, devices get 503 with Retry-After. One device has at most a fourth of them, or four."},
    {"tls_ca", CONFIG_TEXT, AT(tls_ca), "", 0, 0, NULL, "PEM file with the CAs that an https upstream is verified with. Empty: the system's."},
    {"tls_certificate", CONFIG_TEXT, AT(tls_certificate), "", 0, 0, NULL, "PEM file with the certificate that the gateway shows to the upstream, leaf first. Empty: none."},
    {"tls_key", CONFIG_TEXT, AT(tls_key), "", 0, 0, NULL, "PEM file with its private key."},
    {"tls_name", CONFIG_TEXT, AT(tls_name), "", 0, 0, NULL, "The name that the upstream's certificate has to hold. Empty: HOST."},
};
#define ROUTE_COUNT (sizeof ROUTE_TABLE / sizeof *ROUTE_TABLE)

/* A prefix is a path of whole segments: "/director", or "/" alone. */
static int check_prefix(const char *prefix, struct err *err) {
    size_t n = strlen(prefix);
    if (prefix[0] != '/' || (n > 1 && prefix[n - 1] == '/') || strstr(prefix, "//") || strpbrk(prefix, "?#%\\ \t"))
        return err_set(err, MUSTER_ECONFIG, "The prefix of a route is a path such as /director, without a slash at its end and without %%, ? or #.");
    return 0;
}

static int begin_route(void *out, const char *argument, void **at, struct err *err) {
    struct settings *s = out;
    int rc = check_prefix(argument, err);
    if (rc)
        return rc;
    struct route_settings *more = realloc(s->routes, (s->n_routes + 1) * sizeof *more);
    if (!more)
        return err_set(err, MUSTER_ENOMEM, NULL);
    s->routes = more;
    struct route_settings *one = &more[s->n_routes];
    *one = (struct route_settings){.prefix = strdup(argument)};
    if (!one->prefix)
        return err_set(err, MUSTER_ENOMEM, NULL);
    s->n_routes++;
    *at = one;
    return 0;
}

const struct config_section SETTINGS_ROUTE = {
    "route", "/PREFIX", ROUTE_TABLE, ROUTE_COUNT, begin_route,
    "What devices ask for under a path is asked of a server behind the gateway, with the device's proven identity in header fields. The longest prefix counts."};

int settings_load(const char *path, struct settings *out, struct err *err) {
    return config_load_sections(path, SETTINGS_TABLE, SETTINGS_COUNT, &SETTINGS_ROUTE, 1, out, err);
}

int settings_load_text(const struct buf *text, const char *name, struct settings *out, struct err *err) {
    return config_load_text(text, name, SETTINGS_TABLE, SETTINGS_COUNT, &SETTINGS_ROUTE, 1, out, err);
}

bool settings_same(const struct settings *a, const struct settings *b) {
    bool same = a->n_routes == b->n_routes && config_same(SETTINGS_TABLE, SETTINGS_COUNT, a, b);
    for (size_t i = 0; same && i < a->n_routes; i++)
        same = !strcmp(a->routes[i].prefix, b->routes[i].prefix) && config_same(ROUTE_TABLE, ROUTE_COUNT, &a->routes[i], &b->routes[i]);
    return same;
}

void settings_fini(struct settings *s) {
    config_fini(SETTINGS_TABLE, SETTINGS_COUNT, s);
    for (size_t i = 0; i < s->n_routes; i++) {
        config_fini(ROUTE_TABLE, ROUTE_COUNT, &s->routes[i]);
        free(s->routes[i].prefix);
    }
    free(s->routes);
    s->routes = NULL;
    s->n_routes = 0;
}

void settings_hosts_free(char **hosts) {
    for (char **h = hosts; h && *h; h++)
        free(*h);
    free(hosts);
}

int settings_hosts(const struct settings *s, char ***out, size_t *n, struct err *err) {
    const char *rest = s->host;
    char **hosts = calloc(strlen(rest) / 2 + 2, sizeof *hosts);
    for (*n = 0; hosts && *(rest += strspn(rest, " ")); *n += 1) {
        size_t length = strcspn(rest, " ");
        if (!(hosts[*n] = strndup(rest, length))) {
            settings_hosts_free(hosts);
            return err_set(err, MUSTER_ENOMEM, NULL);
        }
        rest += length;
    }
    if (!hosts)
        return err_set(err, MUSTER_ENOMEM, NULL);
    if (!*n) {
        free(hosts);
        return err_set(err, MUSTER_ECONFIG, "The setting host is empty.");
    }
    *out = hosts;
    return 0;
}
