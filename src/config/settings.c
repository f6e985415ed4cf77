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
    {"identity_headers", CONFIG_LIST, AT(identity_headers), "muster", 0, 0, NULL,
     "The header fields that name the device to what stands behind the gateway: muster (x-muster-account, x-muster-device-uuid, x-muster-device-id), ota-ce (x-ats-namespace, x-ats-device-uuid, x-ats-device-id), or names of your own: account=NAME uuid=NAME device-id=NAME. The device ID is percent-encoded."},
    {"loops", CONFIG_INT, AT(loops), "0", 0, 256, NULL, "Event-loop threads of the gateway. 0: one a core."},
    {"sandbox", CONFIG_BOOL, AT(sandbox), "on", 0, 0, NULL, "Confine each process with Landlock and seccomp. Off is for kernels that cannot; it is said in the log at each start."},
    {"vault_user", CONFIG_TEXT, AT(vault_user), "", 0, 0, NULL, "User of the vault's process when started as root. Empty: the one that started it."},
    {"control_user", CONFIG_TEXT, AT(control_user), "", 0, 0, NULL, "User of the operators' process when started as root."},
    {"gateway_user", CONFIG_TEXT, AT(gateway_user), "", 0, 0, NULL, "User of the gateway's process when started as root."},
    {"log_level", CONFIG_CHOICE, AT(log_level), "info", 0, 0, "debug|info|warn|error", "The least level that is written to stderr."},
    {"log_format", CONFIG_CHOICE, AT(log_format), "text", 0, 0, "text|json", "How events are written: a line of key=value pairs, or a JSON object a line."},
    {"log_requests", CONFIG_CHOICE, AT(log_requests), "refused", 0, 0, "off|refused|all",
     "Which requests of devices and operators get a line of their own: none, those answered with 400 and above, or all."},
    {"master_key", CONFIG_CHOICE, AT(master_key), "file", 0, 0, "file|passphrase|credential",
     "Where the vault's master key comes from: a key file, a passphrase (asked on the terminal, or the first line of stdin), or a passphrase as a systemd credential."},
    {"master_key_file", CONFIG_TEXT, AT(master_key_file), "", 0, 0, NULL, "The key file, or the credential's file. Empty: DIR/vault/master.key, or $CREDENTIALS_DIRECTORY/master."},
    {"server_certificate", CONFIG_TEXT, AT(server_certificate), "", 0, 0, NULL,
     "PEM file with the operator's own certificate of the gateway, leaf first. Empty: Muster makes and renews its own."},
    {"server_key", CONFIG_TEXT, AT(server_key), "", 0, 0, NULL, "PEM file with the private key of server_certificate; readable by its owner alone."},
    {"server_chain_check", CONFIG_BOOL, AT(server_chain_check), "yes", 0, 0, NULL,
     "Refuse to start with a server_certificate that does not chain to the anchor that enrolled devices were given: they would be stranded."},
    {"connections", CONFIG_INT, AT(connections), "4096", 16, 1000000, NULL, "Connections that one event loop holds; beyond, the oldest idle one is closed."},
    {"sessions", CONFIG_INT, AT(sessions), "20000", 0, 10000000, NULL, "TLS sessions that can be resumed. 0: none."},
    {"session_seconds", CONFIG_SPAN, AT(session_seconds), "2h", 60, 604800, NULL, "How long a TLS session can be resumed."},
    {"rsa_pool", CONFIG_INT, AT(rsa_pool), "16", 0, 10000, NULL, "RSA-2048 keys made ahead for accounts whose devices get RSA keys."},
};
const size_t SETTINGS_COUNT = sizeof SETTINGS_TABLE / sizeof *SETTINGS_TABLE;

int settings_load(const char *path, struct settings *out, struct err *err) { return config_load(path, SETTINGS_TABLE, SETTINGS_COUNT, out, err); }
void settings_fini(struct settings *s) { config_fini(SETTINGS_TABLE, SETTINGS_COUNT, s); }

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
