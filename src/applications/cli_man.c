/* cli_man.c: watt(1) in mdoc, from the same tables as parsing and help; printed
 * by `watt completion man`. */
#include <stdio.h>
#include <string.h>

#include "applications/cli_internal.h"

#define PAGE_DATE "November 22, 2026"

#define LINE_WIDTH 76

static void word(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\')
            (void)fputs("\\e", stdout);
        else
            (void)putchar(s[i]);
    }
}

/* The same at the beginning of a line, where . and ' would make it a request. */
static void escaped(const char *s, size_t n)
{
    if (n > 0 && (*s == '.' || *s == '\''))
        (void)fputs("\\&", stdout);
    word(s, n);
}

/* n bytes of running text, in lines that are short and end with each sentence,
 * as mdoc wants them. */
static void text_n(const char *s, size_t n)
{
    size_t at = 0;
    bool new_line = true;

    while (n > 0) {
        size_t len = 0;

        while (len < n && s[len] != ' ')
            len++;
        if (!new_line && at + 1 + len > LINE_WIDTH) {
            (void)putchar('\n');
            new_line = true;
        }
        if (new_line) {
            escaped(s, len);
            at = len;
        } else {
            (void)putchar(' ');
            word(s, len);
            at += len + 1;
        }
        new_line = false;
        s += len;
        n -= len;
        if (n > 0 && len > 0 && strchr(".?!", s[-1])) {
            (void)putchar('\n');
            new_line = true;
        }
        while (n > 0 && *s == ' ') {
            s++;
            n--;
        }
    }
}

static void text(const char *s)
{
    text_n(s, strlen(s));
}

/* Lines as they are. */
static void lines(const char *s)
{
    while (*s) {
        const size_t n = strcspn(s, "\n");

        escaped(s, n);
        s += n;
        if (*s == '\n')
            (void)putchar(*s++);
    }
}

/* One argument of a macro: quoted, so that no word of it is taken for a macro. */
static void arg(const char *s)
{
    (void)fputs(" \"", stdout);
    for (; *s; s++) {
        if (*s == '"')
            (void)fputs("\\(dq", stdout);
        else if (*s == '\\')
            (void)fputs("\\e", stdout);
        else
            (void)putchar(*s);
    }
    (void)putchar('"');
}

static void option(const struct cli_opt *o)
{
    (void)printf(".It");
    if (o->letter)
        (void)printf(" Fl %c ,", o->letter);
    (void)printf(" Fl -%s", o->name);
    if (cli_takes_value(o)) {
        (void)printf(" Ar");
        arg(o->arg);
    }
    (void)putchar('\n');
    text(o->help);
    (void)putchar('\n');
}

/* Lines that begin with a space were laid out by hand; an empty line ends a
 * paragraph. */
static void paragraphs(const char *s)
{
    bool literal = false;

    while (*s) {
        const size_t n = strcspn(s, "\n");
        const bool laid_out = n > 0 && *s == ' ';

        if (laid_out != literal)
            (void)puts(laid_out ? ".Bd -literal" : ".Ed");
        literal = laid_out;
        if (n == 0)
            (void)puts(".Pp");
        else if (laid_out)
            escaped(s, n);
        else
            text_n(s, n);
        if (n > 0)
            (void)putchar('\n');
        s += n;
        s += *s == '\n';
    }
    if (literal)
        (void)puts(".Ed");
}

static void verb(const struct cli_verb *v)
{
    (void)printf(".Ss %s\n", v->name);
    (void)printf(".D1 Nm Cm %s Oo Ar options Oc Ar", v->name);
    arg(v->usage);
    (void)printf("\n.Pp\n");
    if (v->about) {
        paragraphs(v->about);
    } else {
        (void)printf("%c", v->summary[0] >= 'a' && v->summary[0] <= 'z' ? v->summary[0] - 32 : v->summary[0]);
        text(v->summary + 1);
        (void)printf(".\n");
    }
    if (v->options) {
        (void)printf(".Bl -tag -width Ds\n");
        for (const struct cli_opt *o = v->options; o->name; o++)
            option(o);
        (void)printf(".El\n");
    }
}

static void examples(void)
{
    (void)printf(".Sh EXAMPLES\n.Bd -literal\n");
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        if ((*v)->examples) {
            lines((*v)->examples);
            (void)putchar('\n');
        }
    (void)printf(".Ed\n");
}

static const char head[] =
    ".\\\" Made by `watt completion man`; edit the tables in src/applications instead.\n"
    ".Dd " PAGE_DATE "\n"
    ".Dt WATT 1\n"
    ".Os\n"
    ".Sh NAME\n"
    ".Nm watt\n"
    ".Nd run, measure and make language models on hardware you own\n"
    ".Sh SYNOPSIS\n"
    ".Nm\n"
    ".Ar verb\n"
    ".Op Ar options\n"
    ".Op Ar arguments\n"
    ".Nm\n"
    ".Cm help\n"
    ".Op Ar verb\n"
    ".Nm\n"
    ".Fl -version\n"
    ".Sh DESCRIPTION\n"
    ".Nm\n"
    "opens model files in GGUF and runs them on the processor.\n"
    "Options and arguments may come in any order;\n"
    ".Fl -\n"
    "ends the options,\n"
    ".Fl -option Ns = Ns Ar value\n"
    "and\n"
    ".Fl -option Ar value\n"
    "are the same, and every verb knows\n"
    ".Fl -help .\n"
    "Answers and data go to standard output; notes, speed, progress and errors go to\n"
    "standard error.\n"
    "Files are written beside their target and renamed, so that a failure leaves\n"
    "nothing behind.\n"
    ".Sh VERBS\n";

static const char tail[] =
    ".Sh CHAT\n"
    ".Nm Cm run\n"
    "without a prompt, on a terminal, chats.\n"
    "A line that ends with a backslash goes on in the next one; a message may stand\n"
    "between lines of three double quotes.\n"
    "Ctrl-C stops an answer; twice at the prompt it leaves.\n"
    "Lines that begin with a slash are commands:\n"
    ".Bl -tag -width Ds\n"
    ".It Cm /help\n"
    "the list of commands\n"
    ".It Cm /exit , /quit , /bye\n"
    "leave; so does Ctrl-D\n"
    ".It Cm /clear , /new\n"
    "forget the conversation, keep the system message\n"
    ".It Cm /system Ar TEXT\n"
    "set the system message; a lone - removes it\n"
    ".It Cm /set Ar NAME VALUE\n"
    "change a sampling option, by its long name, for the next answer;\n"
    "alone: list them\n"
    ".It Cm /show Ar model | settings | messages | template\n"
    "look at one of these\n"
    ".It Cm /save Ar FILE , Cm /load Ar FILE\n"
    "write the conversation as JSON and read it back\n"
    ".It Cm /undo\n"
    "take back the last message and its answer\n"
    ".It Cm /retry\n"
    "answer the last message again\n"
    ".It Cm /raw\n"
    "complete texts without the chat template, or chat again\n"
    ".It Cm /think Ar on | off | auto\n"
    "ask the template for reasoning or against it\n"
    ".It Cm /stats\n"
    "tokens and speed so far\n"
    ".El\n"
    ".Pp\n"
    "When the context is full the answer ends and a note says so; a conversation that\n"
    "does not fit is refused with the numbers.\n"
    "Nothing is ever cut off silently.\n"
    ".Sh ENVIRONMENT\n"
    ".Bl -tag -width Ds\n"
    ".It Ev NO_COLOR\n"
    "when set and not empty, no colour is used\n"
    ".It Ev TERM\n"
    "with the value dumb, no colour is used\n"
    ".It Ev XDG_STATE_HOME , HOME\n"
    "where the history is kept\n"
    ".It Ev WATT_STORE , XDG_DATA_HOME , HOME\n"
    "where fetched models are kept\n"
    ".It Ev WATT_HUB , HF_ENDPOINT\n"
    "the hub that models come from\n"
    ".It Ev HF_TOKEN\n"
    "a token for repositories that ask for one\n"
    ".El\n"
    ".Sh FILES\n"
    ".Bl -tag -width Ds\n"
    ".It Pa ~/.local/state/watt/history\n"
    "what was typed in chats, readable by its owner only\n"
    ".It Pa ~/.local/share/watt/models\n"
    "fetched models\n"
    ".It Pa ~/.editrc\n"
    "key bindings of the line editor, see\n"
    ".Xr editrc 5\n"
    ".El\n"
    ".Sh EXIT STATUS\n"
    ".Bl -tag -width Ds -compact\n"
    ".It 0\n"
    "done\n"
    ".It 1\n"
    "failed; one line on standard error names the file, the field and the value\n"
    ".It 2\n"
    "wrong usage\n"
    ".It 130\n"
    "interrupted by Ctrl-C\n"
    ".El\n";

void cli_man(void)
{
    (void)fputs(head, stdout);
    for (const struct cli_verb *const *v = cli_verbs; *v; v++)
        verb(*v);
    (void)fputs(tail, stdout);
    examples();
}
