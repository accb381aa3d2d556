/* cli.c: option tables to values; see cli.h. Help is in cli_help.c, signals and
 * the streams in cli_term.c. */
#include "applications/cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "applications/cli_internal.h"
#include "base/mem.h"

#define NEAREST_MAX_LEN 40

bool cli_takes_value(const struct cli_opt *o)
{
    return o->type != CLI_FLAG && o->type != CLI_CLEAR;
}

size_t cli_count_options(const struct cli_verb *v)
{
    size_t n = 0;

    if (v->options)
        while (v->options[n].name)
            n++;
    CHECK(n <= CLI_MAX_OPTIONS);
    return n;
}

/* ---- "did you mean" ---- */

/* Edit distance with insertion, deletion, substitution and transposition. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[3][NEAREST_MAX_LEN + 1];
    const size_t na = strlen(a), nb = strlen(b);

    if (na > NEAREST_MAX_LEN || nb > NEAREST_MAX_LEN)
        return NEAREST_MAX_LEN;
    for (size_t j = 0; j <= nb; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];

        cur[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned d = up[j - 1] + (a[i - 1] != b[j - 1]);

            if (up[j] + 1 < d)
                d = up[j] + 1;
            if (cur[j - 1] + 1 < d)
                d = cur[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < d)
                d = up2[j - 2] + 1;
            cur[j] = d;
        }
    }
    return row[na % 3][nb];
}

const char *cli_nearest(const char *word, const char *const *words)
{
    const size_t n = strlen(word);
    unsigned best = n <= 3 ? 1 : n <= 6 ? 2 : 3;   /* further than this is no typing slip */
    const char *found = NULL;

    for (; *words; words++) {
        /* an unfinished word counts as one slip */
        const unsigned d = n >= 3 && strncmp(word, *words, n) == 0 ? 1 : edit_distance(word, *words);

        if (d < best || (d == best && !found)) {
            best = d;
            found = *words;
        }
    }
    return found;
}

/* ---- values ---- */

static bool bounded(const struct cli_opt *o)
{
    return o->min < o->max || o->min > o->max;
}

static int bad_value(struct err *e, const char *shown, const char *value, const char *want)
{
    return err_set(e, WATT_EINVAL, "%s wants %s, not '%s'", shown, want, value);
}

static int out_of_range(struct err *e, const struct cli_opt *o, const char *shown, const char *value)
{
    if (o->max >= 1e15)
        return err_set(e, WATT_EINVAL, "%s wants %.15g or more, not %s", shown, o->min, value);
    return err_set(e, WATT_EINVAL, "%s wants %.15g to %.15g, not %s", shown, o->min, o->max, value);
}

static int set_int(const struct cli_opt *o, const char *shown, const char *value, int64_t *out,
                   struct err *e)
{
    char *end;
    long long v;

    errno = 0;
    v = strtoll(value, &end, 10);
    if (end == value || *end || value[0] == ' ')
        return bad_value(e, shown, value, "a whole number");
    if (errno == ERANGE || (bounded(o) && ((double)v < o->min || (double)v > o->max)))
        return out_of_range(e, o, shown, value);
    *out = v;
    return 0;
}

static int set_real(const struct cli_opt *o, const char *shown, const char *value, double *out,
                    struct err *e)
{
    char *end;
    const double v = strtod(value, &end);

    if (end == value || *end || value[0] == ' ' || !isfinite(v))
        return bad_value(e, shown, value, "a number");
    if (bounded(o) && (v < o->min || v > o->max))
        return out_of_range(e, o, shown, value);
    *out = v;
    return 0;
}

static int set_bytes(const char *shown, const char *value, uint64_t *out, struct err *e)
{
    static const char units[] = "KMGT";
    const char *unit;
    char *end;
    unsigned long long v;

    errno = 0;
    v = strtoull(value, &end, 10);
    if (end == value || value[0] < '0' || value[0] > '9' || errno == ERANGE)
        return bad_value(e, shown, value, "a size such as 512M or 4G");
    unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (unit) {
        const unsigned shift = 10u * (unsigned)(unit - units + 1);

        if (v > UINT64_MAX >> shift)
            return bad_value(e, shown, value, "a smaller size");
        v <<= shift;
        end++;
        if (strcmp(end, "iB") == 0)
            end += 2;
    }
    if (*end == 'B')
        end++;
    if (*end)
        return bad_value(e, shown, value, "a size such as 512M or 4G");
    *out = v;
    return 0;
}

static int set_choice(const struct cli_opt *o, const char *shown, const char *value, int *out,
                      struct err *e)
{
    const char *p = o->arg;
    const size_t n = strlen(value);

    for (int i = 0; ; i++) {
        const size_t len = strcspn(p, "|");

        if (len == n && strncmp(p, value, n) == 0) {
            *out = i;
            return 0;
        }
        if (!p[len])
            break;
        p += len + 1;
    }
    return err_set(e, WATT_EINVAL, "%s wants one of %s, not '%s'", shown, o->arg, value);
}

static int set_value(const struct cli_opt *o, const char *shown, const char *value, void *options,
                     struct err *e)
{
    void *target = (char *)options + o->offset;

    switch (o->type) {
    case CLI_FLAG:
    case CLI_CLEAR:
        *(bool *)target = o->type == CLI_FLAG;
        return 0;
    case CLI_INT:
        return set_int(o, shown, value, target, e);
    case CLI_REAL:
        return set_real(o, shown, value, target, e);
    case CLI_BYTES:
        return set_bytes(shown, value, target, e);
    case CLI_TEXT:
    case CLI_FILE:
        *(const char **)target = value;
        return 0;
    case CLI_CHOICE:
        return set_choice(o, shown, value, target, e);
    case CLI_LIST: {
        struct cli_list *list = target;

        if (list->n == CLI_LIST_MAX)
            return err_set(e, WATT_ELIMIT, "%s may be given at most %d times", shown, CLI_LIST_MAX);
        list->v[list->n++] = value;
        return 0;
    }
    }
    check_failed(__FILE__, __LINE__, "option type");
}

/* ---- finding options ---- */

int cli_set(const struct cli_opt *table, const char *name, const char *value, void *options,
            struct err *e)
{
    const char *words[CLI_MAX_OPTIONS + 1], *guess;
    size_t n = 0;

    for (; table[n].name && n < CLI_MAX_OPTIONS; n++) {
        words[n] = table[n].name;
        if (strcmp(table[n].name, name) == 0)
            return set_value(&table[n], name, value, options, e);
    }
    words[n] = NULL;
    guess = cli_nearest(name, words);
    if (guess)
        return err_set(e, WATT_ENOENT, "unknown setting '%s'; did you mean '%s'?", name, guess);
    return err_set(e, WATT_ENOENT, "unknown setting '%s'", name);
}

static int unknown_option(const struct cli_verb *v, const char *arg, size_t name_len, struct err *e)
{
    const char *words[CLI_MAX_OPTIONS + 2];
    char name[NEAREST_MAX_LEN + 1];
    const size_t n = cli_count_options(v);
    const char *guess = NULL;

    if (name_len <= NEAREST_MAX_LEN) {
        memcpy(name, arg + 2, name_len);
        name[name_len] = '\0';
        for (size_t i = 0; i < n; i++)
            words[i] = v->options[i].name;
        words[n] = "help";
        words[n + 1] = NULL;
        guess = cli_nearest(name, words);
    }
    if (guess)
        return err_set(e, WATT_EINVAL, "unknown option %.*s; did you mean --%s?",
                       (int)(name_len + 2), arg, guess);
    return err_set(e, WATT_EINVAL, "unknown option %.*s", (int)(name_len + 2), arg);
}

/* One "--name", "--name=value" or "--name value"; *i moves past a taken value. */
static int parse_long(struct cli *c, int argc, char **argv, int *i, void *options, bool *help,
                      struct err *e)
{
    const char *arg = argv[*i], *name = arg + 2;
    const size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct cli_opt *o = c->verb->options;
    char shown[NEAREST_MAX_LEN + 3];

    if (len == 4 && strncmp(name, "help", 4) == 0 && !value) {
        *help = true;
        return 0;
    }
    while (o && o->name && (strlen(o->name) != len || strncmp(o->name, name, len) != 0))
        o++;
    if (!o || !o->name)
        return unknown_option(c->verb, arg, len, e);
    (void)snprintf(shown, sizeof shown, "--%s", o->name);
    if (!cli_takes_value(o)) {
        if (value)
            return err_set(e, WATT_EINVAL, "%s takes no value", shown);
    } else if (!value) {
        if (*i + 1 >= argc)
            return err_set(e, WATT_EINVAL, "%s wants a value: %s", shown, o->arg);
        value = argv[++*i];
    }
    return set_value(o, shown, value, options, e);
}

/* "-abc": flags, the last of which may take a value: "-n8", "-n 8". */
static int parse_short(struct cli *c, int argc, char **argv, int *i, void *options, bool *help,
                       struct err *e)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const struct cli_opt *o = c->verb->options;
        const char shown[3] = { '-', *p, '\0' };
        int rc;

        while (o && o->name && o->letter != *p)
            o++;
        if (!o || !o->name) {
            if (*p == 'h') {
                *help = true;
                continue;
            }
            return err_set(e, WATT_EINVAL, "unknown option %s", shown);
        }
        if (!cli_takes_value(o)) {
            rc = set_value(o, shown, NULL, options, e);
            if (rc < 0)
                return rc;
            continue;
        }
        if (p[1])
            return set_value(o, shown, p + 1 + (p[1] == '='), options, e);
        if (*i + 1 >= argc)
            return err_set(e, WATT_EINVAL, "%s wants a value: %s", shown, o->arg);
        return set_value(o, shown, argv[++*i], options, e);
    }
    return 0;
}

static const struct cli_opt *option_named(const struct cli_verb *v, const char *name)
{
    const struct cli_opt *o = v->options;

    while (o->name && strcmp(o->name, name) != 0)
        o++;
    return o->name ? o : NULL;
}

/* Another program's spelling; *known says whether it was one. */
static int parse_alias(struct cli *c, int argc, char **argv, int *i, void *options, bool *known,
                       struct err *e)
{
    const char *arg = argv[*i];
    const size_t len = arg[1] == '-' ? strcspn(arg, "=") : strlen(arg);
    const char *value = arg[len] == '=' ? arg + len + 1 : NULL;
    const struct cli_alias *a = c->verb->aliases;
    const struct cli_opt *o;
    bool takes;

    while (a && a->given && (strlen(a->given) != len || strncmp(a->given, arg, len) != 0))
        a++;
    *known = a && a->given;
    if (!*known)
        return 0;
    o = a->meant && *a->meant ? option_named(c->verb, a->meant) : NULL;
    takes = !a->meant ? a->has_value : !o || cli_takes_value(o);
    if (takes && !value && *i + 1 >= argc)
        return err_set(e, WATT_EINVAL, "%s wants a value", a->given);
    if (!takes && value)
        return err_set(e, WATT_EINVAL, "%s takes no value", a->given);
    if (takes && !value)
        value = argv[++*i];
    if (!a->meant)
        cli_note(c, "%s is of no meaning here and left out", a->given);
    else if (!o)
        c->args[c->n_args++] = (char *)(uintptr_t)value;
    else
        return set_value(o, a->given, value, options, e);
    return 0;
}

static bool is_option(const char *arg)
{
    return arg[0] == '-' && arg[1] && !(arg[1] >= '0' && arg[1] <= '9') && arg[1] != '.';
}

static int parse_option(struct cli *c, int argc, char **argv, int *i, void *options, bool *help,
                        struct err *e)
{
    bool known;
    const int rc = parse_alias(c, argc, argv, i, options, &known, e);

    if (known)
        return rc;
    return (argv[*i][1] == '-' ? parse_long : parse_short)(c, argc, argv, i, options, help, e);
}

int cli_parse(struct cli *c, int argc, char **argv, void *options, bool *help, struct err *e)
{
    bool only_args = false;

    *help = false;
    c->n_args = 0;
    for (int i = 0; i < argc; i++) {
        int rc = 0;

        if (only_args || !is_option(argv[i]))
            c->args[c->n_args++] = argv[i];
        else if (strcmp(argv[i], "--") == 0)
            only_args = true;
        else
            rc = parse_option(c, argc, argv, &i, options, help, e);
        if (rc < 0)
            return rc;
        if (*help)
            return 0;   /* help must work however wrong the rest is */
    }
    if (c->n_args < c->verb->min_args)
        return err_set(e, WATT_EINVAL, "missing argument: watt %s %s", c->verb->name, c->verb->usage);
    if (c->n_args > c->verb->max_args)
        return err_set(e, WATT_EINVAL, "unexpected argument '%s'", c->args[c->verb->max_args]);
    return 0;
}
