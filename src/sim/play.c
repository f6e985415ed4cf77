/* play: see play.h. */
#include "sim/play.h"

#include <dirent.h>
#include <event2/event.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "sim/act.h"

#define PACE_MS 1000     /* between two requests of one that misbehaves, but in a storm */
#define HURRY_MS 10      /* of who does not wait */
#define BACK_OFF_MAX 60000
#define AT_ONCE 10000
#define SPARE_FILES 8 /* for what the state of devices is written by */

struct player {
    struct play *play;
    struct device *d;
    struct loop_timer *timer;
    struct player *behind; /* in the queue for a connection */
    int64_t first, due;    /* of the step's first request, and of the one under way; microseconds */
    unsigned tries;
    bool uses, over;
    bool bad, began_bad;
    enum manner manner;
};

struct play {
    const struct sim_options *o;
    struct act act;
    struct loop *loop;
    struct client *client;
    struct fleet *fleet;
    struct played *out;
    struct player *players;
    struct player *first, **last; /* the queue */
    struct tally *tally;          /* of the step under way */
    size_t step, left, at_once;
    int64_t until;                /* of polling */
    uint64_t random;
    bool bad_began, tty, stopping;
    struct loop_timer *tick, *bad_end, *poll_end;
    struct event *signals[2];
    struct err failed;
};

/* --- moments -------------------------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* In [0, 1): of the ID, the same in each run. */
static double share_of(const char *id) {
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *p = id; *p; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    return (double)(mix(h) >> 11) / 9007199254740992.0;
}

static double draw(struct play *p) { return (double)(mix(p->random += 0x9e3779b97f4a7c15u) >> 11) / 9007199254740992.0; }
static double gap(struct play *p, double mean) { return -log(1 - draw(p)) * mean; }

/* --- connections ------------------------------------------------------------------------------------------------------------------------ */

static void begin(struct player *p);
static void end_step(struct play *p);

static void wait_in_queue(struct player *p) {
    p->behind = NULL;
    *p->play->last = p;
    p->play->last = &p->behind;
}

static void due(void *arg) {
    struct player *p = arg;
    struct play *play = p->play;
    if (play->stopping)
        return;
    if (client_open(play->client) >= play->at_once)
        wait_in_queue(p);
    else
        begin(p);
}

static void set(struct player *p, int64_t at) {
    const int64_t now = clock_mono_us();
    p->due = at;
    loop_timer_set(p->timer, at > now ? (at - now + 999) / 1000 : 0);
}

static void next_in_queue(void *arg) {
    struct play *play = arg;
    while (play->first && !play->stopping && client_open(play->client) < play->at_once) {
        struct player *p = play->first;
        if (!(play->first = p->behind))
            play->last = &play->first;
        begin(p);
    }
}

/* --- one device ---------------------------------------------------------------------------------------------------------------------------- */

static struct tally *tally_of(const struct player *p) { return p->began_bad ? p->play->out->manners[p->manner] : p->play->tally; }

static void over(struct player *p, bool well) {
    struct play *play = p->play;
    struct tally *t = play->tally;
    p->over = true;
    t->done += well;
    t->failed += !well;
    if (well)
        histogram_add(&t->served, clock_mono_us() - p->first);
    if (!--play->left)
        end_step(play);
}

/* Where nobody said how long: longer each time. */
static int64_t wait_for(const struct player *p, const struct answer *a) {
    const int64_t back_off = p->tries < 16 && 1000LL << p->tries < BACK_OFF_MAX ? 1000LL << p->tries : BACK_OFF_MAX;
    return p->play->o->impatient ? HURRY_MS : a->retry_after > 0 ? a->retry_after * 1000LL : back_off;
}

static void later(struct player *p, const struct answer *a) {
    const int64_t now = clock_mono_us(), at = now + wait_for(p, a) * 1000;
    if (at - p->first > p->play->o->give_up * 1000) {
        over(p, false);
        return;
    }
    p->play->tally->postponed += act_told_to_wait(a);
    p->tries++;
    set(p, at);
}

/* Polling goes on, whatever the answer was. */
static void poll_again(struct player *p, const struct answer *a, enum came came) {
    struct play *play = p->play;
    const struct sim_options *o = play->o;
    const int64_t now = clock_mono_us();
    int64_t at = o->workers ? now : p->due + (int64_t)(o->poisson ? gap(play, (double)o->every * 1e3) : (double)o->every * 1e3);
    play->tally->done += came == CAME_DONE;
    play->tally->failed += came != CAME_DONE;
    if (act_told_to_wait(a)) {
        play->tally->postponed++;
        if (now + wait_for(p, a) * 1000 > at || o->impatient)
            at = now + wait_for(p, a) * 1000;
    }
    if (at < play->until) {
        set(p, at);
    } else {
        p->over = true;
        if (!--play->left)
            end_step(play);
    }
}

static void bad_again(struct player *p, const struct answer *a) {
    const int64_t now = clock_mono_us();
    if (p->manner == MANNER_STORM || (p->manner == MANNER_IMPATIENT && act_told_to_wait(a)))
        set(p, now);
    else
        set(p, now + PACE_MS * 1000);
}

static void answered(void *arg, const struct answer *a) {
    struct player *p = arg;
    struct play *play = p->play;
    const enum step step = play->o->n_steps ? play->o->steps[play->step < play->o->n_steps ? play->step : play->o->n_steps - 1] : STEP_POLL;
    char name[80];
    const int64_t took = a->status ? clock_mono_us() - p->due : -1;
    const enum came came = p->began_bad ? CAME_LATER : act_take(&play->act, step, p->uses, p->d, a);
    act_name(a, came, name);
    tally_answer(tally_of(p), name, took);
    if (play->first && loop_post(play->loop, next_in_queue, play))
        next_in_queue(play);
    if (p->began_bad) {
        bad_again(p, a);
        return;
    }
    if (step == STEP_POLL) {
        poll_again(p, a, came);
    } else if (came == CAME_LATER) {
        later(p, a);
    } else if (came == CAME_USE) {
        p->uses = true;
        p->tries = 0;
        set(p, clock_mono_us());
    } else {
        over(p, came == CAME_DONE);
    }
}

/* This machine had no room for it, which is no word of the gateway: it waits for one of those that are open to end; where none is, for a second. */
static void not_sent(struct player *p, const struct err *why) {
    struct play *play = p->play;
    const size_t open = client_open(play->client);
    const int64_t at = clock_mono_us() + PACE_MS * 1000;
    tally_not_sent(tally_of(p), err_text(why));
    if (open) {
        play->at_once = open;
        wait_in_queue(p);
    } else if (p->began_bad || at - p->first <= play->o->give_up * 1000) {
        set(p, at);
    } else {
        over(p, false);
    }
}

static void begin(struct player *p) {
    struct play *play = p->play;
    struct ask ask = {.request = BUF_INIT(0)};
    struct err err = ERR_INIT;
    if (play->o->workers)
        p->due = clock_mono_us();
    int rc = p->began_bad ? act_misbehave(&play->act, p->manner, p->d, &ask, &err) : act_ask(&play->act, play->o->steps[play->step], p->uses, p->d, &ask, &err);
    if (!rc) {
        rc = client_send(play->client, &ask, answered, p, &err);
        if (!rc)
            tally_begun(tally_of(p), clock_mono_us());
    }
    buf_wipe(&ask.request);
    if (rc && err.code == MUSTER_ENOTFOUND && !p->began_bad) { /* it has nothing to ask with, and never will */
        tally_answer(play->tally, err_text(&err), -1);
        over(p, false);
    } else if (rc) {
        not_sent(p, &err);
    }
}

/* --- steps ------------------------------------------------------------------------------------------------------------------------------------ */

static struct tally *tally_new(struct play *p, const char *name) {
    struct tally *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(&p->failed, MUSTER_ENOMEM, NULL);
        loop_stop(p->loop);
        return NULL;
    }
    snprintf(t->name, sizeof t->name, "%s", name);
    t->began = t->ended = clock_mono_us();
    return t;
}

static void stop(void *arg) {
    struct play *p = arg;
    p->stopping = true;
    loop_stop(p->loop);
}

static void begin_bad(struct play *p) {
    const int64_t now = clock_mono_us();
    for (size_t i = 0; i < p->fleet->n && !p->bad_began; i++) {
        struct player *one = &p->players[i];
        if (!one->bad)
            continue;
        struct tally **t = &p->out->manners[one->manner];
        if (!*t && !(*t = tally_new(p, MANNER_NAMES[one->manner])))
            return;
        (*t)->bad = true;
        (*t)->devices++;
        one->began_bad = true;
        set(one, now + (int64_t)(share_of(one->d->id) * PACE_MS * 1000));
    }
    p->bad_began = true;
}

static bool any_bad(const struct play *p) {
    for (int i = 0; i < MANNERS; i++)
        if (p->o->misbehave[i])
            return true;
    return false;
}

static void one_less(void *arg) {
    struct play *p = arg;
    if (!--p->left)
        end_step(p);
}

static void begin_step(void *arg) {
    struct play *p = arg;
    const struct sim_options *o = p->o;
    if (p->step == o->n_steps) { /* nothing is left but what misbehaves, where it has not had its time */
        const bool alone = any_bad(p) && !p->bad_began;
        begin_bad(p);
        loop_timer_set(p->bad_end, alone ? o->lasts : 0);
        return;
    }
    const enum step step = o->steps[p->step];
    const int64_t now = clock_mono_us();
    double at = 0;
    if (!(p->tally = p->out->steps[p->out->n_steps] = tally_new(p, STEP_NAMES[step])))
        return;
    p->out->n_steps++;
    if (step != STEP_ENROL)
        begin_bad(p);
    p->until = now + o->lasts * 1000;
    p->left = 1; /* until all are set; and polling lasts as long as it was said */
    for (size_t i = 0; i < p->fleet->n; i++) {
        struct player *one = &p->players[i];
        if (one->began_bad)
            continue;
        p->tally->devices++;
        p->left++;
        one->uses = one->over = false;
        one->tries = 0;
        const int64_t spread = step == STEP_POLL && o->over > o->lasts ? o->lasts : o->over;
        at = o->workers ? 0 : o->poisson ? at + gap(p, (double)spread * 1e3 / (double)p->fleet->n) : share_of(one->d->id) * (double)spread * 1e3;
        one->first = now + (int64_t)at;
        if (step == STEP_ENROL && one->d->has.key_n && one->d->way != WAY_ISSUED) {
            one->over = true;
            p->tally->done++;
            p->left--;
        } else {
            set(one, one->first);
        }
    }
    if (step == STEP_POLL && !o->workers)
        loop_timer_set(p->poll_end, o->lasts);
    else
        one_less(p);
}

static void end_step(struct play *p) {
    p->tally->ended = clock_mono_us();
    if (p->tty)
        fputs("\r\033[K", stderr);
    if (fleet_save(p->fleet, &p->failed)) {
        stop(p);
        return;
    }
    p->step++;
    if (loop_post(p->loop, begin_step, p)) {
        err_set(&p->failed, MUSTER_ENOMEM, NULL);
        stop(p);
    }
}

static void tick(void *arg) {
    struct play *p = arg;
    loop_timer_set(p->tick, 1000);
    if (!p->tty || !p->tally)
        return;
    const struct tally *t = p->tally;
    fprintf(stderr, "\r%s: %llu done, %llu failed, %zu left; %llu requests, %zu connections, %llu postponed\033[K", t->name, (unsigned long long)t->done, (unsigned long long)t->failed, p->left,
            (unsigned long long)t->requests, client_open(p->client), (unsigned long long)t->postponed);
}

static void on_signal(evutil_socket_t number, short what, void *arg) {
    struct play *p = arg;
    p->out->cut_short = true;
    stop(p);
}

/* --- all of it ---------------------------------------------------------------------------------------------------------------------------------- */

static size_t open_files(void) {
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* As many connections as there may be files. */
static size_t most_at_once(const struct sim_options *o) {
    struct rlimit files = {.rlim_cur = 1024};
    size_t wanted = o->workers ? (size_t)o->workers : o->at_once ? (size_t)o->at_once : AT_ONCE;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_NOFILE, &files);
    }
    const size_t used = open_files() + SPARE_FILES, most = files.rlim_cur > used ? files.rlim_cur - used : 1;
    if (o->at_once && (size_t)o->at_once < wanted)
        wanted = (size_t)o->at_once;
    return wanted < most ? wanted : most;
}

static int set_up(struct play *p, struct err *err) {
    size_t bad = 0, at = p->fleet->n;
    for (int i = 0; i < MANNERS; i++)
        bad += p->o->misbehave[i];
    if (bad > p->fleet->n)
        return err_set(err, MUSTER_EUSAGE, "%zu are to misbehave, and there are %zu devices.", bad, p->fleet->n);
    p->players = calloc(p->fleet->n, sizeof *p->players);
    p->tick = loop_timer_new(p->loop, tick, p);
    p->bad_end = loop_timer_new(p->loop, stop, p);
    p->poll_end = loop_timer_new(p->loop, one_less, p);
    p->signals[0] = evsignal_new(loop_base(p->loop), SIGINT, on_signal, p);
    p->signals[1] = evsignal_new(loop_base(p->loop), SIGTERM, on_signal, p);
    bool good = p->players && p->tick && p->bad_end && p->poll_end && p->signals[0] && p->signals[1];
    for (size_t i = 0; good && i < p->fleet->n; i++) {
        p->players[i] = (struct player){.play = p, .d = &p->fleet->device[i]};
        good = (p->players[i].timer = loop_timer_new(p->loop, due, &p->players[i])) != NULL;
    }
    if (!good || event_add(p->signals[0], NULL) || event_add(p->signals[1], NULL))
        return err_set(err, MUSTER_ENOMEM, NULL);
    for (int i = 0; i < MANNERS; i++)
        for (size_t n = p->o->misbehave[i]; n--;) {
            p->players[--at].bad = true;
            p->players[at].manner = (enum manner)i;
        }
    loop_timer_set(p->tick, 1000);
    return loop_post(p->loop, begin_step, p);
}

/* What was under way when it ended. */
static void close_tallies(struct play *p) {
    const int64_t now = clock_mono_us();
    for (int i = 0; i < MANNERS; i++)
        if (p->out->manners[i])
            p->out->manners[i]->ended = now;
    if (!p->out->cut_short || !p->tally || p->step == p->o->n_steps)
        return;
    p->tally->ended = now;
    for (size_t i = 0; i < p->fleet->n; i++)
        p->tally->unfinished += !p->players[i].over && !p->players[i].began_bad;
}

static void tear_down(struct play *p) {
    for (size_t i = 0; p->players && i < p->fleet->n; i++)
        loop_timer_free(p->players[i].timer);
    free(p->players);
    loop_timer_free(p->tick);
    loop_timer_free(p->bad_end);
    loop_timer_free(p->poll_end);
    for (int i = 0; i < 2; i++)
        if (p->signals[i])
            event_free(p->signals[i]);
}
DEFINE_CLEANUP_FINI(tear_down, struct play)

int play_run(const struct sim_options *o, struct fleet *f, struct loop *l, struct client *c, struct played *out, struct err *err) {
    CLEANUP(tear_down) struct play p = {.o = o, .act = {.o = o, .fleet = f, .host = client_host(c)}, .loop = l, .client = c, .fleet = f, .out = out, .at_once = most_at_once(o), .random = 1,
                                        .tty = !o->json && isatty(STDERR_FILENO)};
    p.last = &p.first;
    int rc = set_up(&p, err);
    if (rc)
        return rc;
    loop_run(l);
    if (p.tty)
        fputs("\r\033[K", stderr);
    close_tallies(&p);
    *err = p.failed;
    return err->code ? err->code : fleet_save(f, err);
}

bool played_well(const struct played *p) {
    bool well = !p->cut_short;
    for (size_t i = 0; i < p->n_steps; i++)
        well = well && !p->steps[i]->failed && !p->steps[i]->unfinished;
    return well;
}

void played_fini(struct played *p) {
    for (size_t i = 0; i < p->n_steps; i++)
        free(p->steps[i]);
    for (int i = 0; i < MANNERS; i++)
        free(p->manners[i]);
}
