/* title: see title.h. */
#include "musterd/title.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

static char *area;
static size_t area_n;

/* The arguments lie one behind the other; the last NUL stays, or the kernel would show the environment too. */
void title_init(int argc, char **argv) {
    if (argc < 1)
        return;
    char *end = argv[0];
    for (int i = 0; i < argc && argv[i] == end; i++)
        end += strlen(end) + 1;
    area = argv[0];
    area_n = (size_t)(end - argv[0]);
}

void title_set(const char *process) {
    char title[32];
    snprintf(title, sizeof title, "musterd: %s", process);
    if (area_n > 1) {
        memset(area, 0, area_n);
        snprintf(area, area_n, "%s", title);
    }
    /* The kernel keeps 15 characters of this one. */
    snprintf(title, sizeof title, "musterd-%s", process);
    prctl(PR_SET_NAME, title, 0, 0, 0);
}
