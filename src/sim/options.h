/* options: what muster-sim is told, from one table that --help, the manual page and completion come from as well. */
#ifndef MUSTER_SIM_OPTIONS_H
#define MUSTER_SIM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define STEPS_MAX 16

/* What the fleet does, step after step. */
enum step { STEP_ENROL, STEP_POLL, STEP_RENEW, STEPS };
/* What a device does that does the gateway no good; see misbehave.c. */
enum manner { MANNER_WRONG_ID, MANNER_CLONE, MANNER_STORM, MANNER_IMPATIENT, MANNER_HUGE_BODY, MANNER_BROKEN_TLS, MANNER_SLOW_READ, MANNERS };

/* Texts NULL, and numbers 0, where nobody said anything and there is no default.  Times are milliseconds. */
struct sim_options {
    const char *credentials, *codes, *issued, *state;
    int64_t devices; /* -1: not said */
    const char *prefix, *account, *gateway, *ca, *method, *path, *mine;
    int64_t over, every, lasts, give_up, timeout, at_once, workers;
    bool poisson, impatient, same_key, json, help, version;
    size_t misbehave[MANNERS]; /* devices */
    enum step steps[STEPS_MAX];
    size_t n_steps;
    const char *command; /* "help-man" or "completion" and what follows; NULL: it plays */
    char **rest;
};

extern const char *const STEP_NAMES[STEPS];
extern const char *const MANNER_NAMES[MANNERS];

/* MUSTER_EUSAGE.  Texts are argv's. */
int sim_options_read(int argc, char **argv, struct sim_options *o, struct err *err) MUSTER_MUST_CHECK;
void sim_options_help(FILE *out);
void sim_options_man(FILE *out); /* the tables, for scdoc */
/* Candidates for the last of the words, as base/shell.h has them. */
void sim_options_complete(FILE *out, int n, char **words);

#endif
