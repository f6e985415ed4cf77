/* config: one typed table of settings, read from a file in the form of musterd.conf(5): `key = value` lines, `#` comments, and
 * sections `[name argument]` of the kinds that the program names, behind the keys of the file as a whole.
 *
 * The table belongs to the program; parser, defaults, the commented file that `init` writes and the man page come from it.  libinih
 * reads the lines; what it would silently bend is refused here with file and line: a line of 200 bytes and more (it would be cut),
 * a key given twice, " ;" in a value (it would be cut there), an unknown key or section. A list is one value with blanks between, or
 * `key.1 = …`, `key.2 = …`: the parts are joined in the order of the file. */
#ifndef MUSTER_CONFIG_CONFIG_H
#define MUSTER_CONFIG_CONFIG_H

#include <stdio.h>

#include "base/buf.h"
#include "base/cleanup.h"

enum config_type {
    CONFIG_TEXT,   /* char *, owned */
    CONFIG_LIST,   /* char *, owned: words separated by single blanks */
    CONFIG_BOOL,   /* bool: yes/no, on/off, true/false */
    CONFIG_INT,    /* int64_t within least..most */
    CONFIG_SPAN,   /* int64_t seconds within least..most: 30d, 12h, 90m, 45s, 2y or a number */
    CONFIG_CHOICE, /* int: index into `choices` ("a|b|c") */
};

struct config_key {
    const char *name;
    enum config_type type;
    size_t offset;        /* of the member in the program's struct */
    const char *fallback; /* as it would stand in the file; "" for an empty text */
    int64_t least, most;  /* CONFIG_INT, CONFIG_SPAN */
    const char *choices;  /* CONFIG_CHOICE */
    const char *help;     /* one or two sentences, for the file and the man page */
};

/* A kind of section: each one that the file has is a struct of its own. */
struct config_section {
    const char *name;     /* "route" */
    const char *argument; /* what stands behind the name, for help: "/PREFIX" */
    const struct config_key *table;
    size_t n;
    /* A new one in *out; *at: the struct that its keys fill, all bytes zero. */
    int (*begin)(void *out, const char *argument, void **at, struct err *err);
    const char *help;
};
/* As config_load(), for a file that may have sections. */
int config_load_sections(const char *path, const struct config_key *table, size_t n, const struct config_section *sections, size_t n_sections, void *out,
                         struct err *err) MUSTER_MUST_CHECK;
/* The same of a text that is to be a file, not an empty one; name: of the file, for errors. */
int config_load_text(const struct buf *text, const char *name, const struct config_key *table, size_t n, const struct config_section *sections, size_t n_sections, void *out,
                     struct err *err) MUSTER_MUST_CHECK;
/* Fills *out (all defaults first), reading path where not NULL.  MUSTER_ECONFIG "FILE:LINE: …". */
int config_load(const char *path, const struct config_key *table, size_t n, void *out, struct err *err) MUSTER_MUST_CHECK;
/* Sets one key, for options on a command line; `where` stands in the error. */
int config_set(const struct config_key *table, size_t n, void *out, const char *where, const char *name, const char *value, struct err *err) MUSTER_MUST_CHECK;
/* Whether two structs of the same table have the same value of one key, or of all. */
bool config_same_key(const struct config_key *k, const void *a, const void *b);
bool config_same(const struct config_key *table, size_t n, const void *a, const void *b);
int config_copy_key(const struct config_key *k, void *to, const void *from, struct err *err) MUSTER_MUST_CHECK;
void config_fini(const struct config_key *table, size_t n, void *out);
/* The commented file: keys of `set` (name, value pairs ended by NULL) as given, all others as comments with their default. */
void config_write(struct buf *out, const struct config_key *table, size_t n, const char *const *set);
/* The text of a configuration with other values for some keys of the file as a whole (name, value pairs ended by NULL), and all else as it was:
 * a line that sets one is replaced, a further one goes; where there is none it comes behind the commented one, or in front of the sections.  A value of "" takes
 * the key's lines away. */
void config_rewrite(struct span text, const char *const *set, struct buf *out);
/* One section, all of it as comments. */
void config_write_section(struct buf *out, const struct config_section *section);
/* The keys as a section of a man page, in scdoc's language. */
void config_man(FILE *out, const struct config_key *table, size_t n);

#endif
