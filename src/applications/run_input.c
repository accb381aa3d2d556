/* run_input.c: reading messages; see run_input.h. Line editing is libedit's. */
#include "applications/run_input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "applications/cli.h"
#include "base/mem.h"
#ifdef WATT_LIBEDIT
#include <histedit.h>
#endif

#define HISTORY_LINES 1000
#define CONTINUED     "... "

struct run_input {
    const char        *history_path;
    const char *const *words;
    const char        *prompt;
    bool               terminal;
#ifdef WATT_LIBEDIT
    EditLine          *el;
    History           *history;
    HistEvent          event;
#endif
    char              *line;        /* getline's, without a terminal */
    size_t             line_cap;
};

#ifdef WATT_LIBEDIT

static struct run_input *of_el(EditLine *el)
{
    void *in = NULL;

    (void)el_get(el, EL_CLIENTDATA, &in);
    return in;
}

static char *prompt_of(EditLine *el)
{
    return (char *)(uintptr_t)of_el(el)->prompt;
}

/* One character. libedit's own reader would go on after Ctrl-C; this one ends the
 * line with an error, which run_input_read tells from the end of input. */
static int read_char(EditLine *el, wchar_t *out)
{
    mbstate_t state;
    unsigned char byte;

    (void)el;
    memset(&state, 0, sizeof state);
    for (;;) {
        size_t took;
        ssize_t n;

        if (!cli_wait_for_input(STDIN_FILENO))
            return -1;
        n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return (int)n;
        took = mbrtowc(out, (const char *)&byte, 1, &state);
        if (took == (size_t)-2)
            continue;               /* the character goes on */
        if (took == (size_t)-1) {
            *out = L'?';            /* not in this locale's encoding */
            return 1;
        }
        return 1;
    }
}

/* Tab: completes the first word of the line when only one word fits. */
static unsigned char complete(EditLine *el, int ch)
{
    const struct run_input *in = of_el(el);
    const LineInfo *li = el_line(el);
    const size_t len = (size_t)(li->cursor - li->buffer);
    const char *found = NULL;

    (void)ch;
    for (const char *const *w = in->words; w && *w; w++) {
        if (strncmp(*w, li->buffer, len) != 0)
            continue;
        if (found)
            return CC_REFRESH_BEEP;
        found = *w;
    }
    if (!found || len == 0 || el_insertstr(el, found + len) != 0 || el_insertstr(el, " ") != 0)
        return CC_REFRESH_BEEP;
    return CC_REFRESH;
}

static void open_editor(struct run_input *in)
{
    in->el = el_init("watt", stdin, stdout, stderr);
    in->history = history_init();
    if (!in->el || !in->history) {
        if (in->el)
            el_end(in->el);
        if (in->history)
            history_end(in->history);
        in->el = NULL;
        in->history = NULL;
        return;
    }
    (void)el_set(in->el, EL_CLIENTDATA, in);
    (void)el_set(in->el, EL_PROMPT, prompt_of);
    (void)el_set(in->el, EL_EDITOR, "emacs");
    (void)el_set(in->el, EL_SIGNAL, 0);
    (void)el_set(in->el, EL_GETCFN, read_char);
    (void)el_set(in->el, EL_ADDFN, "watt-complete", "completes commands", complete);
    (void)el_set(in->el, EL_BIND, "\t", "watt-complete", NULL);
    (void)history(in->history, &in->event, H_SETSIZE, HISTORY_LINES);
    (void)history(in->history, &in->event, H_SETUNIQUE, 1);
    (void)el_set(in->el, EL_HIST, history, in->history);
    if (in->history_path)
        (void)history(in->history, &in->event, H_LOAD, in->history_path);
    (void)el_source(in->el, NULL);      /* ~/.editrc */
}

static void close_editor(struct run_input *in)
{
    if (in->history) {
        if (in->history_path) {
            const mode_t old = umask(077);      /* what one asks is nobody else's business */

            (void)history(in->history, &in->event, H_SAVE, in->history_path);
            (void)umask(old);
        }
        history_end(in->history);
    }
    if (in->el)
        el_end(in->el);
}

static const char *edit_line(struct run_input *in, int *len)
{
    const char *line = el_gets(in->el, len);

    if (!line && cli_interrupted())
        (void)fputc('\n', stdout);
    if (line && *len > 1)
        (void)history(in->history, &in->event, H_ENTER, line);
    return line;
}

#endif

int run_input_open(struct run_input **out, const char *history_path, const char *const *words,
                   struct err *e)
{
    struct run_input *in = mem_calloc(1, sizeof *in);

    if (!in)
        return err_set(e, WATT_ENOMEM, "input: out of memory");
    in->history_path = history_path;
    in->words = words;
    in->terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
#ifdef WATT_LIBEDIT
    if (in->terminal)
        open_editor(in);
#endif
    *out = in;
    return 0;
}

void run_input_close(struct run_input *in)
{
    if (!in)
        return;
#ifdef WATT_LIBEDIT
    close_editor(in);
#endif
    mem_free(in->line);
    mem_free(in);
}

/* One line with its newline; NULL: end, Ctrl-C or an error. */
static const char *read_line(struct run_input *in, const char *prompt, size_t *len)
{
    ssize_t n;

    in->prompt = prompt;
#ifdef WATT_LIBEDIT
    if (in->el) {
        int count = 0;
        const char *line = edit_line(in, &count);

        *len = line ? (size_t)count : 0;
        return line && count > 0 ? line : NULL;
    }
#endif
    if (in->terminal) {
        (void)fputs(prompt, stdout);
        (void)fflush(stdout);
        if (!cli_wait_for_input(STDIN_FILENO)) {
            (void)fputc('\n', stdout);
            return NULL;
        }
    }
    n = getline(&in->line, &in->line_cap, stdin);
    if (n < 0) {
        clearerr(stdin);
        return NULL;
    }
    *len = (size_t)n;
    return in->line;
}

static bool ends_with_quotes(const char *s, size_t n)
{
    return n >= 3 && memcmp(s + n - 3, "\"\"\"", 3) == 0;
}

enum run_input_result run_input_read(struct run_input *in, const char *prompt, struct str *out)
{
    bool quoted = false;

    str_reset(out);
    for (bool first = true; ; first = false) {
        size_t n = 0;
        const char *line = read_line(in, first ? prompt : CONTINUED, &n);
        bool goes_on = quoted;

        if (!line)
            return cli_interrupted() ? RUN_INPUT_INTERRUPTED
                   : out->len > 0 ? RUN_INPUT_MESSAGE : RUN_INPUT_END;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        if (first && n >= 3 && memcmp(line, "\"\"\"", 3) == 0) {
            quoted = goes_on = true;
            line += 3;
            n -= 3;
        }
        if (quoted && ends_with_quotes(line, n)) {
            goes_on = false;
            n -= 3;
        } else if (!quoted && n > 0 && line[n - 1] == '\\') {
            goes_on = true;
            n--;
        }
        if (out->len + n > RUN_INPUT_MAX_BYTES)
            return RUN_INPUT_FAILED;
        str_append(out, line, n);
        if (!goes_on)
            return str_ok(out) ? RUN_INPUT_MESSAGE : RUN_INPUT_FAILED;
        /* an opening line of quotes alone adds no empty line */
        if (!(first && quoted && n == 0))
            str_putc(out, '\n');
    }
}
