/* est_part: what est.c (the table, and what anybody may read), est_enrol.c (certificates), est_keygen.c (with their keys) and est_queue.c (of customers' own CAs) share. */
#ifndef MUSTER_GATEWAY_EST_PART_H
#define MUSTER_GATEWAY_EST_PART_H

#include "gateway/est.h"
#include "gateway/internal.h"

/* The account that the request means.  MUSTER_EACCOUNTUNKNOWN. */
int est_account(const struct http_exchange *x, struct worker *w, char out[ACCOUNT_NAME_MAX + 1], struct err *err) MUSTER_MUST_CHECK;
/* 200, as what EST has of that type. */
void est_reply_base64(struct http_exchange *x, const char *type, struct span text);

void est_enrol(struct http_exchange *x, void *worker);
void est_serverkeygen(struct http_exchange *x, void *worker);
void est_renew(struct http_exchange *x, void *worker);
/* 200 with the certificate; 202 with Retry-After. */
void est_reply_certificate(struct http_exchange *x, struct span cert);
void est_reply_waits(struct http_exchange *x, const struct err *why);
/* est_queue.c: simplereenroll of a device whose certificate is of the customer's own CA.  0: it is answered later. */
struct csr_claim; /* pki/csr_claim.h */
int est_queue(struct http_exchange *x, struct worker *w, const struct csr_claim *claim, struct err *err) MUSTER_MUST_CHECK;
/* 200 with the key and its certificate. */
void est_reply_key(struct http_exchange *x, const EVP_PKEY *key, struct span cert);

#endif
