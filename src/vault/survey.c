/* vault/survey: see survey.h. */
#include "vault/survey.h"

#include "base/log.h"

#define RECORDS_A_TURN 32 /* those without a key in a token are passed over quickly, but not all at once */

void survey_begin(struct survey *s) { *s = (struct survey){.under_way = true}; }

static void end(struct survey *s) {
    if (s->looked)
        log_event(s->missing ? LOG_ERROR : LOG_INFO, "token_keys_looked_for", "keys", log_num(s->looked), "missing", log_num(s->missing), NULL);
    s->under_way = false;
}

bool survey_next(struct survey *s, struct records *r, struct token_request *out) {
    for (int i = 0; s->under_way && s->at == s->n; i++) {
        const char *name = records_name(r, s->record++);
        struct err err = ERR_INIT;
        if (!name) {
            end(s);
            return false;
        }
        s->at = s->n = 0;
        snprintf(s->name, sizeof s->name, "%s", name);
        if (core_keys(r, name, NULL, s->ids, &s->n, &err) || (!s->n && account_token_keys(r, name, s->ids, &s->n, &err))) /* what is wrong with a record is found out by whoever needs it */
            s->n = 0;
        if (i == RECORDS_A_TURN && !s->n)
            return false;
    }
    if (!s->under_way)
        return false;
    *out = (struct token_request){.op = TOKEN_LOOK};
    memcpy(out->key, s->ids[s->at++], TOKEN_ID_LEN);
    return true;
}

void survey_answer(struct survey *s, const struct token_answer *a) {
    if (!s->under_way)
        return;
    if (a->status == TOKEN_AWAY) { /* begun again when it is back */
        s->under_way = false;
        return;
    }
    s->looked++;
    if (a->status != TOKEN_NO_KEY)
        return;
    s->missing++;
    log_event(LOG_ERROR, "token_key_missing", "record", s->name, "meaning", "the token has not the key of a CA: it is another token, or was put back from before", NULL);
}
