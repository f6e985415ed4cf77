/* vault/count: see count.h. */
#include "vault/count.h"

#include "base/clock.h"
#include "base/cursor.h"
#include "base/log.h"
#include "vault/vault.h"

#define FILE_PREFIX "count-"
#define BLOCK_MAX 256

struct count {
    struct count *next;
    char account[VAULT_ACCOUNT_MAX + 1];
    int64_t hour;      /* its first second */
    uint32_t used;     /* of the hour, in memory */
    uint32_t reserved; /* of the hour, on the disk; >= used */
};

struct counts {
    struct count *first; /* the account asked for last comes first: few are busy at a time */
};

struct counts *counts_new(void) { return calloc(1, sizeof(struct counts)); }

void counts_free(struct counts *cs) {
    if (!cs)
        return;
    for (struct count *c = cs->first; c;) {
        struct count *next = c->next;
        free(c);
        c = next;
    }
    free(cs);
}

static void file_name(const char *account, char out[RECORD_NAME_MAX + 1]) { snprintf(out, RECORD_NAME_MAX + 1, FILE_PREFIX "%s", account); }

static int write_count(struct records *r, const struct count *c, uint32_t reserved, struct span data_key, struct err *err) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(64);
    char file[RECORD_NAME_MAX + 1];
    file_name(c->account, file);
    buf_add_u64(&b, (uint64_t)c->hour);
    buf_add_u32(&b, reserved);
    int rc = buf_check(&b, err);
    return rc ? rc : records_side_store(r, file, data_key, buf_span(&b), err);
}

static int read_count(struct records *r, struct count *c, struct span data_key, int64_t hour, struct err *err) {
    CLEANUP(buf_fini) struct buf b = BUF_INIT(64);
    char file[RECORD_NAME_MAX + 1];
    struct err why = ERR_INIT;
    file_name(c->account, file);
    int rc = records_side_load(r, file, data_key, &b, &why);
    if (rc == MUSTER_ENOTFOUND)
        return 0;
    struct cursor in = cursor_of(buf_span(&b));
    c->hour = (int64_t)cursor_u64(&in);
    c->reserved = c->used = cursor_u32(&in);
    if (rc == 0 && !cursor_done(&in))
        rc = MUSTER_ECORRUPT;
    if (rc != MUSTER_ECORRUPT)
        return rc ? err_set(err, rc, "%s", err_text(&why)) : 0;
    /* Nobody knows what the hour has used: all of it, then, and the next hour begins anew. */
    log_event(LOG_ERROR, "vault_counter_damaged", "account", c->account, NULL);
    c->hour = hour;
    c->reserved = c->used = UINT32_MAX;
    return 0;
}

static struct count *count_find(struct counts *cs, const char *account) {
    for (struct count **at = &cs->first; *at; at = &(*at)->next)
        if (strcmp((*at)->account, account) == 0) {
            struct count *c = *at;
            *at = c->next;
            c->next = cs->first;
            cs->first = c;
            return c;
        }
    return NULL;
}

static int count_get(struct counts *cs, struct records *r, const char *account, struct span data_key, int64_t hour, struct count **out, struct err *err) {
    *out = count_find(cs, account);
    if (*out)
        return 0;
    struct count *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, MUSTER_ENOMEM, NULL);
    snprintf(c->account, sizeof c->account, "%s", account);
    int rc = read_count(r, c, data_key, hour, err);
    if (rc) {
        free(c);
        return rc;
    }
    c->next = cs->first;
    cs->first = c;
    *out = c;
    return 0;
}

/* As many as have been used: what a restart loses is then never more than what was issued, and a ceiling that is lowered afterwards to more than
 * twice that finds room left. */
static uint32_t block_of(uint32_t used, uint32_t ceiling) {
    uint32_t block = ceiling / 64 < used ? ceiling / 64 : used;
    return block < 1 ? 1 : block > BLOCK_MAX ? BLOCK_MAX : block;
}

int count_take(struct counts *cs, struct records *r, const char *account, struct span data_key, uint32_t ceiling, int64_t now, struct err *err) {
    struct count *c;
    int64_t hour = now - now % CLOCK_HOUR;
    int rc = count_get(cs, r, account, data_key, hour, &c, err);
    if (rc)
        return rc;
    /* A clock that steps back a little stays in the hour that it had; one that was far ahead must not close the account for long. */
    if (hour > c->hour || hour < c->hour - CLOCK_HOUR) {
        c->hour = hour;
        c->used = c->reserved = 0;
    }
    if (c->used >= ceiling)
        return err_retry(err, MUSTER_ECEILING, (int)(c->hour + CLOCK_HOUR - now), "The account has issued its %u certificates of this hour.", ceiling);
    if (c->used >= c->reserved) {
        uint32_t left = ceiling - c->used, block = block_of(c->used, ceiling);
        uint32_t reserved = c->used + (block < left ? block : left);
        if ((rc = write_count(r, c, reserved, data_key, err)))
            return rc;
        c->reserved = reserved;
    }
    c->used++;
    return 0;
}

void count_forget(struct counts *cs, const char *account) {
    struct count *c = count_find(cs, account);
    if (!c)
        return;
    cs->first = c->next;
    free(c);
}

int count_drop(struct records *r, const char *account, struct err *err) {
    char file[RECORD_NAME_MAX + 1];
    file_name(account, file);
    return records_side_drop(r, file, err);
}
