/* vault/survey: whether the token has the keys that the vault names: looked for one after the other when the token's process comes, and
 * again when the token comes back.  It is where a backup that was put back beside the wrong token is found out.  Called by park.c. */
#ifndef MUSTER_VAULT_SURVEY_H
#define MUSTER_VAULT_SURVEY_H

#include "vault/account.h"

struct survey {
    bool under_way;
    size_t record;                       /* whose keys are looked for */
    char name[RECORD_NAME_MAX + 1];
    size_t n, at;                        /* its keys; the next one */
    uint8_t ids[ACCOUNT_TOKEN_KEYS_MAX][TOKEN_ID_LEN];
    unsigned looked, missing;
};

void survey_begin(struct survey *s);
/* The next key to look for: false, there is none, or the survey is over. */
bool survey_next(struct survey *s, struct records *r, struct token_request *out);
/* What the token said of that one. */
void survey_answer(struct survey *s, const struct token_answer *a);

#endif
