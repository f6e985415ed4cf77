/* commands: every subcommand of muster, one row each; see command.h.  Add a row and it has help, a man page entry and a parser. */
#include <stddef.h>
#include <string.h>

#include "muster/command.h"

#define ACCOUNT "/api/v1/accounts/{account}"

/* The settings of an account, for create and set alike. */
#define ACCOUNT_SETTINGS                                                                                                       \
    {"reprovision", "never|ask|replace", TO_BODY_TEXT, NULL, "What happens when an enrolled device comes again after being wiped", false}, \
    {"approval", "yes|no", TO_BODY_BOOL, NULL, "Whether a new device waits for an operator, by whichever method it comes", false}, \
    {"expected-only", "yes|no", TO_BODY_BOOL, NULL, "Whether only devices announced by `device import` may arrive", false},   \
    {"device-key", "p256|rsa2048", TO_BODY_TEXT, NULL, "The kind of key that is made for devices that enrol; with rsa2048 they may bring RSA keys of their own as well", false},                   \
    {"device-life", "TIME", TO_BODY_TEXT, NULL, "The life of a device certificate issued here: 90d, 20y; none: without a well-defined end; `profile set` says more", false},             \
    {"lost-answer-window", "TIME", TO_BODY_SPAN, NULL, "How long a device that never got its certificate may ask again", false}, \
    {"issue-ceiling", "N", TO_BODY_INT, NULL, "The most certificates that the vault issues for the account in an hour", false}, \
    {"renewal-window", "TIME", TO_BODY_SPAN, NULL, "How long before its end a certificate is renewed by EST; 0 (the default): at any time", false}, \
    {"late-renewal", "TIME", TO_BODY_SPAN, NULL, "How long an expired certificate may still be renewed, and do nothing else (90 days); 0: not at all", false}, \
    {"superseded-renewal", "TIME", TO_BODY_SPAN, NULL, "How long a certificate that the device has replaced may still be renewed, and do nothing else (30 days); 0: not at all", false}, \
    {"server-keygen", "yes|no", TO_BODY_BOOL, NULL, "Whether a device may have its key made by the server over EST (serverkeygen)", false}, \
    {"backend", "sealed|pkcs11", TO_BODY_TEXT, NULL, "Where the private keys of the account's CAs are made from now on: sealed in the vault, or in the server's security module; `root rotate` moves root and issuing CA there", false}, \
    {"csr-queue", "yes|no", TO_BODY_BOOL, NULL, "Whether devices with certificates of your own CA may send requests for it to sign, by EST (`csr list`)", false}, \
    {"hook", "off|new|all|try", TO_BODY_TEXT, NULL, "Whether the webhook that is told of certificate.ask is asked before a certificate is issued: to new devices, or for all renewals too; try: issue whatever it says, and say whom it would have refused", false}

/* A change that refuses nobody at first. */
#define SHADOW                                                                                                                 \
    {"shadow", "try|enforce|drop", TO_BODY_TEXT, NULL, "try: what the other options say refuses nobody, and whom it would have refused is written down (`profile tried`); enforce: what was tried holds from now on; drop: it does not", false}

/* What certificates of devices may be: of an account, and of a provisioning key within it. */
#define PROFILE_RULES                                                                                                          \
    {"life", "TIME", TO_BODY_TEXT, NULL, "How long a certificate lives where its device asks for none in particular: 90d, 20y; none: without a well-defined end", false}, \
    {"longest-life", "TIME", TO_BODY_TEXT, NULL, "What a device may ask for at most; likewise", false},                       \
    {"key-type", "p256|p384|p521|ed25519|rsa2048|rsa3072|rsa4096", TO_BODY_LIST, "key_types", "A kind of key that devices may have; may be repeated; replaces those before", false}, \
    {"key-usage", "digital-signature|key-encipherment|key-agreement|content-commitment", TO_BODY_LIST, "key_usages", "A keyUsage of the certificates; may be repeated; replaces those before", false}
#define PROFILE_EST                                                                                                            \
    {"est-life", "TIME", TO_BODY_TEXT, NULL, "How long a certificate lives that comes by EST, whose clients can renew, where life is not shorter (1y); likewise", false}
#define PROFILE_NAMES                                                                                                          \
    {"subject", "TEMPLATE", TO_BODY_TEXT, NULL, "The subject, with {device_id}, {account} and {uuid}; the usual one is O={account},OU=Devices,CN={device_id}", false}, \
    {"san", "TEMPLATE", TO_BODY_LIST, NULL, "A further name, such as dns:{device_id}.devices.example.com or uri:urn:example:{device_id}; may be repeated; replaces those before", false}

/* What the commands of the fleet CA on this machine share. */
#define CA_DIR {"ca", "DIR", TO_LOCAL, NULL, "The fleet CA's directory (MUSTER_CA_DIR, or ./ca)", false}
#define LINE_DIR {"ca", "DIR", TO_LOCAL, NULL, "The line's directory (MUSTER_CA_DIR, or ./ca)", false}
#define CA_SIGNER {"ca-key", "URI", TO_LOCAL, NULL, "Where the CA's key lies, if not where the directory says: pkcs11:…, tpm2:… or file:…", false}
#define CA_PASSPHRASE {"passphrase-file", "FILE", TO_LOCAL, NULL, "Where the passphrase is the first line (mode 0600; - is standard input); asked on a terminal where left out", false}
#define CA_SUBJECT                                                                                                             \
    {"country", "CC", TO_LOCAL, NULL, "Country in the subject, two letters", false}, {"state", "TEXT", TO_LOCAL, NULL, "State or province in the subject", false}, \
    {"locality", "TEXT", TO_LOCAL, NULL, "Locality in the subject", false}, {"organisation", "TEXT", TO_LOCAL, NULL, "Organisation in the subject", false}, \
    {"organisational-unit", "TEXT", TO_LOCAL, NULL, "Organisational unit in the subject", false}
#define CA_LIFE {"life", "TIME", TO_LOCAL, NULL, "The certificate's life, at most up to the end of what signs it; the CA's device-life where left out", false}
#define CA_JOBS {"jobs", "N", TO_LOCAL, NULL, "Threads that make keys and sign (one a core)", false}
#define CA_AGAIN {"again", NULL, TO_LOCAL, NULL, "Although a certificate was issued for the device ID before", false}
#define CA_SERVER                                                                                                              \
    {"server", "DIR", TO_LOCAL, NULL, "Take the gateway's root and URL from server-ca.pem and gateway.url in DIR, as `musterd init` writes them", false}, \
    {"server-ca", "FILE", TO_LOCAL, NULL, "The gateway's root, in PEM", false}, {"url", "URL", TO_LOCAL, NULL, "The gateway, https://HOST:PORT", false}
#define CA_KEY {"key", "p256|p384|rsa2048|rsa3072|rsa4096|ed25519", TO_LOCAL, NULL, "The kind of the device's key (p256)", false}

/* And those that write into an image. */
#define IMAGE                                                                                                                  \
    {"root", "DIR", TO_LOCAL, NULL, "The root of the image's file system; nothing outside of it is touched, whatever its symbolic links say", true}, \
    {"layout", "aktualizr", TO_LOCAL, NULL, "Whose files and places (aktualizr)", false},                                     \
    {"owner", "UID:GID", TO_LOCAL, NULL, "The owner of what is written (0:0 as root, else whoever runs this)", false},         \
    {"no-config", NULL, TO_LOCAL, NULL, "Leave out the client's configuration: the image has it", false},                     \
    {"force", NULL, TO_LOCAL, NULL, "Write over another key that is in place", false}

/* Which devices, for list and export alike. */
#define DEVICE_FILTERS                                                                                                         \
    {"state", "active|pending|quarantined|revoked|deleted", TO_QUERY, NULL, "Those in this state", false},                     \
    {"key", "KEY", TO_QUERY, NULL, "Those that a provisioning key enrolled", false},                                          \
    {"root", "ROOT", TO_QUERY, NULL, "Those under a fleet root, uploaded or Muster's own", false},                                                      \
    {"spki", "SHA256|FILE", TO_QUERY_KEY, NULL, "The one that has a public key, or had it, or asks a certificate for it (`csr list`): by the key's digest, or a file with the key, a certificate or a request for it", false}, \
    {"prefix", "TEXT", TO_QUERY, NULL, "Those whose device ID begins so", false},                                             \
    {"since", "TIME", TO_QUERY, NULL, "Those enrolled since then: RFC 3339, or a length such as 30d, counted back", false},   \
    {"seen-since", "TIME", TO_QUERY, NULL, "Those that were seen since then", false},                                         \
    {"not-seen-since", "TIME", TO_QUERY, NULL, "Those that were not", false}

/* Which certificates, likewise. */
#define CERT_FILTERS                                                                                                           \
    {"state", "active|expired|issued|current|void|superseded|revoked", TO_QUERY, NULL, "Those in this state; active: issued or current, and not ended; expired: the same, and ended", false}, \
    {"device", "DEVICE", TO_QUERY, NULL, "Those of a device; by its device ID also what one had that was released", false},   \
    {"key", "KEY", TO_QUERY, NULL, "Those that a provisioning key brought, renewed ones too", false},                         \
    {"serial", "HEX", TO_QUERY, NULL, "The one with this serial number", false},                                              \
    {"fingerprint", "SHA256", TO_QUERY, NULL, "The one with this fingerprint", false},                                        \
    {"spki", "SHA256|FILE", TO_QUERY_KEY, NULL, "Those for a public key: by its digest, or a file with the key, a certificate or a request for it", false}, \
    {"expires-after", "TIME", TO_QUERY, NULL, "Those that end then or later: RFC 3339, or a length from now such as 30d", false}, \
    {"expires-before", "TIME", TO_QUERY, NULL, "Those that end before", false}

const struct command COMMANDS[] = {
    {.noun = "status", .verb = "", .method = "GET", .path = "/api/v1/status", .run = command_status,
     .options = {{"watch", "SECONDS", TO_LOCAL, NULL, "Show it again and again, so often", false},
                 {"check", NULL, TO_LOCAL, NULL, "Exit with 1 where something critical needs an operator, for monitoring", false}},
     .help = "Show what needs you, the accounts with their devices, what ends next, who is refused and why, and the server's parts."},
    {.noun = "forecast", .verb = "", .method = "GET", .path = "/api/v1/forecast", .run = command_forecast,
     .options = {{"days", "N", TO_QUERY, NULL, "How far ahead to look (90); at most 36500", false}, {"account", "NAME", TO_QUERY, NULL, "Of one account", false}},
     .help = "Say which devices stop connecting in the days to come, when, and why: whatever ends, from a device's own certificate to the server's CA. Devices that can renew are told apart."},
    {.noun = "whoami", .verb = "", .method = "GET", .path = "/api/v1/whoami", .help = "Show the token that is in use: its name, role, scope and end."},

    {.noun = "account", .verb = "create", .args = {{"NAME", "id", false, false}}, .method = "POST", .path = "/api/v1/accounts",
     .options = {{"kind", "test|production", TO_BODY_TEXT, NULL, "What the account is for", true},
                 {"method", "shared|device|both", TO_BODY_TEXT, NULL, "How its devices are provisioned", true}, ACCOUNT_SETTINGS},
     .help = "Make an account: an isolated environment of devices, keys, roots and operators."},
    {.noun = "account", .verb = "list", .method = "GET", .path = "/api/v1/accounts", .columns = "id kind method state created", .help = "List accounts."},
    {.noun = "account", .verb = "show", .args = {{"NAME", NULL, false, false}}, .method = "GET", .path = "/api/v1/accounts/{name}",
     .help = "Show an account: its settings, its devices by state, and what to be warned about."},
    {.noun = "account", .verb = "set", .args = {{"NAME", NULL, false, false}}, .method = "PATCH", .path = "/api/v1/accounts/{name}",
     .options = {{"method", "shared|device|both", TO_BODY_TEXT, NULL, "How its devices are provisioned", false}, ACCOUNT_SETTINGS, SHADOW},
     .help = "Change an account's settings, or try them before they refuse anybody (--shadow)."},
    {.noun = "account", .verb = "delete", .args = {{"NAME", NULL, false, false}}, .method = "DELETE", .path = "/api/v1/accounts/{name}",
     .confirm_query = "confirm", .help = "Delete an account for good, after showing how many devices that cuts off."},

    {.noun = "profile", .verb = "show", .account = true, .method = "GET", .path = ACCOUNT "/profile",
     .help = "Show an account's issuing profile: what certificates of its devices may be, and a profile that is tried."},
    {.noun = "profile", .verb = "set", .account = true, .method = "PATCH", .path = ACCOUNT "/profile",
     .options = {PROFILE_RULES, PROFILE_EST, PROFILE_NAMES,
                 {"reset", "FIELD", TO_BODY_RESET, NULL, "Back to where nothing is said of: life, longest-life, est-life, key-type, key-usage, subject or san; may be repeated", false},
                 SHADOW},
     .help = "Change an account's issuing profile, or try one before it refuses anybody (--shadow)."},

    {.noun = "profile", .verb = "tried", .account = true, .method = "GET", .path = ACCOUNT "/refusals?code=shadow_refused", .columns = "last_seen device_id count reason address",
     .options = {{"since", "TIME", TO_QUERY, NULL, "Those since then: RFC 3339, or a length such as 2h, counted back", false}},
     .help = "List whom what is tried (--shadow of profile, account, key and root set) would have refused; nobody was."},

    {.noun = "key", .verb = "create", .account = true, .method = "POST", .path = ACCOUNT "/keys", .run = command_key_create,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where the credentials.zip goes (mode 0600; also -o)", true},
                 {"name", "NAME", TO_BODY_TEXT, NULL, "A name for the key", false},
                 {"expires", "TIME", TO_BODY_TEXT, NULL, "Its end: RFC 3339, or a length such as 30d (the default)", false},
                 {"max-devices", "N", TO_BODY_INT, NULL, "The most devices that it may enrol", false},
                 {"id-pattern", "PATTERN", TO_BODY_TEXT, NULL, "The device IDs that it may enrol, with *, ? and [a-z]", false},
                 {"source", "CIDR", TO_BODY_LIST, "sources", "A network that it may be used from; may be repeated", false},
                 {"per-hour", "N", TO_BODY_INT, NULL, "The most devices that it may enrol in an hour", false},
                 {"build", "ID", TO_BODY_TEXT, NULL, "The build or image that it is for, for your own records", false}, PROFILE_RULES},
     .help = "Make a temporary provisioning key, as the credentials.zip that a base image needs."},
    {.noun = "key", .verb = "list", .account = true, .method = "GET", .path = ACCOUNT "/keys", .columns = "id name state expires spent max_devices build",
     .help = "List provisioning keys."},
    {.noun = "key", .verb = "show", .args = {{"KEY", NULL, false, false}}, .account = true, .account_free = true, .method = "GET", .path = ACCOUNT "/keys/{key}",
     .help = "Show a provisioning key: its bounds, what of them is spent, and how many devices it enrolled."},
    {.noun = "key", .verb = "devices", .args = {{"KEY", NULL, false, false}}, .account = true, .account_free = true, .method = "GET",
     .path = ACCOUNT "/keys/{key}/devices", .columns = "id device_id state created last_seen last_address",
     .options = {{"since", "TIME", TO_QUERY, NULL, "Only those that it gave a certificate since then", false}},
     .help = "List the devices that a provisioning key enrolled."},
    {.noun = "key", .verb = "set", .args = {{"KEY", NULL, false, false}}, .account = true, .account_free = true, .method = "PATCH", .path = ACCOUNT "/keys/{key}",
     .options = {{"expires", "TIME", TO_BODY_TEXT, NULL, "Its end, up to the end of its certificate: RFC 3339, or a length such as 30d", false},
                 {"max-devices", "N|none", TO_BODY_NULLABLE_INT, NULL, "The most devices that it may enrol", false},
                 {"id-pattern", "PATTERN", TO_BODY_TEXT, NULL, "The device IDs that it may enrol", false},
                 {"source", "CIDR", TO_BODY_LIST, "sources", "A network that it may be used from; may be repeated; replaces those before", false},
                 {"per-hour", "N|none", TO_BODY_NULLABLE_INT, NULL, "The most devices that it may enrol in an hour", false}, PROFILE_RULES,
                 SHADOW},
     .help = "Change a provisioning key's bounds, and what it allows of its account's issuing profile, or try them before they refuse anybody (--shadow)."},
    {.noun = "key", .verb = "blacklist", .args = {{"KEY", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/keys/{key}/blacklist", .help = "Let no new device use the key, from now; the devices that it enrolled keep working."},
    {.noun = "key", .verb = "install", .args = {{"CREDENTIALS.ZIP", NULL, true, false}}, .local = true, .run = command_key_install, .options = {IMAGE},
     .help = "Put a provisioning key's credentials.zip, and the client's configuration, into a base image."},

    {.noun = "server-ca", .verb = "list", .method = "GET", .path = "/api/v1/server-cas", .columns = "number state not_after fingerprint id",
     .help = "List the server CAs, by which devices trust the gateway, the newest first."},
    {.noun = "server-ca", .verb = "show", .args = {{"CA", NULL, false, false}}, .method = "GET", .path = "/api/v1/server-cas/{ca}",
     .help = "Show a server CA, by its number or id, and how many devices are not known to have a newer one, by when they were seen."},
    {.noun = "server-ca", .verb = "rotate", .method = "POST", .path = "/api/v1/server-ca-rotation",
     .options = {{"backend", "sealed|pkcs11", TO_BODY_TEXT, NULL, "Where its private key is made: sealed in the vault, or in the server's security module; as the current one's where left out", false}},
     .help = "Put a new server CA in the place of the current one. Devices that know the old one alone go on: the gateway shows them the way to the new one."},
    {.noun = "server-ca", .verb = "retire", .args = {{"CA", NULL, false, false}}, .method = "POST", .path = "/api/v1/server-cas/{ca}/retire",
     .options = {{"days", "N", TO_BODY_INT, NULL, "Refuse while a device that renews, and was seen in so many days, depends on it (90)", false}},
     .help = "Take the oldest server CA out of use for good; refused, naming them, while devices that can fetch a newer one are not known to have it; asks where it cuts off others."},
    {.noun = "server-ca", .verb = "export", .method = "GET", .path = "/api/v1/server-ca-file", .run = command_file_export,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where it goes (also -o), replaced whole; standard output where left out", false}},
     .help = "Print the anchors of the gateway and of the operators' API in PEM: what server-ca.pem holds, for MUSTER_CA and for images."},

    {.noun = "root", .verb = "upload", .args = {{"FILE", "certificate", true, false}}, .account = true, .method = "POST", .path = ACCOUNT "/roots",
     .options = {{"id-rule", "cn|san-uri|san-dns|serial-number|key-fingerprint", TO_BODY_TEXT, NULL, "Where the device ID stands; default cn", false},
                 {"key-rule", "never|ask|announced", TO_BODY_TEXT, NULL, "A known device with another key; default never", false}},
     .help = "Register the certificate of your own fleet root; the answer has the challenge to prove."},
    {.noun = "root", .verb = "prove", .args = {{"ROOT", NULL, false, false}, {"CERT", "certificate", true, false}}, .account = true, .account_free = true,
     .method = "POST", .path = ACCOUNT "/roots/{root}/proof",
     .help = "Activate a fleet root with a certificate whose subject CN is the challenge, signed by the root's key."},
    {.noun = "root", .verb = "list", .account = true, .method = "GET", .path = ACCOUNT "/roots", .columns = "id state origin subject not_after id_rule",
     .help = "List fleet roots."},
    {.noun = "root", .verb = "show", .args = {{"ROOT", NULL, false, false}}, .account = true, .account_free = true, .method = "GET", .path = ACCOUNT "/roots/{root}",
     .help = "Show a fleet root, and how many devices stand under it by when they were seen."},
    {.noun = "root", .verb = "set", .args = {{"ROOT", NULL, false, false}}, .account = true, .account_free = true, .method = "PATCH", .path = ACCOUNT "/roots/{root}",
     .options = {{"id-rule", "cn|san-uri|san-dns|serial-number|key-fingerprint", TO_BODY_TEXT, NULL, "Where the device ID stands", false},
                 {"key-rule", "never|ask|announced", TO_BODY_TEXT, NULL, "A known device with another key", false},
                 {"state", "active|known-only", TO_BODY_TEXT, NULL, "known-only: no new devices, known ones work", false},
                 {"expired", "refuse|known", TO_BODY_TEXT, NULL, "When the root, or a CA below it, has expired: refuse, or known devices go on", false}, SHADOW},
     .help = "Change a fleet root's rules, or switch first contact off and on; or try that before it refuses anybody (--shadow)."},
    {.noun = "root", .verb = "disable", .args = {{"ROOT", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/roots/{root}/disable", .help = "Let nobody in under the root until it is enabled, after showing how many devices that cuts off."},
    {.noun = "root", .verb = "enable", .args = {{"ROOT", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/roots/{root}/enable", .help = "Undo disable."},
    {.noun = "root", .verb = "revoke", .args = {{"ROOT", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/roots/{root}/revoke", .help = "Let nobody in under the root, for good, after showing how many devices that cuts off."},
    {.noun = "root", .verb = "rotate", .args = {{"ROOT", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/roots/{root}/rotate",
     .options = {{"backend", "sealed|pkcs11", TO_BODY_TEXT, NULL, "Move the account's CA keys with it: sealed in the vault, or into the server's security module; as `account set --backend` before it", false}},
     .help = "Put a new fleet root, made by Muster, in the place of one that Muster made: both are accepted, and from now on certificates are issued under the new one."},
    {.noun = "root", .verb = "retire", .args = {{"ROOT", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/roots/{root}/retire",
     .options = {{"days", "N", TO_BODY_INT, NULL, "Refuse while a device that was seen in so many days depends on it (90)", false}},
     .help = "Take a fleet root out of use for good; refused, naming them, while devices that were seen depend on it; asks where it cuts off some that sleep."},
    {.noun = "root", .verb = "export", .args = {{"ROOT", NULL, false, false}}, .account = true, .account_free = true, .method = "GET",
     .path = ACCOUNT "/roots/{root}/certificate", .run = command_root_export,
     .options = {{"crosses", NULL, TO_QUERY, NULL, "And, before it, the certificates of its key by the account's other roots: what leads who knows one of those to it", false},
                 {"issuing", NULL, TO_QUERY, NULL, "Those of the issuing CAs that Muster has made under it instead, the newest first: what OCSP clients name devices' certificates by", false}, {"output", "FILE", TO_LOCAL, NULL, "Where the certificate goes (also -o); standard output where left out", false}},
     .help = "Print a fleet root's certificate in PEM, or those of its issuing CAs."},
    {.noun = "root", .verb = "bundle", .account = true, .method = "GET", .path = ACCOUNT "/ca-file", .run = command_file_export,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where it goes (also -o), replaced whole; standard output where left out", false}},
     .help = "Print the fleet roots and issuing CAs that Muster made for an account, in PEM: what nginx and mosquitto verify its devices by."},
    {.noun = "root", .verb = "crl", .account = true, .method = "GET", .path = ACCOUNT "/crls", .columns = "id kind issuer number entries next_update state",
     .help = "List the certificate revocation lists of an account's own CAs; the same as `crl list`."},

    {.noun = "crl", .verb = "import", .args = {{"ROOT", NULL, false, false}, {"FILE", "crl", true, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/roots/{root}/crl",
     .options = {{"ca", "FILE", TO_BODY_FILE, NULL, "The CA below the root that made the list, in PEM, and what stands between it and the root", false}},
     .help = "Honour a revocation list of your own fleet CA, in PEM: devices that stand on it, or whose CA does, are refused at once, until a newer list without them is imported."},
    {.noun = "crl", .verb = "imported", .account = true, .method = "GET", .path = ACCOUNT "/root-crls", .columns = "id root issuer number entries next_update state",
     .help = "List the revocation lists of your own fleet CAs that were imported and count."},
    {.noun = "crl", .verb = "list", .account = true, .method = "GET", .path = ACCOUNT "/crls", .columns = "id kind issuer number entries next_update state",
     .help = "List the certificate revocation lists of an account's own CAs: each fleet root's and each issuing CA's."},
    {.noun = "crl", .verb = "show", .args = {{"CRL", NULL, false, false}}, .account = true, .method = "GET", .path = ACCOUNT "/crls/{crl}",
     .help = "Show one of them, named by its id: the issuer, its number, how many certificates are on it, its next update, and where it is served."},
    {.noun = "crl", .verb = "export", .args = {{"CRL", NULL, false, true}}, .account = true, .method = "GET", .path = ACCOUNT "/crls/{crl}/file", .run = command_file_export,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where it goes (also -o), replaced whole; standard output where left out", false}},
     .help = "Print one list in DER, or where none is named all of the account's in PEM, as nginx (ssl_crl) and mosquitto (crlfile) take them."},

    {.noun = "device", .verb = "list", .account = true, .method = "GET", .path = ACCOUNT "/devices", .columns = "id device_id state method created last_seen",
     .options = {DEVICE_FILTERS}, .help = "List devices: those that fit everything that is asked for."},
    {.noun = "device", .verb = "export", .account = true, .method = "GET", .path = ACCOUNT "/devices", .run = command_export,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where the devices go (also -o); - for standard output", true},
                 {"format", "csv|jsonl", TO_LOCAL, NULL, "CSV (the default), or JSON lines", false}, DEVICE_FILTERS},
     .help = "Write devices to a file, oldest first: those that fit everything that is asked for."},
    {.noun = "device", .verb = "show", .args = {{"DEVICE", NULL, false, false}}, .account = true, .account_free = true, .method = "GET",
     .path = ACCOUNT "/devices/{device}",
     .options = {{"full", NULL, TO_QUERY, NULL, "With its reports whole: hardware, network, packages, configuration", false}},
     .help = "Show a device: its state, certificates, ECUs, offered keys, and what it says of itself."},
    {.noun = "device", .verb = "events", .args = {{"DEVICE", NULL, false, false}}, .account = true, .account_free = true, .method = "GET",
     .path = ACCOUNT "/devices/{device}/events", .columns = "id received device_time type event", .help = "List the newest events that a device sent, newest first."},
    {.noun = "device", .verb = "approve", .args = {{"DEVICE", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/devices/{device}/approve", .help = "Admit a pending device, or one that asks to be provisioned again."},
    {.noun = "device", .verb = "refuse", .args = {{"DEVICE", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/devices/{device}/refuse", .help = "Refuse a pending device, or its provisioning again."},
    {.noun = "device", .verb = "accept-key", .args = {{"DEVICE", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/devices/{device}/accept-key",
     .options = {{"fingerprint", "SHA256", TO_BODY_TEXT, NULL, "The key, as `device show` lists it under offered_keys", true}},
     .help = "Accept one new key for a known device."},
    {.noun = "device", .verb = "revoke", .args = {{"DEVICE", NULL, false, true}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/devices/{device}/revoke", .run = command_device_act,
     .options = {{"key", "KEY", TO_LOCAL, NULL, "All devices of this provisioning key, in place of DEVICE", false},
                 {"since", "TIME", TO_LOCAL, NULL, "With --key: only those that it gave a certificate since then", false},
                 {"reason", "TEXT", TO_BODY_TEXT, NULL, "Why, for the audit log", false}},
     .help = "Revoke a device, or all that a provisioning key enrolled; a tombstone keeps it from coming back."},
    {.noun = "device", .verb = "quarantine", .args = {{"DEVICE", NULL, false, true}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/devices/{device}/quarantine", .run = command_device_act,
     .options = {{"key", "KEY", TO_LOCAL, NULL, "All devices of this provisioning key, in place of DEVICE", false},
                 {"since", "TIME", TO_LOCAL, NULL, "With --key: only those that it gave a certificate since then", false},
                 {"reason", "TEXT", TO_BODY_TEXT, NULL, "Why, for the audit log", false}},
     .help = "Cut a device off until it is released, or all that a provisioning key enrolled."},
    {.noun = "device", .verb = "release", .args = {{"DEVICE", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/devices/{device}/release",
     .options = {{"for-reprovision", NULL, TO_BODY_FLAG, NULL, "Let an active device be provisioned again, once", false},
                 {"same-key", NULL, TO_BODY_FLAG, NULL, "With a tombstone under an uploaded root: let its key come back too", false}},
     .help = "End a quarantine, or lift the tombstone of a revoked or deleted device."},
    {.noun = "device", .verb = "delete", .args = {{"DEVICE", NULL, false, false}}, .account = true, .account_free = true, .method = "DELETE",
     .path = ACCOUNT "/devices/{device}", .help = "Delete a device; a tombstone keeps it from coming back."},
    {.noun = "device", .verb = "import", .args = {{"FILE", NULL, true, false}}, .account = true, .method = "POST", .path = ACCOUNT "/expected",
     .run = command_device_import,
     .help = "Announce devices: CSV of device_id and fingerprint, or JSON lines of {\"device_id\", \"fingerprint\"?}. It is taken 2,000 lines at a time, each time all of them or none; an error says how many "
             "were, and repeating the whole file is harmless."},
    {.noun = "device", .verb = "invite", .args = {{"ID", "device_id", false, false}}, .account = true, .method = "POST", .path = ACCOUNT "/invitations",
     .options = {{"expires", "TIME", TO_BODY_TEXT, NULL, "Its end, at most a year ahead: RFC 3339, or a length such as 7d (the default)", false}},
     .help = "Let the device of one ID enrol by EST, once, with the device ID as user and a code as password of HTTP Basic; the code is shown once. One that the ID has is over."},
    {.noun = "cert", .verb = "list", .account = true, .account_free = true, .method = "GET", .path = ACCOUNT "/certificates", .run = command_cert_list, .columns = "id device_id state expired key_name created not_after revoked reason",
     .options = {CERT_FILTERS}, .help = "List the certificates that were issued to devices, by their ends: those that fit everything that is asked for. Without --account, of every account that the token covers, also of those that were deleted."},
    {.noun = "cert", .verb = "export", .account = true, .account_free = true, .method = "GET", .path = ACCOUNT "/certificates", .run = command_export,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where the certificates' particulars go (also -o); - for standard output", true},
                 {"format", "csv|jsonl", TO_LOCAL, NULL, "CSV (the default), or JSON lines", false}, CERT_FILTERS},
     .help = "Write what is known of certificates to a file: of those that fit everything that is asked for. Without --account, of every account that the token covers, also of those that were deleted."},
    {.noun = "cert", .verb = "show", .args = {{"CERTIFICATE", NULL, false, false}}, .account = true, .account_free = true, .method = "GET", .path = ACCOUNT "/certificates/{certificate}",
     .help = "Show a certificate, named by its serial number or its SHA-256 fingerprint: whose it is, with which key, by which CA, its state, and itself in PEM."},
    {.noun = "cert", .verb = "issuer", .args = {{"CERTIFICATE", NULL, false, false}}, .account = true, .account_free = true, .method = "GET",
     .path = ACCOUNT "/certificates/{certificate}/issuer", .run = command_root_export,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where it goes (also -o); standard output where left out", false}},
     .help = "Print the issuing CA that signed a certificate, in PEM: what OCSP clients (openssl ocsp -issuer) ask about it with."},
    {.noun = "cert", .verb = "revoke", .args = {{"CERTIFICATE", NULL, false, false}}, .account = true, .account_free = true, .method = "POST",
     .path = ACCOUNT "/certificates/{certificate}/revoke",
     .options = {{"reason", "unspecified|key-compromise|affiliation-changed|superseded|cessation-of-operation|privilege-withdrawn", TO_BODY_TEXT, NULL,
                  "Why, as a CRL says it; with key-compromise all certificates of the key are revoked, and it gets none any more", false}},
     .help = "Revoke one certificate, after showing what follows; its device goes on with whatever else it has (`device revoke` shuts it out). One that a factory line has signed is named as `device show` has it."},
    {.noun = "expected", .verb = "list", .account = true, .method = "GET", .path = ACCOUNT "/expected", .columns = "device_id announced state fingerprint",
     .options = {{"prefix", "TEXT", TO_QUERY, NULL, "Those whose device ID begins so", false},
                 {"missing", NULL, TO_QUERY, NULL, "Those that have not arrived", false}},
     .help = "List announced devices, and the state of those that have arrived."},
    {.noun = "expected", .verb = "remove", .args = {{"DEVICE", NULL, false, false}}, .account = true, .method = "DELETE", .path = ACCOUNT "/expected/{device}",
     .help = "Take an announcement back, by device ID; a device that has arrived stays."},

    {.noun = "invitation", .verb = "list", .account = true, .method = "GET", .path = ACCOUNT "/invitations", .columns = "id device_id state created expires spent",
     .help = "List invitations, without their codes."},
    {.noun = "invitation", .verb = "remove", .args = {{"INVITATION", NULL, false, false}}, .account = true, .method = "DELETE", .path = ACCOUNT "/invitations/{invitation}",
     .help = "Take an invitation back, by its device ID or its id; a device that it brought in stays."},

    {.noun = "csr", .verb = "list", .account = true, .method = "GET", .path = ACCOUNT "/csrs", .columns = "id device_id state key created imported",
     .options = {{"state", "waiting|signed", TO_QUERY, NULL, "Those in that state", false}},
     .help = "List what devices have sent for your own CA to sign, by EST; the account has to allow it (`account set --csr-queue yes`)."},
    {.noun = "csr", .verb = "export", .account = true, .method = "GET", .path = ACCOUNT "/csrs?state=waiting", .run = command_export,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where the requests go (also -o); - for standard output", true}},
     .help = "Write the requests that wait into one file in PEM, for `muster ca sign` or any other CA."},
    {.noun = "csr", .verb = "import", .args = {{"FILE", NULL, true, false}}, .account = true, .method = "POST", .path = ACCOUNT "/csrs", .run = command_csr_import,
     .help = "Bring the certificates that the CA has signed, in PEM, with those of CAs between them and their roots: each is held against its request and the account's fleet roots, and with "
             "a new key that is accepted for its device. What was imported already is passed over. Exit status 1: some were refused."},
    {.noun = "csr", .verb = "remove", .args = {{"CSR", NULL, false, false}}, .account = true, .method = "DELETE", .path = ACCOUNT "/csrs/{csr}",
     .help = "Drop a request, by its id or its device's ID, and its certificate; the device may send another one."},

    {.noun = "explain", .verb = "", .args = {{"CHAIN", "chain", true, true}}, .account = true, .method = "POST", .path = ACCOUNT "/explain", .run = command_explain,
     .options = {{"refusal", "ID", TO_BODY_TEXT, NULL, "In place of CHAIN: the certificates that were kept with a refusal", false},
                 {"host", "NAME", TO_BODY_TEXT, NULL, "The host name that the device connects to (the account's own)", false},
                 {"at", "TIME", TO_BODY_TEXT, NULL, "Judge at another time: RFC 3339, or a length from now such as 30d", false},
                 {"address", "ADDRESS", TO_BODY_TEXT, NULL, "Where the device connects from, for a provisioning key that names networks", false},
                 {"device", "ID", TO_BODY_TEXT, "device_id", "The device ID to enrol, with the certificate of a provisioning key", false}},
     .help = "Say whether the gateway would let a chain of certificates (PEM, the device's first) in, and by which rule; nothing is changed. Exit status 1: refused."},

    {.noun = "refusal", .verb = "list", .account = true, .account_free = true, .method = "GET", .path = ACCOUNT "/refusals", .run = command_refusal,
     .columns = "id last_seen count code device_id address reason",
     .options = {{"code", "CODE", TO_QUERY, NULL, "Those of one reason, such as certificate_expired", false},
                 {"device", "DEVICE", TO_QUERY, NULL, "Those of a device, or of who claimed its ID", false},
                 {"address", "ADDRESS", TO_QUERY, NULL, "Those from an address", false},
                 {"serial", "HEX", TO_QUERY, NULL, "Those of certificates with this serial number", false},
                 {"fingerprint", "SHA256", TO_QUERY, NULL, "Those of one certificate", false},
                 {"since", "TIME", TO_QUERY, NULL, "Those seen since then: RFC 3339, or a length such as 2h", false}},
     .help = "List whom the gateway refused, newest first; without --account those of strangers, who belong to none."},
    {.noun = "refusal", .verb = "show", .args = {{"REFUSAL", NULL, false, false}}, .account = true, .account_free = true, .method = "GET",
     .path = ACCOUNT "/refusals/{refusal}", .run = command_refusal,
     .help = "Show a refusal by its id, or by the errorId of a device's answer: the reason, what to do, the certificates, the nearest fleet roots."},

    {.noun = "ca", .verb = "init", .local = true, .run = command_ca_init,
     .options = {CA_DIR, CA_PASSPHRASE, {"key", "p256|p384|rsa3072|rsa4096|PLACE", TO_LOCAL, NULL, "The kind of the CA's keys (p256), or a token or TPM in which they are made and stay: pkcs11:token=…?pin-source=file:/…, tpm2:", false},
                 {"root-key", "PLACE", TO_LOCAL, NULL, "With --intermediate: make the root's key there, and the intermediate's as --key says", false},
                 {"intermediate", NULL, TO_LOCAL, NULL, "Make an intermediate too: it issues, and the root's key can be kept elsewhere", false},
                 {"name", "TEXT", TO_LOCAL, NULL, "Common name of the root", false}, CA_SUBJECT,
                 {"root-life", "TIME", TO_LOCAL, NULL, "Life of the root (40y)", false},
                 {"device-life", "TIME", TO_LOCAL, NULL, "Life of device certificates (20y)", false}},
     .help = "Make a fleet CA in a directory on this machine, its keys encrypted under a passphrase."},
    {.noun = "ca", .verb = "issue", .args = {{"DEVICE-ID", NULL, false, true, true}}, .local = true, .run = command_ca_issue,
     .options = {{"output", "DIR", TO_LOCAL, NULL, "Where client.pem and pkey.pem go (also -o); of several devices each has a folder there", true}, CA_DIR, CA_PASSPHRASE, CA_SIGNER,
                 {"from", "FILE", TO_LOCAL, NULL, "Device IDs, one a line, or CSV whose first line names the columns device_id, key and life (- is standard input); each device has a folder below DIR", false},
                 {"column", "NAME", TO_LOCAL, NULL, "The column of that file that holds the device ID, where it has columns of its own", false}, CA_JOBS, CA_KEY, CA_AGAIN, CA_LIFE, CA_SERVER},
     .help = "Make a key and a certificate for a device, or for each of very many on all cores. What was cut off is begun again by the same command, and goes on where it was."},
    {.noun = "ca", .verb = "csr", .args = {{"DEVICE-ID", NULL, false, false}}, .local = true, .run = command_ca_csr,
     .options = {{"output", "DIR", TO_LOCAL, NULL, "Where client.csr and pkey.pem go (also -o)", true}, CA_KEY, CA_SUBJECT,
                 {"serial-number", "TEXT", TO_LOCAL, NULL, "The device's serial number in the subject", false},
                 {"uri", "URI", TO_LOCAL_LIST, NULL, "A URI for subjectAltName; may be repeated", false},
                 {"dns", "NAME", TO_LOCAL_LIST, NULL, "A DNS name for subjectAltName; may be repeated", false}},
     .help = "Make a key and a certificate request (CSR) for a device, with the identification that a CA asks for; needs no CA."},
    {.noun = "ca", .verb = "sign", .args = {{"CSR", NULL, true, false}}, .local = true, .run = command_ca_sign,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where the certificate goes (also -o); standard output where left out; of a directory of requests a directory", false}, CA_DIR, CA_PASSPHRASE, CA_SIGNER,
                 {"device", "ID", TO_LOCAL, NULL, "Refuse a request for any other device ID", false},
                 {"line", "ACCOUNT/LINE", TO_LOCAL, NULL, "The request is a factory line's (`factory request`): the root signs the line's CA, good for its devices alone; --life: 30y", false}, CA_JOBS, CA_AGAIN, CA_LIFE},
     .help = "Issue a certificate for a request, or for each in a file of several (`csr export`) or in a directory: its public key and the device ID in its subject CN, and nothing else that it asks for."},
    {.noun = "ca", .verb = "revoke", .args = {{"ID", NULL, false, false}}, .local = true, .run = command_ca_revoke,
     .options = {CA_DIR, {"reason", "unspecified|key-compromise|affiliation-changed|superseded|cessation-of-operation|privilege-withdrawn", TO_LOCAL, NULL, "Why (unspecified); a key that is revoked as compromised is certified no more", false}},
     .help = "Take back a certificate that the fleet CA issued, named by its serial, or all that a device has, named by its ID. It needs no key; the next list says it."},
    {.noun = "ca", .verb = "crl", .local = true, .run = command_ca_crl,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where the list goes (also -o); standard output where left out", false}, CA_DIR, CA_PASSPHRASE, CA_SIGNER,
                 {"of-root", NULL, TO_LOCAL, NULL, "The root's own list, with a revoked intermediate, where there is an intermediate that issues", false},
                 {"life", "TIME", TO_LOCAL, NULL, "Until when the next one is due (30d)", false}},
     .help = "Sign the revocation list of what the fleet CA has issued, for `crl import` and for whoever else verifies."},
    {.noun = "ca", .verb = "prove", .args = {{"CHALLENGE", NULL, false, false}}, .local = true, .run = command_ca_prove,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Where the proof goes (also -o); standard output where left out", false}, CA_DIR, CA_PASSPHRASE, CA_SIGNER},
     .help = "Answer the challenge of `root upload`: the certificate for `root prove`, by the root's key, or the intermediate's where that is not there."},
    {.noun = "ca", .verb = "list", .local = true, .run = command_ca_list, .columns = "id device_id state issued not_after",
     .options = {CA_DIR, {"prefix", "TEXT", TO_LOCAL, NULL, "Those whose device ID begins so", false},
                 {"state", "issued|revoked|abandoned|reserved", TO_LOCAL, NULL, "Those in that state; abandoned: the serial was never used", false},
                 {"kind", "device|proof|root|intermediate|line", TO_LOCAL, NULL, "Certificates of that kind (device)", false}},
     .help = "List the certificates that the fleet CA has issued."},
    {.noun = "ca", .verb = "show", .args = {{"ID", NULL, false, true}}, .local = true, .run = command_ca_show,
     .options = {CA_DIR, {"output", "FILE", TO_LOCAL, NULL, "Write the certificate with its chain there (also -o; - is standard output)", false}},
     .help = "Show a certificate that the fleet CA issued, named by its serial or its device ID, or the CA itself."},
    {.noun = "ca", .verb = "install", .local = true, .run = command_ca_install,
     .options = {IMAGE, {"device", "ID", TO_LOCAL, NULL, "The device", true},
                 {"from", "DIR", TO_LOCAL, NULL, "Take what `ca issue -o DIR` wrote; else a key and a certificate are made on the spot", false}, CA_DIR, CA_PASSPHRASE, CA_SIGNER, CA_KEY,
                 CA_AGAIN, CA_SERVER},
     .help = "Put a device's key and certificate, the gateway's root and URL, and the client's configuration into an image."},

    {.noun = "factory", .verb = "kit create", .account = true, .method = "POST", .path = ACCOUNT "/lines", .run = command_kit_create,
     .options = {{"line", "NAME", TO_BODY_TEXT, "name", "The line: a lower-case DNS label", true},
                 {"max", "N", TO_BODY_INT, "max_devices", "How many devices it may bring in", true},
                 {"id-pattern", "PATTERN", TO_BODY_TEXT, NULL, "The device IDs that it may make, such as vin-[0-9][0-9][0-9]*", true},
                 {"expires", "TIME", TO_BODY_TEXT, NULL, "Until when its devices come in by themselves: RFC 3339, or a length such as 180d", true},
                 {"request", "FILE", TO_BODY_FILE, NULL, "What `factory request` made: the account's own fleet root certifies the line's key", false},
                 {"life", "TIME", TO_BODY_TEXT, NULL, "With --request: the life of the line's CA, longer than its devices' certificates (30y)", false},
                 {"certificate", "FILE", TO_BODY_FILE, NULL, "Or the certificate of the line's CA, signed by your fleet CA (`ca sign --line`)", false},
                 {"output", "FILE", TO_LOCAL, NULL, "Where the kit goes (also -o)", false}},
     .help = "Let a factory line bring devices in, by a CA of its own below the account's fleet root: so many, of such IDs, until then. What it makes beyond waits for an operator."},
    {.noun = "factory", .verb = "kit list", .account = true, .method = "GET", .path = ACCOUNT "/lines", .columns = "id name state devices max_devices held id_pattern expires", .help = "List factory lines, with what each has brought in."},
    {.noun = "factory", .verb = "kit show", .args = {{"LINE", NULL, false, false}}, .account = true, .method = "GET", .path = ACCOUNT "/lines/{line}", .run = command_kit_create,
     .options = {{"output", "FILE", TO_LOCAL, NULL, "Write its kit there, as it is now (also -o)", false}},
     .help = "Show a factory line: its bounds, and what it has brought in."},
    {.noun = "factory", .verb = "kit set", .args = {{"LINE", NULL, false, false}}, .account = true, .method = "PATCH", .path = ACCOUNT "/lines/{line}",
     .options = {{"max", "N", TO_BODY_INT, "max_devices", "How many devices it may bring in", false},
                 {"id-pattern", "PATTERN", TO_BODY_TEXT, NULL, "The device IDs that it may make", false},
                 {"expires", "TIME", TO_BODY_TEXT, NULL, "Until when its devices come in by themselves", false},
                 {"state", "open|closed", TO_BODY_TEXT, NULL, "closed: whatever it makes waits for an operator", false}},
     .help = "Change a factory line's bounds, or close it. Devices that are in stay in."},
    {.noun = "factory", .verb = "kit revoke", .args = {{"LINE", NULL, false, false}}, .account = true, .method = "POST", .path = ACCOUNT "/lines/{line}/revoke", .run = command_kit_revoke,
     .options = {{"reason", "TEXT", TO_BODY_TEXT, NULL, "Why, for the audit log", true},
                 {"hold", NULL, TO_LOCAL, NULL, "Have the devices that it has brought in wait for an operator", false},
                 {"quarantine", NULL, TO_LOCAL, NULL, "Cut them off, those that wait too", false}},
     .help = "Revoke a factory line whose CA is in somebody's hands: whatever comes by it from now on is refused, for good. Devices that are in stay in, unless --hold or --quarantine says otherwise."},
    {.noun = "factory", .verb = "kit devices", .args = {{"LINE", NULL, false, false}}, .account = true, .method = "GET", .path = ACCOUNT "/lines/{line}/devices",
     .columns = "id device_id state reason created last_seen", .help = "List the devices that a factory line brought, those that wait among them."},
    {.noun = "factory", .verb = "kit manifests", .args = {{"LINE", NULL, false, false}}, .account = true, .method = "GET", .path = ACCOUNT "/lines/{line}/manifests",
     .columns = "told at entries set_aside digest", .help = "List what the line's manifests have told (`factory reconcile`), newest first: a later one has to continue each that was not set aside."},
    {.noun = "factory", .verb = "reconcile", .args = {{"MANIFEST", NULL, true, false}}, .method = "GET", .path = "/api/v1/accounts", .run = command_factory_reconcile,
     .columns = "device_id status state line detail",
     .options = {{"format", "table|csv", TO_LOCAL, NULL, "How the devices are printed (table); --json prints all of it as one object", false},
                 {"all", NULL, TO_LOCAL, NULL, "With the table: those too that are as they should be, and those that were not seen yet", false},
                 {"output", "FILE", TO_LOCAL, NULL, "With --format csv: where it goes (also -o); standard output where left out", false},
                 {"hold", NULL, TO_LOCAL, NULL, "Have those that came by the line and were not built wait for an operator, after showing how many", false},
                 {"quarantine", NULL, TO_LOCAL, NULL, "Cut them off, likewise", false},
                 {"accept-manifest", NULL, TO_LOCAL, NULL, "Take the manifest for the line's word, although it contradicts what was told before, or is shorter; that is set aside, after it was shown", false},
                 {"check", NULL, TO_LOCAL, NULL, "Exit with 1 where a device was seen and not built, or something else is not as it should be, for monitoring", false}},
     .help = "Hold what a factory line has built, by its signed manifest, against what has shown up: seen, not seen, not built, with another key, twice, by another line."},
    {.noun = "factory", .verb = "request", .local = true, .account = true, .run = command_factory_request,
     .options = {{"line", "NAME", TO_LOCAL, NULL, "The line: a lower-case DNS label", true}, LINE_DIR, CA_PASSPHRASE, {"key", "p256|p384|PLACE", TO_LOCAL, NULL, "The kind of the line's key (p256), or a token or TPM in which it is made and stays: pkcs11:token=…?pin-source=file:/…, tpm2:", false},
                 {"output", "FILE", TO_LOCAL, NULL, "Where the request goes (also -o); standard output where left out", false}},
     .help = "At the line: make its key, which never leaves the directory, and the request for its CA's certificate."},
    {.noun = "factory", .verb = "start", .args = {{"KIT", NULL, true, false}}, .local = true, .run = command_factory_start,
     .options = {LINE_DIR, {"device-life", "TIME", TO_LOCAL, NULL, "Life of device certificates, at most up to the end of the line's CA (20y)", false}},
     .help = "At the line: take the kit in that the operator has made, the first or one with other bounds."},
    {.noun = "factory", .verb = "issue", .args = {{"DEVICE-ID", NULL, false, true, true}}, .local = true, .run = command_factory_issue,
     .options = {{"output", "DIR", TO_LOCAL, NULL, "Where client.pem and pkey.pem go (also -o); of several devices each has a folder there", true}, LINE_DIR, CA_PASSPHRASE, CA_SIGNER,
                 {"from", "FILE", TO_LOCAL, NULL, "Device IDs, one a line, or CSV, as for `ca issue`", false},
                 {"column", "NAME", TO_LOCAL, NULL, "The column of that file that holds the device ID, where it has columns of its own", false}, CA_JOBS, CA_KEY, CA_AGAIN, CA_LIFE, CA_SERVER},
     .help = "At the line, offline: make keys and certificates for devices, within the kit, and write them into the signed manifest."},
    {.noun = "factory", .verb = "manifest", .local = true, .run = command_factory_manifest,
     .options = {LINE_DIR, CA_PASSPHRASE, CA_SIGNER, {"output", "FILE", TO_LOCAL, NULL, "Where it goes (also -o); standard output where left out", false}},
     .help = "At the line: sign the manifest of all that was made so far, anew."},

    {.noun = "token", .verb = "create", .args = {{"NAME", "name", false, true}}, .method = "POST", .path = "/api/v1/tokens",
     .options = {{"name", "NAME", TO_BODY_TEXT, NULL, "Whom or what it is for", false},
                 {"role", "owner|operator|auditor|factory", TO_BODY_TEXT, NULL, "What it may do", true},
                 {"account", "NAME", TO_BODY_TEXT, NULL, "The account that it is good for; the whole server where left out", false},
                 {"expires", "TIME", TO_BODY_TEXT, NULL, "Its end: RFC 3339, or a length such as 90d", false}},
     .help = "Make an operator's token; it is shown once."},
    {.noun = "token", .verb = "list", .method = "GET", .path = "/api/v1/tokens", .columns = "id name role account expires revoked last_used", .help = "List tokens, without their secrets."},
    {.noun = "token", .verb = "revoke", .args = {{"TOKEN", NULL, false, false}}, .method = "DELETE", .path = "/api/v1/tokens/{token}", .help = "Revoke a token."},

    {.noun = "webhook", .verb = "create", .args = {{"URL", "url", false, false}}, .method = "POST", .path = "/api/v1/webhooks",
     .options = {{"account", "NAME", TO_BODY_TEXT, NULL, "Whose events; those of every account where left out", false},
                 {"event", "TYPE", TO_BODY_LIST, "events", "One that it is told of; may be repeated; all where left out (`muster webhook events`)", false},
                 {"ca", "FILE", TO_BODY_FILE, NULL, "Certificates in PEM that the receiver's has to chain to, in place of the system's", false}},
     .help = "Have events sent to a URL; the secret that signs them is shown once."},
    {.noun = "webhook", .verb = "events", .method = "GET", .path = "/api/v1/webhook-events", .columns = "id about when", .help = "List what webhooks can be told of."},
    {.noun = "webhook", .verb = "list", .method = "GET", .path = "/api/v1/webhooks", .columns = "id account url state failures last_success last_error",
     .options = {{"account", "NAME", TO_QUERY, NULL, "Those of one account", false}},
     .help = "List webhooks."},
    {.noun = "webhook", .verb = "show", .args = {{"WEBHOOK", NULL, false, false}}, .method = "GET", .path = "/api/v1/webhooks/{webhook}",
     .help = "Show a webhook: what waits, what was given up, and how its receiver answers."},
    {.noun = "webhook", .verb = "set", .args = {{"WEBHOOK", NULL, false, false}}, .method = "PATCH", .path = "/api/v1/webhooks/{webhook}",
     .options = {{"url", "URL", TO_BODY_TEXT, NULL, "Where to", false},
                 {"event", "TYPE", TO_BODY_LIST, "events", "One that it is told of; may be repeated; replaces those before", false},
                 {"all-events", NULL, TO_BODY_FLAG, NULL, "Every event", false},
                 {"state", "active|disabled", TO_BODY_TEXT, NULL, "A disabled webhook is told nothing; what waited stays", false},
                 {"ca", "FILE", TO_BODY_FILE, NULL, "Certificates in PEM that the receiver's has to chain to", false},
                 {"system-ca", NULL, TO_BODY_FLAG, NULL, "The system's certificates again", false}},
     .help = "Change a webhook, and try it again at once."},
    {.noun = "webhook", .verb = "delete", .args = {{"WEBHOOK", NULL, false, false}}, .method = "DELETE", .path = "/api/v1/webhooks/{webhook}", .confirm_query = "confirm",
     .help = "Delete a webhook, after showing how many events it has not delivered."},
    {.noun = "webhook", .verb = "test", .args = {{"WEBHOOK", NULL, false, false}}, .method = "POST", .path = "/api/v1/webhooks/{webhook}/test", .run = command_webhook_test,
     .help = "Send one event of the type webhook.test now; the exit status says whether it was delivered."},
    {.noun = "webhook", .verb = "rotate-secret", .args = {{"WEBHOOK", NULL, false, false}}, .method = "POST", .path = "/api/v1/webhooks/{webhook}/secret",
     .options = {{"overlap", "TIME", TO_BODY_TEXT, NULL, "How long the secret before signs too (24h); 0 where it leaked", false}},
     .help = "Make a new secret, shown once."},
    {.noun = "webhook", .verb = "dead", .args = {{"WEBHOOK", NULL, false, false}}, .method = "GET", .path = "/api/v1/webhooks/{webhook}/dead", .columns = "id type created attempts given_up last_error",
     .help = "List the events that were given up."},
    {.noun = "webhook", .verb = "letter", .args = {{"WEBHOOK", NULL, false, false}, {"EVENT", NULL, false, false}}, .method = "GET", .path = "/api/v1/webhooks/{webhook}/dead/{event}",
     .help = "Show one of them, with its payload."},
    {.noun = "webhook", .verb = "retry", .args = {{"WEBHOOK", NULL, false, false}, {"EVENT", "event", false, true}}, .method = "POST", .path = "/api/v1/webhooks/{webhook}/retry",
     .help = "Try what was given up again: all of it, or one event."},
    {.noun = "webhook", .verb = "drop", .args = {{"WEBHOOK", NULL, false, false}, {"EVENT", "event", false, true}}, .method = "POST", .path = "/api/v1/webhooks/{webhook}/drop",
     .help = "Drop what was given up: one event, or all of it after showing how many."},

    {.noun = "recovery", .verb = "show", .method = "GET", .path = "/api/v1/recovery",
     .help = "Show whether the server was put back from a backup and is in recovery: nothing is issued, and nobody comes in who is not known."},
    {.noun = "recovery", .verb = "held", .method = "GET", .path = "/api/v1/recovery/held", .columns = "account device_id state code id first_seen address",
     .help = "List the certificates that are younger than the backup, as their devices showed them."},
    {.noun = "recovery", .verb = "admit", .method = "POST", .path = "/api/v1/recovery/admit",
     .help = "Admit all that wait as a set, after showing how many: each becomes its device's, and devices that are not known are registered."},
    {.noun = "recovery", .verb = "crl", .args = {{"FILE", "crl", true, false}}, .account = true, .method = "POST", .path = ACCOUNT "/recovery/crl",
     .help = "Revoke what stands on the last revocation lists of an account's issuing CAs, in PEM as `crl export` writes them."},
    {.noun = "recovery", .verb = "finish", .method = "POST", .path = "/api/v1/recovery/finish",
     .options = {{"keep-tokens", NULL, TO_BODY_FLAG, "keep_tokens", "Let operators' tokens of the backup open again; otherwise they are revoked", false}},
     .help = "End the recovery: provisioning keys and invitations enrol again, and devices renew. Operators' tokens of the backup are revoked."},

    {.noun = "audit", .verb = "list", .account = true, .account_free = true, .method = "GET", .path = ACCOUNT "/audit", .columns = "seq at actor action object",
     .run = command_audit_list, .options = {{"from", "SEQ", TO_QUERY, NULL, "Begin at this entry", false}},
     .help = "List an account's audit log, or the server's where --account is left out."},
    {.noun = "audit", .verb = "head", .account = true, .account_free = true, .method = "GET", .path = ACCOUNT "/audit/head", .run = command_audit_list,
     .help = "Print the newest signed head of a log, to keep elsewhere for `audit verify --head`."},
    {.noun = "audit", .verb = "verify", .account = true, .account_free = true, .method = "POST", .path = ACCOUNT "/audit/verify", .run = command_audit_verify,
     .options = {{"head", "FILE", TO_LOCAL, NULL, "A head kept elsewhere, that the log has to contain", false},
                 {"server-only", NULL, TO_LOCAL, NULL, "Without --account: the server's own log and what it anchors, and no account", false}},
     .help = "Walk an audit log's hash chain, check it against the vault's signed heads, and hold an account's rows against it: settings, roots, keys, devices, certificates. "
             "Without --account everything: the server's log, and every account one after the other."},
};
const size_t COMMANDS_N = sizeof COMMANDS / sizeof *COMMANDS;

bool command_begins(const char *noun, const char *word) {
    size_t n = strlen(word);
    for (size_t i = 0; i < COMMANDS_N; i++)
        if (strcmp(COMMANDS[i].noun, noun) == 0 && strncmp(COMMANDS[i].verb, word, n) == 0 && COMMANDS[i].verb[n] == ' ')
            return true;
    return false;
}
