/* man: see man.h. */
#include "base/man.h"

#include <string.h>

void man_text(FILE *out, const char *text) {
    for (; *text; text++) {
        if (strchr("_*\\[]<>`", *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}
