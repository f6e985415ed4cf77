/* keyring/call: what a part does (part.h), in bounded time: MUSTER_EKEYTIME where that was not enough. */
#ifndef MUSTER_KEYRING_CALL_H
#define MUSTER_KEYRING_CALL_H

#include "keyring/part.h"

int call_make(const struct keyring_part *part, const struct keyring_uri *u, const char *label, const struct naming *naming, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
int call_open(const struct keyring_part *part, const struct keyring_uri *u, EVP_PKEY **out, struct err *err) MUSTER_MUST_CHECK;
int call_has(const struct keyring_part *part, const struct keyring_uri *u, bool *has, struct err *err) MUSTER_MUST_CHECK;
int call_remove(const struct keyring_part *part, const struct keyring_uri *u, struct err *err) MUSTER_MUST_CHECK;
int call_refused(const struct keyring_part *part, const struct keyring_uri *u, struct err *err) MUSTER_MUST_CHECK;

#endif
