/* cli_completion.c: `watt completion SHELL`: completion scripts made from the
 * same tables as parsing and help. */
#include <string.h>

#include "applications/cli_internal.h"

/* s inside single quotes of a shell; for zsh's _arguments, brackets and colons
 * are escaped as well. */
static void quoted(const char *s, bool zsh)
{
    for (; *s; s++) {
        if (*s == '\'')
            (void)fputs("'\\''", stdout);
        else if (zsh && (*s == '[' || *s == ']' || *s == ':'))
            (void)printf("\\%c", *s);
        else
            (void)putchar(*s);
    }
}

static void choices(const char *arg)
{
    for (; *arg; arg++)
        (void)putchar(*arg == '|' ? ' ' : *arg);
}

/* ---- bash ---- */

static void bash_verb(const struct cli_verb *v)
{
    (void)printf("        %s)\n            case $prev in\n", v->name);
    for (const struct cli_opt *o = v->options; o && o->name; o++) {
        if (!cli_takes_value(o))
            continue;
        (void)printf("                --%s", o->name);
        if (o->letter)
            (void)printf("|-%c", o->letter);
        (void)printf(") ");
        if (o->type == CLI_CHOICE) {
            (void)printf("COMPREPLY=($(compgen -W '");
            choices(o->arg);
            (void)printf("' -- \"$cur\")); return;;\n");
        } else if (o->type == CLI_FILE) {
            (void)printf("COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n");
        } else {
            (void)printf("return;;\n");
        }
    }
    (void)printf("            esac\n            opts='--help");
    for (const struct cli_opt *o = v->options; o && o->name; o++)
        (void)printf(" --%s", o->name);
    (void)printf("';;\n");
}

static void bash(void)
{
    (void)printf("# bash completion for watt; load it with: eval \"$(watt completion bash)\"\n"
                 "_watt() {\n"
                 "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} opts=\n"
                 "    COMPREPLY=()\n"
                 "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                 "        COMPREPLY=($(compgen -W 'help --help --version");
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        (void)printf(" %s", (*v)->name);
    (void)printf("' -- \"$cur\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        bash_verb(*v);
    (void)printf("        completion) COMPREPLY=($(compgen -W 'bash zsh fish man' -- \"$cur\")); return;;\n"
                 "        help) COMPREPLY=($(compgen -W '");
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        (void)printf("%s ", (*v)->name);
    (void)printf("' -- \"$cur\")); return;;\n"
                 "    esac\n"
                 "    case $cur in\n"
                 "        -*) COMPREPLY=($(compgen -W \"$opts\" -- \"$cur\"));;\n"
                 "        *) COMPREPLY=($(compgen -f -- \"$cur\"));;\n"
                 "    esac\n"
                 "}\n"
                 "complete -o filenames -F _watt watt\n");
}

/* ---- zsh ---- */

static void zsh_option(const struct cli_opt *o)
{
    const bool many = o->type == CLI_LIST;

    (void)printf("                    '%s--%s%s[", many ? "*" : "", o->name,
                 cli_takes_value(o) ? "=" : "");
    quoted(o->help, true);
    (void)putchar(']');
    if (cli_takes_value(o)) {
        (void)putchar(':');
        quoted(o->type == CLI_CHOICE ? o->name : o->arg, true);
        (void)putchar(':');
        if (o->type == CLI_CHOICE) {
            (void)putchar('(');
            choices(o->arg);
            (void)putchar(')');
        } else if (o->type == CLI_FILE) {
            (void)printf("_files");
        }
    }
    (void)printf("' \\\n");
}

static void zsh(void)
{
    (void)printf("#compdef watt\n# zsh completion for watt: save it as _watt in a directory of $fpath\n"
                 "_watt() {\n    local -a verbs=(\n        'help:help on a verb'\n");
    for (const struct cli_verb *const *v = cli_verbs; *v; v++) {
        (void)printf("        '%s:", (*v)->name);
        quoted((*v)->summary, true);
        (void)printf("'\n");
    }
    (void)printf("    )\n    _arguments -C '1: :->verb' '*:: :->rest' '(-h --help)'{-h,--help}'[help]' "
                 "'(-V --version)'{-V,--version}'[version]'\n"
                 "    case $state in\n        verb) _describe verb verbs;;\n        rest)\n"
                 "            case $words[1] in\n");
    for (const struct cli_verb *const *v = cli_verbs; *v; v++) {
        (void)printf("                %s) _arguments \\\n", (*v)->name);
        for (const struct cli_opt *o = (*v)->options; o && o->name; o++)
            zsh_option(o);
        (void)printf("                    '--help[this page]' %s;;\n",
                     strcmp((*v)->name, "completion") == 0 ? "'1:shell:(bash zsh fish man)'" : "'*:file:_files'");
    }
    (void)printf("                help) _describe verb verbs;;\n            esac;;\n    esac\n}\n"
                 "if [ \"$funcstack[1]\" = _watt ]; then _watt \"$@\"; else compdef _watt watt; fi\n");
}

/* ---- fish ---- */

static void fish_option(const struct cli_verb *v, const struct cli_opt *o)
{
    (void)printf("complete -c watt -n '__fish_seen_subcommand_from %s' -l %s", v->name, o->name);
    if (o->letter)
        (void)printf(" -s %c", o->letter);
    if (o->type == CLI_CHOICE) {
        (void)printf(" -x -a '");
        choices(o->arg);
        (void)putchar('\'');
    } else if (o->type == CLI_FILE) {
        (void)printf(" -r -F");
    } else if (cli_takes_value(o)) {
        (void)printf(" -x");
    }
    (void)printf(" -d '");
    for (const char *p = o->help; *p; p++) {
        if (*p == '\'' || *p == '\\')
            (void)putchar('\\');
        (void)putchar(*p);
    }
    (void)printf("'\n");
}

static void fish(void)
{
    (void)printf("# fish completion for watt: save it as ~/.config/fish/completions/watt.fish\n"
                 "complete -c watt -n __fish_use_subcommand -f -a help -d 'help on a verb'\n"
                 "complete -c watt -n __fish_use_subcommand -l version -s V -d 'print the version'\n");
    for (const struct cli_verb *const *v = cli_verbs; *v; v++) {
        (void)printf("complete -c watt -n __fish_use_subcommand -f -a %s -d '", (*v)->name);
        quoted((*v)->summary, false);
        (void)printf("'\n");
        for (const struct cli_opt *o = (*v)->options; o && o->name; o++)
            fish_option(*v, o);
    }
    (void)printf("complete -c watt -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish man'\n");
}

static int run_completion(const struct cli *c, const void *options)
{
    static const struct { const char *name; void (*write)(void); } shells[] = {
        { "bash", bash }, { "zsh", zsh }, { "fish", fish },
        { "man", cli_man },
    };

    (void)options;
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (strcmp(c->args[0], shells[i].name) == 0) {
            shells[i].write();
            return CLI_OK;
        }
    return cli_usage(c, "unknown shell '%s': bash, zsh, fish and man (the manual page) are known", c->args[0]);
}

const struct cli_verb verb_completion = {
    .name = "completion",
    .summary = "print a completion script for a shell, or the manual page",
    .usage = "bash|zsh|fish|man",
    .examples = "eval \"$(watt completion bash)\"\n"
                "watt completion zsh > ~/.zfunc/_watt\n"
                "watt completion fish > ~/.config/fish/completions/watt.fish\n"
                "watt completion man | man -l -",
    .min_args = 1, .max_args = 1,
    .run = run_completion,
};
