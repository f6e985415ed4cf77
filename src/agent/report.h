/* report: what the agent can say of this device's identity: without asking anybody, and with the gateway's word. */
#ifndef MUSTER_AGENT_REPORT_H
#define MUSTER_AGENT_REPORT_H

#include "agent/session.h"
#include "json/json.h"

/* An object: dir, state, device_id, gateway, method, key, certificate, renews_at, next, … (doc/agent.md). */
json_t *report_status(struct session *s);
/* Asks the gateway.  An object: verdict "admitted", "refused" or "unknown", side, code, reason, fix; key_in, key_uri. */
json_t *report_check(struct session *s);
/* Of a directory that is not there. */
json_t *report_nothing(const char *dir, const char *why, bool status);
bool report_admitted(const json_t *check);
/* A text that may be somebody else's, without what a terminal would obey. */
void report_text(FILE *out, const char *text);
/* Lines "name: value" for people. */
void report_print(FILE *out, const json_t *o);

/* What helps on a device, where that is not what helps on a server. */
const char *report_fix(int code);

#endif
