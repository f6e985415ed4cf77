/* replay: runs a fuzz target over the files of its corpus, where there is no fuzzer.  Usage: replay DIRECTORY|FILE... */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "fuzz.h"

#define PATH_LIMIT 4096

static size_t n_run;

static int run_file(const char *path) {
    CLEANUP(fclose) FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    /* Exactly as many bytes as there are, so that a sanitizer sees the first one beyond. */
    size_t n = (size_t)st.st_size;
    CLEANUP(free) char *bytes = malloc(n ? n : 1);
    if (!bytes || fread(bytes, 1, n, f) != n) {
        fprintf(stderr, "%s cannot be read\n", path);
        return 1;
    }
    /* Whoever looks for the input that ended the program finds it in the last line. */
    fprintf(stderr, "%s\n", path);
    MUST(LLVMFuzzerTestOneInput((const uint8_t *)bytes, n) == 0);
    n_run++;
    return 0;
}

static int is_name(const struct dirent *e) { return e->d_name[0] != '.'; }

static int run_directory(const char *path) {
    struct dirent **entries;
    int n = scandir(path, &entries, is_name, alphasort), bad = n < 0;
    for (int i = 0; i < n; i++) {
        char name[PATH_LIMIT];
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        bad = run_file(name) || bad;
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return bad;
}

int main(int argc, char **argv) {
    int bad = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        bool directory = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        bad = (directory ? run_directory(argv[i]) : run_file(argv[i])) || bad;
    }
    fprintf(stderr, "%zu inputs\n", n_run);
    return bad || n_run == 0; /* an empty corpus tests nothing */
}
