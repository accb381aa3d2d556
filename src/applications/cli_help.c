/* cli_help.c: help pages from the tables of verbs and options. */
#include <string.h>

#include "applications/cli_internal.h"
#include "base/utf8.h"

#define HELP_COLUMN 26      /* where descriptions start */
#define HELP_WIDTH  80

static const char *bold(FILE *f)  { return cli_color(f) ? "\033[1m" : ""; }
static const char *plain(FILE *f) { return cli_color(f) ? "\033[0m" : ""; }

/* Characters, which is columns for the text that our tables hold. */
static int columns(const char *s, size_t n)
{
    int count = 0;

    for (size_t i = 0; i < n; count++) {
        uint32_t cp;

        i += utf8_decode(s + i, n - i, &cp, NULL);
    }
    return count;
}

/* Words of text from the current column `at` on, wrapped, continued at `indent`. */
static void wrapped(FILE *f, const char *text, int indent, int at)
{
    while (*text) {
        const size_t n = strcspn(text, " ");
        const int width = columns(text, n);

        if (at > indent && at + 1 + width > HELP_WIDTH) {
            (void)fprintf(f, "\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            (void)fputc(' ', f);
            at++;
        }
        (void)fwrite(text, 1, n, f);
        at += width;
        text += n;
        text += strspn(text, " ");
    }
    (void)fputc('\n', f);
}

/* "  left", then text in the second column. */
static void entry(FILE *f, const char *left, const char *text)
{
    int at = 2 + columns(left, strlen(left));

    (void)fprintf(f, "  %s", left);
    if (at > HELP_COLUMN - 2) {
        (void)fputc('\n', f);
        at = 0;
    }
    (void)fprintf(f, "%*s", HELP_COLUMN - at, "");
    wrapped(f, text, HELP_COLUMN, HELP_COLUMN);
}

void cli_help_all(FILE *f)
{
    (void)fprintf(f, "Watt runs, measures and makes language models on hardware you own.\n\n"
                     "%susage:%s watt VERB [options] …\n\n%sverbs:%s\n",
                  bold(f), plain(f), bold(f), plain(f));
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        entry(f, (*v)->name, (*v)->summary);
    (void)fprintf(f, "\n%soptions:%s\n", bold(f), plain(f));
    entry(f, "-h, --help", "this page; `watt VERB --help` for a verb");
    entry(f, "-V, --version", "print the version");
    (void)fprintf(f, "\nExit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n");
}

static void help_option(FILE *f, const struct cli_opt *o)
{
    char left[160];
    int n = o->letter ? snprintf(left, sizeof left, "-%c, --%s", o->letter, o->name)
                      : snprintf(left, sizeof left, "    --%s", o->name);

    if (cli_takes_value(o) && n > 0 && (size_t)n < sizeof left)
        (void)snprintf(left + n, sizeof left - (size_t)n, " %s", o->arg);
    entry(f, left, o->help);
}

static void help_paragraphs(FILE *f, const char *text)
{
    while (*text) {
        const size_t n = strcspn(text, "\n");
        char line[2048];

        (void)snprintf(line, sizeof line, "%.*s", (int)n, text);
        if (line[0] == ' ')
            (void)fprintf(f, "%s\n", line);     /* laid out by hand */
        else
            wrapped(f, line, 0, 0);
        text += n;
        text += *text == '\n';
    }
}

void cli_help_verb(FILE *f, const struct cli_verb *v)
{
    const size_t n = cli_count_options(v);

    (void)fprintf(f, "watt %s: %s\n\n%susage:%s watt %s [options] %s\n", v->name, v->summary,
                  bold(f), plain(f), v->name, v->usage);
    if (v->about) {
        (void)fputc('\n', f);
        help_paragraphs(f, v->about);
    }
    (void)fprintf(f, "\n%soptions:%s\n", bold(f), plain(f));
    for (size_t i = 0; i < n; i++)
        help_option(f, &v->options[i]);
    entry(f, "-h, --help", "this page");
    if (v->examples)
        (void)fprintf(f, "\n%sexamples:%s\n", bold(f), plain(f));
    for (const char *p = v->examples; p && *p; ) {
        const size_t len = strcspn(p, "\n");

        (void)fprintf(f, "  %.*s\n", (int)len, p);
        p += len;
        p += *p == '\n';
    }
}
