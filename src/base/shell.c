/* shell: see shell.h.  Used by the programs' completion alone. */
#include "base/shell.h"

#include <string.h>

#include "base/poison.h"

/* "@" stands for the program. */
static const char bash[] =
    "# bash completion of @; made by `@ completion bash`.\n"
    "_@() {\n"
    "    local line cur=${COMP_WORDS[COMP_CWORD]}\n"
    "    COMPREPLY=()\n"
    "    [[ $cur == = ]] && cur=\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;\n"
    "        :directories) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\") ;;\n"
    "        *) COMPREPLY+=(\"$(printf %q \"${line%%$'\\t'*}\")\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" completion words -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null </dev/null)\n"
    "}\n"
    "complete -F _@ @\n";

static const char zsh[] =
    "#compdef @\n"
    "# zsh completion of @; made by `@ completion zsh`.\n"
    "_@() {\n"
    "    local line\n"
    "    local -a candidates shown\n"
    "    while IFS= read -r line; do\n"
    "        case $line in\n"
    "        :files) _files ;;\n"
    "        :directories) _files -/ ;;\n"
    "        *) candidates+=(\"${line%%$'\\t'*}\"); shown+=(\"${line/$'\\t'/ -- }\") ;;\n"
    "        esac\n"
    "    done < <(\"${words[1]}\" completion words -- \"${(@)words[2,CURRENT]}\" 2>/dev/null </dev/null)\n"
    "    (( $#candidates )) && compadd -l -d shown -a candidates\n"
    "}\n"
    "if [[ $funcstack[1] == _@ ]]; then _@ \"$@\"; else compdef _@ @; fi\n";

static const char fish[] =
    "# fish completion of @; made by `@ completion fish`.\n"
    "function __@_complete\n"
    "    set -l words (commandline -opc)\n"
    "    set -l current (commandline -ct)\n"
    "    for line in ($words[1] completion words -- $words[2..] $current 2>/dev/null </dev/null)\n"
    "        switch $line\n"
    "            case :files\n"
    "                __fish_complete_path $current\n"
    "            case :directories\n"
    "                __fish_complete_directories $current\n"
    "            case '*'\n"
    "                printf '%s\\n' $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c @ -f -a '(__@_complete)'\n";

static const struct {
    const char *name, *text;
} scripts[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

bool shell_script(FILE *out, const char *shell, const char *program) {
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        if (strcmp(scripts[i].name, shell) != 0)
            continue;
        for (const char *p = scripts[i].text; *p; p++)
            /* zsh has an @ of its own, in "$@" and (@). */
            if (*p == '@' && p[1] != '"' && p[1] != ')' && p[1] != ']')
                fputs(program, out);
            else
                fputc(*p, out);
        return true;
    }
    return false;
}

void shell_offer(FILE *out, const char *typed, const char *before, const char *candidate, const char *help) {
    if (strncmp(candidate, typed, strlen(typed)) != 0 || !*candidate)
        return;
    for (const char *p = candidate; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return;
    fprintf(out, "%s%s", before, candidate);
    if (help)
        fprintf(out, "\t%s", help);
    fputc('\n', out);
}

void shell_offer_choices(FILE *out, const char *typed, const char *before, const char *choices) {
    for (const char *at = choices; *at; at += *at == '|') {
        char word[64];
        size_t n = strcspn(at, "|");
        if (n < sizeof word && !(*at >= 'A' && *at <= 'Z')) {
            memcpy(word, at, n);
            word[n] = '\0';
            shell_offer(out, typed, before, word, NULL);
        }
        at += n;
    }
}

void shell_offer_files(FILE *out, bool directories) { fputs(directories ? ":directories\n" : ":files\n", out); }

static bool option_name(const char *word, size_t n, char option[64]) {
    if (n == 2 && strncmp(word, "-o", 2) == 0) { /* both programs have it for --output */
        memcpy(option, "output", sizeof "output");
        return true;
    }
    if (n < 3 || n - 2 > 63 || strncmp(word, "--", 2) != 0)
        return false;
    memcpy(option, word + 2, n - 2);
    option[n - 2] = '\0';
    return true;
}

bool shell_option_value(int n, char **words, char option[64], const char **typed, char before[68]) {
    const char *last = n > 0 ? words[n - 1] : "", *equals = strchr(last, '=');
    *typed = last;
    before[0] = '\0';
    if (equals && equals > last && option_name(last, (size_t)(equals - last), option)) {
        memcpy(before, last, (size_t)(equals - last) + 1);
        before[equals - last + 1] = '\0';
        *typed = equals + 1;
        return true;
    }
    if (n >= 2 && strcmp(last, "=") == 0) { /* bash: "--name" "=" */
        *typed = "";
        return option_name(words[n - 2], strlen(words[n - 2]), option);
    }
    if (n >= 3 && strcmp(words[n - 2], "=") == 0) /* bash: "--name" "=" "val" */
        return option_name(words[n - 3], strlen(words[n - 3]), option);
    return n >= 2 && !strchr(words[n - 2], '=') && option_name(words[n - 2], strlen(words[n - 2]), option);
}
