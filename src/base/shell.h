/* shell: completion of command lines.  The script of a shell asks the program itself, `PROGRAM completion words -- WORD…`, with the words
 * typed so far, of which the last is being typed; the program answers with a candidate a line, from the table that it parses by.
 * What a candidate is never reaches the shell as code. */
#ifndef MUSTER_BASE_SHELL_H
#define MUSTER_BASE_SHELL_H

#include <stdbool.h>
#include <stdio.h>

#define SHELLS "bash|zsh|fish"

/* Prints the script; false: there is no such shell. */
bool shell_script(FILE *out, const char *shell, const char *program);

/* Offers one candidate where it begins with what was typed; `before` is put in front of it ("--state=" where the shell takes option and
 * value for one word; "" else).  Candidates with control characters are passed over. help NULL: none. */
void shell_offer(FILE *out, const char *typed, const char *before, const char *candidate, const char *help);
/* Each of "a|b|c"; those in capitals stand for something else, and are not offered. */
void shell_offer_choices(FILE *out, const char *typed, const char *before, const char *choices);
/* Lets the shell offer files, or directories. */
void shell_offer_files(FILE *out, bool directories);

/* Takes an option and its value apart, as the shells hand them over: "--name=value" whole (zsh, fish), or in three words (bash).  words has n
 * of them, the last the one being typed.  True where it is the value of an option: *option is its name (without "--", at most 63
 * characters), *typed the value so far, *before what precedes candidates (64 + 3 bytes). */
bool shell_option_value(int n, char **words, char option[64], const char **typed, char before[68]);

#endif
