/* internal: what the gateway's files share. */
#ifndef MUSTER_GATEWAY_INTERNAL_H
#define MUSTER_GATEWAY_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/log.h"
#include "gateway/anchors.h"
#include "gateway/gateway.h"
#include "gateway/identity_headers.h"
#include "gateway/limits.h"
#include "gateway/upstreams.h"
#include "http/server.h"
#include "issuer/issuer.h"
#include "loop/parent.h"
#include "verifier/verifier.h"

/* The process. */
struct gateway {
    const struct gateway_options *o;
    struct loop *loop; /* of the main thread: the supervisor, the registry's epoch, certificates */
    struct parent *parent;
    struct loop_timer *poll;
    struct store *store;
    struct verifier *verifier;
    struct tls_server *tls;
    struct http_router *router, *auth_router; /* the second has no rows: auth.c answers by itself */
    struct http_router *crl_router; /* crl.c; NULL: it does not listen */
    int crls_dir;                   /* DIR/crl; -1: likewise */
    struct http_route *routes;
    struct rsa_pool *pool;
    char **hosts; /* NULL-terminated; hosts[0] is the one in URLs */
    size_t n_hosts;
    pthread_mutex_t anchors_lock;
    struct anchors *anchors; /* under anchors_lock */
    struct buf anchors_pem; /* the main loop's: server-ca.pem, as it is by the vault's last word */
    struct buf own_chain, own_key; /* the operator's own certificate that is in use; empty: none yet */
    struct identity_headers headers; /* immutable once the workers run */
    const struct upstreams *behind;     /* likewise: what stands behind the gateway */
    struct limits *limits;
    struct worker *workers;
    size_t n_running; /* workers that have not drained yet */
    uint8_t refusal_salt[16];
    _Atomic int64_t ocsp_due;       /* ocsp.h */
    struct ocsp_cache *ocsp_cache;  /* NULL: the plain listener is off */
    bool draining;
};

/* One event loop and its thread. */
struct worker {
    struct gateway *gateway;
    pthread_t thread;
    bool started;
    struct loop *loop;
    struct http_server *server;
    struct http_server *auth;         /* NULL: none, auth.c */
    struct auth_cache *auth_cache;
    struct log_budget auth_strangers; /* auth.c */
    struct http_server *crl;          /* NULL: none, crl.c */
    size_t ocsp_looks;                /* questions under way; ocsp.c */
    struct ocsp_asker *ocsp;          /* ocsp_ask.h; NULL: nothing is served there */
    int n_serving;                    /* of these servers, those that have not drained; while draining */
    struct vault_client *vault;
    struct http_client *client; /* to what stands behind */
    LIST_HEAD(all_proxied, proxied) proxied; /* what is asked there now; proxy.c */
    struct issuer issuer;
    size_t times;                /* that are asked for; signed_time.c */
    struct log_budget strangers; /* access.c */
    struct refusals *refusals;   /* refusal_record.c */
};

/* worker.c */
int worker_start(struct gateway *g, size_t index, int listen_fd, int vault_fd, struct err *err) MUSTER_MUST_CHECK;
/* Ends the thread and every connection; what was asked of the store may still be answered. */
void worker_stop(struct worker *w);
/* After store_stop(). */
void worker_free(struct worker *w);
/* From the main loop. */
void worker_attach_vault(struct worker *w, int fd);
void worker_attach_ocsp(struct worker *w, int fd);
void worker_epoch_changed(struct worker *w);
void worker_drain(struct worker *w);

/* judge.c */
extern const struct peer_ops JUDGE_OPS;
/* What JUDGE_OPS does with a request of that peer, http_exchange_peer(x): refuses it, or lets it go on. */
void judge_request(struct http_exchange *x, struct worker *w, struct identity *id);
/* Judges every connection with a request under way again, and ends those that are refused now. */
void judge_again(struct worker *w);

/* By the route's `data`; REQUEST_DEVICE where there is none. */
enum request_kind judge_kind(const struct http_exchange *x);
/* est.c: the account that the path names; SPAN_NONE: none. */
struct span est_label(const struct http_exchange *x);

/* auth.c: the listener for other proxies, which ask at /auth. */
int auth_open(struct worker *w, int listen_fd, struct err *err) MUSTER_MUST_CHECK; /* takes the socket over */
bool auth_is_asked(const struct http_exchange *x); /* whether the request came there */
struct span auth_asked_path(const struct http_exchange *x); /* of the request that the proxy asks about */
void auth_pass(struct http_exchange *x, struct worker *w, const struct admit *a);

/* refusal.c: errors in OTA Connect's shape; empty under /repo/targets/, where a body would end up in the file being downloaded. */
void refusal_body(struct http_exchange *x, const struct err *err, struct buf *body, const char **content_type);
bool refusal_is_empty(const struct http_exchange *x);

/* refusal_record.c: what is refused is kept for the operators (registry/refusal.h), and counts against its source (limits.h). */
int refusals_start(struct worker *w, struct err *err) MUSTER_MUST_CHECK;
void refusals_stop(struct worker *w); /* hands over what is left; the loop runs no more */
void refusals_free(struct worker *w); /* after store_stop() */
/* An admitted device that finds nothing, or meets a failure of the server's or its upstream's, was not refused.  peer: NULL nobody. */
bool refusal_is_one(const struct err *err, const struct identity *peer);
/* Before the answer: gives the request an ID that finds the record. */
void refusal_keep_request(struct http_exchange *x, const struct err *err);
/* The request got what it asked for; by a profile that is tried it would not have.  NULL: it would have. */
void refusal_keep_shadow(struct http_exchange *x, const struct err *err);
/* The device ID that an enrolment asks for, for the record of its refusal. */
void refusal_claims(struct http_exchange *x, const char *device_id);
/* What is kept with an enrolment (http_exchange_data()); NULL: out of memory. */
struct enrolling {
    const char *claims;            /* that device ID; NULL: not known yet */
    const struct invited *invited; /* invited.h */
};
struct enrolling *refusal_enrolling(struct http_exchange *x);
/* No request and no answer: TLS failed.  peer: NULL where the handshake did not come to its end. */
void refusal_keep_connection(struct http_conn *c, SSL *ssl, const struct err *err, const struct identity *peer, struct worker *w);

/* access.c: a line of the log for a request that was answered, where the setting log_requests wants it. */
void gateway_answered(struct http_exchange *x, int status, uint64_t bytes, const struct err *refusal);

/* The handler of POST /devices; arg is the worker. */
void devices_post(struct http_exchange *x, void *arg);

/* server_identity.c: the certificates of DIR/tls (or the operator's own) into the TLS server, and the anchors. */
int server_identity_load(struct gateway *g, struct err *err) MUSTER_MUST_CHECK;
struct anchors *server_identity_anchors(struct gateway *g); /* a reference; from any thread */
/* The vault's word for its server CAs: PEM, the current one first. */
void server_identity_told(struct gateway *g, struct span pem);

#endif
