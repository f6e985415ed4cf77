/* forecast: which devices stop connecting, when and why, as far as time alone decides it.
 *
 * Nothing is judged here by a rule of its own: the gateway's functions are asked as of days to come: identity_judge_at(), admit_run(), verdict_of(),
 * renew_decide(), enrol_run().  What is asked is bounded for any number of devices: a device differs from its neighbours by when its certificate
 * ends and by what stands above it.  So each set of CA certificates that stands above devices (registry/device_chain.h; Muster's own) is
 * judged once, from one change of its verdict to the next, with that device's certificate that ends last; and the devices are walked through along
 * the index over their ends, in steps of a bounded number.
 *
 * A device that was enrolled and has not come yet (in a warehouse) counts by the newest certificate that waits for it.
 *
 * A device that asks for its certificates itself (EST) and may renew is told apart: it stops only where it does not come before.  Who is not let
 * in now, by an operator's word or because something ended already, does not stop. */
#ifndef MUSTER_VERIFIER_FORECAST_H
#define MUSTER_VERIFIER_FORECAST_H

#include "json/json.h"
#include "registry/device_chain.h"
#include "registry/snapshot.h"

#define FORECAST_DAYS 90
#define FORECAST_DAYS_MAX 36500
#define FORECAST_NAMES 20        /* devices that are named of a cause */
#define FORECAST_CAUSES_MAX 1000    /* that an answer shows: the server's always, provisioning keys last */
#define FORECAST_CAUSES_ACCOUNT 32  /* that are told apart of an account; what is beyond is one cause of each kind ("others"), so that no account crowds out another */
#define FORECAST_KEYS_ACCOUNT 8     /* likewise its provisioning keys */
#define FORECAST_FORMER_CAS 8
#define FORECAST_BINS_MAX 3660   /* days, or lengths of several days, that are told apart */

/* What ends. */
enum forecast_kind {
    FORECAST_DEVICE,       /* the device's own certificate */
    FORECAST_INTERMEDIATE, /* a CA of the customer's */
    FORECAST_ISSUING,      /* one of Muster's */
    FORECAST_ROOT,
    FORECAST_SERVER,       /* the gateway's certificate: devices refuse it */
    FORECAST_SERVER_CA,    /* what they trust it by */
    FORECAST_KEY,          /* a provisioning key: nobody stops, and nobody comes in with it any more */
    FORECAST_KINDS
};
extern const char *const FORECAST_WORDS[FORECAST_KINDS];

struct forecast_day {
    int64_t at; /* its beginning */
    int64_t stops, renews;
};
struct forecast_device {
    struct uuid id;
    char device_id[DEVICE_ID_MAX + 1];
    int64_t at;
    bool renews;
};
struct forecast_cause {
    enum forecast_kind kind;
    int64_t account_row, object; /* object: a row, to tell two of a kind apart; 0: none */
    char account[ACCOUNT_NAME_MAX + 1]; /* "" the server's */
    struct uuid id;              /* of the root, of an intermediate the one above it, or the key; nil: none */
    char subject[256];           /* of what ends; a key's name */
    int code;                    /* with which it is refused */
    int64_t first, last, stops, renews;
    int64_t first_stop, last_stop; /* of those that do not renew; 0: none */
    int64_t keys;                /* provisioning keys that end */
    struct forecast_day *days;   /* only those on which something happens, in their order */
    size_t n_days, cap_days;
    struct forecast_device devices[FORECAST_NAMES]; /* the first, those that stop before those that renew */
    size_t n_devices;
};

/* What the registry does not know. */
struct forecast_server {
    int64_t certificate_end; /* of the gateway's, where it is not renewed by itself; 0: none is known */
    int64_t ca_end;          /* likewise, of what devices trust it by */
    struct forecast_former_ca {
        int64_t number, end;
    } former[FORECAST_FORMER_CAS]; /* server CAs that some devices have no newer one than */
    size_t n_former;
};

struct forecast;
/* only: the one account; "" every account. */
int forecast_new(const char *only, int64_t from, int days, const struct forecast_server *server, struct forecast **out, struct err *err) MUSTER_MUST_CHECK;
void forecast_free(struct forecast *f); /* NULL accepted */
/* At most about so many days in all its causes: where there are more, a day is made of two, as often as needed (day_length). */
void forecast_bound_days(struct forecast *f, size_t days);
/* One step, in a reading transaction; again while forecast_more().  MUSTER_ENOTFOUND: the one account. */
int forecast_run(struct store_tx *tx, void *arg /* struct forecast */, struct err *err);
bool forecast_more(const struct forecast *f);

/* Once nothing is left to do: by when it begins. */
size_t forecast_count(const struct forecast *f);
const struct forecast_cause *forecast_at(const struct forecast *f, size_t i);
int64_t forecast_from(const struct forecast *f);
bool forecast_complete(const struct forecast *f);    /* every cause is there, and everything could be judged */
int64_t forecast_damaged(const struct forecast *f);  /* rows of the registry that could not be judged, and were left out */
const struct err *forecast_damage(const struct forecast *f); /* what is wrong with the first of them */
/* Appends it as JSON.  It may be a megabyte: on no loop. */
int forecast_write(const struct forecast *f, struct buf *out, struct err *err) MUSTER_MUST_CHECK;
/* Devices of the account ("" all) that stop until then by this kind of end. */
int64_t forecast_stops(const struct forecast *f, const char *account, enum forecast_kind kind, int64_t until);

DEFINE_CLEANUP(forecast_free, struct forecast *)

#endif
