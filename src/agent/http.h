/* http: one request to the gateway over TLS, with an identity or without, under anchors and nothing else: the system's certificates are never read.
 *
 * Dates of certificates are judged here, by the time that is named and with 64 bits, since libcrypto's own check has the 32 of time_t on some
 * targets; and so that they can be left out where the question is what time it is.  Answers have bounds, redirects are not followed. */
#ifndef MUSTER_AGENT_HTTP_H
#define MUSTER_AGENT_HTTP_H

#include "agent/certs.h"

#define HTTP_BODY_MAX (64u << 10) /* bytes of an answer; a PKCS#12 of POST /devices has less */

struct http_request {
    const char *method, *url;
    const struct certs *anchors;
    EVP_PKEY *key;           /* NULL: no certificate is shown */
    const struct cert *cert;
    const struct certs *above; /* what is shown behind it; NULL: nothing */
    const char *media;       /* of the body; NULL: none */
    struct span body;
    int64_t now;             /* by which the gateway's certificates are judged; 0: their dates are not looked at */
};

struct http_answer {
    int status;
    int retry_after;    /* seconds; 0: none was named */
    bool allows_post;   /* Allow names POST */
    struct buf body;
    bool refused;       /* TLS failed by this device's certificate, as the other side says */
    bool dates;         /* it failed by the dates of the gateway's certificates alone */
    bool unsent;        /* nothing left this device: no route, or no name */
    int64_t since;      /* the gateway's certificate begins then; 0: it was not looked at, or not accepted */
};
#define HTTP_ANSWER_INIT ((struct http_answer){.body = BUF_INIT(HTTP_BODY_MAX)})
void http_answer_fini(struct http_answer *a); /* wipes: it may hold a key */

/* Through which proxy requests go: "http://HOST:PORT", or "" for none; whatever the environment says.  For the whole process. */
void http_through(const char *proxy);
/* 0 where an answer came, whatever it says; MUSTER_ENETWORK where none did, with why; MUSTER_ETLSREJECTED where that is that the gateway's certificate is not accepted, but
 * for its dates. */
int http_ask(const struct http_request *rq, struct http_answer *answer, struct err *err) MUSTER_MUST_CHECK;

/* What an answer other than the expected one says: its code where it is Muster's, text with description and cause, Retry-After.  Returns the code of the error, which is none of wrong usage;
 * *code: the stable code as it came, *fix: its advice, "" where there is none. */
#define HTTP_FIX_MAX 240
int http_refusal(const struct http_answer *a, char code[64], char fix[HTTP_FIX_MAX], struct err *err) MUSTER_MUST_CHECK;

#define HTTP_RETRY_MAX (7 * 86400) /* seconds; how much of it is believed follows from the certificate's end (session.c) */
/* Retry-After (RFC 9110, 10.2.3): seconds, at most HTTP_RETRY_MAX, whatever is larger; or a date, which is of use where the time is known (now not 0).  0: it is neither. */
int http_retry_after(struct span value, int64_t now);
/* Whether Allow names POST. */
bool http_names_post(struct span list);

DEFINE_CLEANUP_FINI(http_answer_fini, struct http_answer)

#endif
