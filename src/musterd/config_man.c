/* config_man: the whole of musterd.conf(5) around the table's keys; options.h. */
#include "config/settings.h"
#include "musterd/options.h"

int options_config_man(const struct options *o, struct err *err) {
    FILE *out = stdout;
    fputs("MUSTERD.CONF(5)\n\n# NAME\n\nmusterd.conf - configuration of the server of Muster\n\n# DESCRIPTION\n\n"
          "Lines of the form _key = value_. A line that begins with # is a comment. A list is one value with blanks between, or "
          "_key.1 = …_, _key.2 = …_. Lengths of time are a number and s, m, h, d or y.\n\n"
          "*musterd init* writes the file with every key, those that were not given as comments with their default. It is read at "
          "the start.\n\n# KEYS\n\n", out);
    config_man(out, SETTINGS_TABLE, SETTINGS_COUNT);
    fprintf(out, "# ROUTES\n\nA section *\\[%s %s\\]*, behind the keys of the file as a whole. %s\n\n", SETTINGS_ROUTE.name, SETTINGS_ROUTE.argument, SETTINGS_ROUTE.help);
    config_man(out, SETTINGS_ROUTE.table, SETTINGS_ROUTE.n);
    fputs("# SEE ALSO\n\n*musterd*(8)\n", out);
    return fflush(out) || ferror(out) ? err_set(err, MUSTER_EIO, "Standard output cannot be written.") : 0;
}
