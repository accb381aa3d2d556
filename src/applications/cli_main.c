/* cli_main.c: from argv to a verb and its exit code. */
#include <string.h>

#include "applications/cli_internal.h"
#include "base/mem.h"

#define MAX_VERBS 64

const struct cli_verb *cli_find_verb(const char *name)
{
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        if (strcmp((*v)->name, name) == 0)
            return *v;
    return NULL;
}

static int unknown_verb(const char *name)
{
    const char *words[MAX_VERBS + 1], *guess;
    size_t n = 0;

    while (cli_verbs[n] && n < MAX_VERBS) {
        words[n] = cli_verbs[n]->name;
        n++;
    }
    words[n] = NULL;
    guess = cli_nearest(name, words);
    if (guess)
        return cli_usage(NULL, "unknown verb '%s'; did you mean '%s'?", name, guess);
    return cli_usage(NULL, "unknown verb '%s'", name);
}

static int run_verb(const struct cli_verb *v, int argc, char **argv)
{
    struct cli c = { .verb = v };
    void *options = mem_calloc(1, v->options_size);
    struct err e = { 0 };
    bool help = false;
    int code, rc;

    c.args = mem_array((size_t)argc + 1, sizeof *c.args);
    if (!options || !c.args) {
        code = cli_failf(&c, "out of memory");
        goto out;
    }
    if (v->defaults)
        memcpy(options, v->defaults, v->options_size);
    rc = cli_parse(&c, argc, argv, options, &help, &e);
    if (rc < 0) {
        code = cli_usage(&c, "%s", e.msg);
    } else if (help) {
        cli_help_verb(stdout, v);
        code = CLI_OK;
    } else {
        code = v->run(&c, options);
    }
    if (cli_flush(&c) != CLI_OK && code == CLI_OK)
        code = CLI_FAILURE;
out:
    mem_free(c.args);
    mem_free(options);
    return code;
}

/* `watt help [VERB]` */
static int help_on(int argc, char **argv)
{
    const struct cli_verb *v;

    if (argc == 0) {
        cli_help_all(stdout);
        return cli_flush(NULL);
    }
    if (argc > 1)
        return cli_usage(NULL, "help takes one verb");
    v = cli_find_verb(argv[0]);
    if (!v)
        return unknown_verb(argv[0]);
    cli_help_verb(stdout, v);
    return cli_flush(NULL);
}

int cli_main(int argc, char **argv)
{
    const struct cli_verb *v;
    const char *first;

    if (argc < 2) {
        cli_help_all(stderr);
        return CLI_USAGE;
    }
    first = argv[1];
    if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
        (void)printf("watt %s\n", WATT_VERSION);
        return cli_flush(NULL);
    }
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0)
        return help_on(0, NULL);
    if (strcmp(first, "help") == 0)
        return help_on(argc - 2, argv + 2);
    if (first[0] == '-')
        return cli_usage(NULL, "unknown option %s", first);
    v = cli_find_verb(first);
    return v ? run_verb(v, argc - 2, argv + 2) : unknown_verb(first);
}
