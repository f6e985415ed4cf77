/* settings: what musterd.conf(5) says, as one struct.  The table in settings.c is its documentation. */
#ifndef MUSTER_CONFIG_SETTINGS_H
#define MUSTER_CONFIG_SETTINGS_H

#include "config/config.h"

enum settings_master { SETTINGS_MASTER_FILE, SETTINGS_MASTER_PASSPHRASE, SETTINGS_MASTER_CREDENTIAL };

enum settings_requests { SETTINGS_REQUESTS_OFF, SETTINGS_REQUESTS_REFUSED, SETTINGS_REQUESTS_ALL };
/* [route /PREFIX]: what devices ask for under it is asked of a server behind the gateway. */
struct route_settings {
    char *prefix;
    char *upstream;   /* http://HOST[:PORT] or https://HOST[:PORT] */
    char *path;       /* template; "": the path as it is */
    char *accounts;   /* list; "": all */
    bool keep_host;
    int64_t connect_timeout, response_timeout, idle_timeout; /* seconds */
    int64_t connections;                                     /* a loop */
    char *tls_ca, *tls_certificate, *tls_key, *tls_name;     /* PEM files; "": the system's CAs, none, none, the upstream's host */
};

struct settings {
    /* where */
    char *host;         /* list of host names of the gateway; the first is the one in URLs */
    char *listen;       /* ADDR:PORT of the gateway; [ADDR]:PORT for IPv6; port 0 picks one */
    char *admin;        /* ADDR:PORT of the operators' API */
    char *gateway_url;  /* what devices are given; "": https://<first host>:<port> */
    char *proxy_from;   /* list of networks of balancers that speak PROXY protocol v2; "": none */
    char *auth_socket;       /* path of the /auth socket; "": none */
    char *auth_socket_group; /* name; "": no group */
    char *auth_users;        /* list of users whose processes may ask there, besides root */
    char *identity_headers; /* list; gateway/identity_headers.h */
    char *crl_listen;   /* ADDR:PORT where revocation lists are served without TLS; "": nowhere */
    char *certificate_ocsp; /* URL that device certificates name for OCSP, without the account; "": none */
    int64_t ocsp_life, limit_ocsp; /* seconds to the next update of an OCSP answer; answers that are signed a second */
    int64_t crl_interval, crl_life; /* seconds: from one list to the next, and to its next update */
    /* processes */
    int64_t loops;      /* 0: one a core */
    bool sandbox;
    char *vault_user, *control_user, *gateway_user, *courier_user; /* names, when started as root; "": stay */
    int log_level;      /* enum log_level */
    int log_format;     /* enum log_format */
    bool metrics_open;  /* /metrics needs no token */
    int log_requests;   /* enum settings_requests */
    /* the vault */
    int master_key;     /* enum settings_master */
    char *master_key_file; /* FILE, CREDENTIAL: path; "": DIR/vault/master.key, $CREDENTIALS_DIRECTORY/master */
    char *pkcs11_module; /* path; "": none */
    char *pkcs11_token;  /* label or URI */
    char *pkcs11_pin_file; /* "": $CREDENTIALS_DIRECTORY/pkcs11-pin, or none */
    char *pkcs11_files;  /* list of paths */
    bool pkcs11_network; /* the module connects to where its token is */
    char *token_user;    /* "": the vault's */
    /* the gateway's certificate */
    char *server_certificate, *server_key; /* the operator's own, PEM files; "": Muster's */
    bool server_chain_check;               /* refuse one that enrolled devices could not verify */
    /* bounds */
    int64_t connections;      /* a loop */
    int64_t enrolments;       /* at a time */
    int64_t limit_source, limit_device, limit_key, limit_account, limit_guesses, limit_time; /* a minute; 0: none */
    int64_t sessions;         /* resumable TLS sessions; 0: none */
    int64_t session_seconds;
    int64_t rsa_pool;         /* RSA-2048 device keys made ahead */
    /* behind the gateway */
    struct route_settings *routes;
    size_t n_routes;
    /* webhooks */
    char *webhook_networks;   /* list; "": courier/address.h */
    int64_t webhook_retry_first, webhook_retry_most, webhook_retry_for; /* seconds */
    int64_t webhook_queue;
};

extern const struct config_key SETTINGS_TABLE[];
extern const size_t SETTINGS_COUNT;
extern const struct config_section SETTINGS_ROUTE;

int settings_load(const char *path, struct settings *out, struct err *err) MUSTER_MUST_CHECK; /* path NULL: defaults */
int settings_load_text(const struct buf *text, const char *name, struct settings *out, struct err *err) MUSTER_MUST_CHECK; /* config_load_text() */
void settings_fini(struct settings *s);
bool settings_same(const struct settings *a, const struct settings *b);
/* The words of `host`, at least one; NULL behind the last.  The caller frees with settings_hosts_free(). */
int settings_hosts(const struct settings *s, char ***out, size_t *n, struct err *err) MUSTER_MUST_CHECK;
void settings_hosts_free(char **hosts); /* NULL accepted */

DEFINE_CLEANUP_FINI(settings_fini, struct settings)

#endif
