/* est: what the agent asks of the gateway's issuing half: EST (RFC 7030, doc/est.md), and POST /devices where there is none (doc/wire.md). */
#ifndef MUSTER_AGENT_EST_H
#define MUSTER_AGENT_EST_H

#include "agent/http.h"

struct gateway {
    const char *url, *account; /* no slash at the end; "" where the path names none */
    const struct certs *anchors;
    int64_t now;
};

/* Who asks. */
struct shown {
    EVP_PKEY *key;
    const struct cert *cert;
    const struct certs *above; /* CA certificates behind it; NULL: none */
};

/* What came, where it was no certificate. */
struct refused {
    int status;    /* 0: no answer */
    char code[64]; /* "" where it has none */
    char fix[HTTP_FIX_MAX]; /* what the gateway says to do about it; "" where it says nothing */
    int64_t since; /* the gateway's certificate, which an anchor vouches for, begins then; 0: not known */
    bool named;    /* it has named a time to wait */
    bool unsent;   /* nothing has left this device */
    bool tls;      /* what answers refuses this device's certificate in TLS */
    bool dates;    /* the gateway's certificate, or the one that came, is out of its dates */
};

enum est_verb { EST_ENROL, EST_RENEW };

/* A certificate for `own`, which is nobody else's, under that ID.  The certificate is for that key, of that ID, for TLS clients, and valid at gateway.now, or
 * begins within a day.  above: CA certificates that came with it, in any order. */
int est_ask(const struct gateway *g, enum est_verb verb, const struct shown *by, EVP_PKEY *own, struct span device_id, struct cert **out, struct certs *above, struct refused *why, struct err *err) MUSTER_MUST_CHECK;
/* The gateway's anchors, as it says. */
int est_anchors(const struct gateway *g, const struct shown *by, struct certs *out, struct refused *why, struct err *err) MUSTER_MUST_CHECK;
/* Key and certificate as the server makes them, of that ID. */
int est_devices(const struct gateway *g, const struct shown *by, struct span device_id, EVP_PKEY **key, struct cert **cert, struct refused *why, struct err *err) MUSTER_MUST_CHECK;
/* Whether the gateway admits whoever has this certificate: 0, the refusal, or MUSTER_ENETWORK where what answers says neither.  What is asked for is Muster's own and changes nothing, but that
 * it is the first use of a new certificate. */
int est_admitted(const struct gateway *g, const struct shown *by, struct refused *why, struct err *err) MUSTER_MUST_CHECK;

/* Appends the request for a certificate for that key and ID, as it is sent: base64 of DER, in lines. */
int est_request(EVP_PKEY *own, struct span device_id, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Judges the body of an answer, for est.c and the fuzz target. */
int est_read_certificate(struct span body, const EVP_PKEY *own, int64_t now, struct cert **out, struct err *err) MUSTER_MUST_CHECK;
int est_read_anchors(struct span body, struct certs *out, struct err *err) MUSTER_MUST_CHECK;

#endif
