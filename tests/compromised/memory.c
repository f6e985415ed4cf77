/* memory: whether a secret lies in the memory that the process has, what it was forked with included; see attack.h.
 *
 * /proc is out of reach, so pages are probed: write() says EFAULT of what is not there.  Regions lie together, so from each known address the
 * search goes both ways until nothing has come for a while. */
#include <stdlib.h>
#include <unistd.h>

#include "attack.h"
#include "base/hex.h"

#define PAGE 4096UL
#define GAP (256UL << 20) /* nothing for so long: the end of what lies together */
#define TURN 0x5aU
#define NEEDLES 16
#define NEEDLE_MAX 512

/* Needles are kept with every byte turned, so that they are not found themselves. */
struct needle {
    char name[32];
    uint8_t turned[NEEDLE_MAX];
    size_t n;
    int found;
};

static struct needle needles[NEEDLES];
static size_t n_needles;
static unsigned long pages;

/* What the pipe took is taken out again. */
static bool there(const uint8_t *p, const int pair[2]) {
    uint8_t byte;
    return write(pair[1], p, 1) == 1 && read(pair[0], &byte, 1) == 1;
}

static bool is_needle(const uint8_t *p, const struct needle *x) {
    for (size_t i = 0; i < x->n; i++)
        if ((p[i] ^ TURN) != x->turned[i])
            return false;
    return true;
}

/* [from, to) is there. */
static void search(const uint8_t *from, const uint8_t *to) {
    for (size_t k = 0; k < n_needles; k++) {
        struct needle *x = &needles[k];
        const uint8_t first = x->turned[0] ^ TURN;
        for (const uint8_t *p = from; p + x->n <= to && (p = memchr(p, first, (size_t)(to - p) - x->n + 1)); p++)
            if (p[1] == (x->turned[1] ^ TURN) && is_needle(p, x))
                x->found++;
    }
    pages += (unsigned long)(to - from) / PAGE;
}

static void walk(uintptr_t at, bool up, const int pair[2]) {
    uintptr_t quiet = 0, begun = 0;
    const uintptr_t step = up ? PAGE : -PAGE;
    for (at &= ~(PAGE - 1); quiet < GAP && at > 65536 && at < (1UL << 47) - 65536; at += step) {
        if (there((const uint8_t *)at, pair)) {
            begun = begun ? begun : at;
            quiet = 0;
            continue;
        }
        if (begun)
            search((const uint8_t *)(up ? begun : at + PAGE), (const uint8_t *)(up ? at : begun + PAGE));
        begun = 0;
        quiet += PAGE;
    }
}

/* MUSTER_ATTACK_NEEDLES: "NAME=HEX …", the bytes turned by TURN. */
static void read_needles(void) {
    CLEANUP(free) char *text = strdup(given("MUSTER_ATTACK_NEEDLES"));
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word && n_needles < NEEDLES; word = strtok_r(NULL, " ", &rest)) {
        struct needle *x = &needles[n_needles];
        char *hex = strchr(word, '=');
        if (!hex || strlen(hex + 1) / 2 > NEEDLE_MAX)
            continue;
        *hex++ = '\0';
        x->n = strlen(hex) / 2;
        (void)!strncat(x->name, word, sizeof x->name - 1);
        if (x->n > 1 && hex_decode(span_str(hex), x->turned, x->n) == 0)
            n_needles++;
    }
}

void attack_memory(struct attack *a) {
    int local = 0, pair[2];
    void *small = malloc(16), *large = malloc(1 << 20);
    if (!small || !large || pipe2(pair, 0))
        return;
    read_needles();
    const uintptr_t known[] = {(uintptr_t)small, (uintptr_t)large, (uintptr_t)&local, (uintptr_t)&attack_memory, (uintptr_t)&needles, (uintptr_t)a->o->trust, (uintptr_t)&malloc};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        walk(known[i], true, pair);
        walk(known[i], false, pair);
    }
    for (size_t k = 0; k < n_needles; k++)
        say("memory %s: %d", needles[k].name, needles[k].found);
    say("memory: %lu pages searched", pages);
    close(pair[0]);
    close(pair[1]);
    free(small);
    free(large);
}
