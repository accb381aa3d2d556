/* cli_term.c: the command's dealings with the terminal: messages, colour,
 * Ctrl-C, and standard output that may be full or closed. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "applications/cli_internal.h"

#define PATIENCE 3      /* signals until one ends the process whatever it does */

/* Set by a handler, read by any thread: lock-free atomics may be used in both. */
static atomic_int interrupted, terminated;
static int wake[2] = { -1, -1 };
static bool no_color;

static void say(const struct cli *c, const char *kind, const char *fmt, va_list ap)
{
    char text[ERR_MSG_MAX * 2];

    (void)vsnprintf(text, sizeof text, fmt, ap);
    (void)fflush(stdout);       /* what was written so far comes first */
    if (c && c->verb)
        (void)fprintf(stderr, "watt %s: %s%s\n", c->verb->name, kind, text);
    else
        (void)fprintf(stderr, "watt: %s%s\n", kind, text);
}

int cli_failf(const struct cli *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(c, "", fmt, ap);
    va_end(ap);
    return CLI_FAILURE;
}

int cli_fail(const struct cli *c, const struct err *e)
{
    if (e->code == WATT_ECANCEL && cli_interrupted())
        return CLI_INTERRUPTED;     /* whoever pressed Ctrl-C knows why it stopped */
    return cli_failf(c, "%s", e->msg);
}

int cli_usage(const struct cli *c, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c && c->verb)
        (void)cli_failf(c, "%s (see watt %s --help)", text, c->verb->name);
    else
        (void)cli_failf(c, "%s (see watt --help)", text);
    return CLI_USAGE;
}

void cli_note(const struct cli *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(c, "note: ", fmt, ap);
    va_end(ap);
}

bool cli_color(FILE *f)
{
    const char *off = getenv("NO_COLOR"), *term = getenv("TERM");

    return !no_color && !(off && *off) && term && strcmp(term, "dumb") != 0 && isatty(fileno(f));
}

void cli_no_color(void)
{
    no_color = true;
}

static void on_signal(int number)
{
    const int saved = errno;

    if (interrupted >= PATIENCE - 1) {
        (void)signal(number, SIG_DFL);
        (void)raise(number);
    }
    interrupted++;
    terminated |= number == SIGTERM;
    /* wakes a poll() that began before the flag was set, on whichever thread */
    if (wake[1] >= 0 && write(wake[1], "", 1) < 0)
        errno = saved;      /* full: it is awake already */
    errno = saved;
}

void cli_catch_interrupt(void)
{
    struct sigaction action;

    if (wake[0] < 0 && pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0)
        wake[0] = wake[1] = -1;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;   /* a half-written line is no failed write */
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void) { return interrupted != 0; }
bool cli_terminated(void)  { return terminated != 0; }

void cli_clear_interrupt(void)
{
    char drop[16];

    interrupted = 0;
    while (wake[0] >= 0 && read(wake[0], drop, sizeof drop) > 0)
        continue;
}

bool cli_wait_for_input(int fd)
{
    struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = wake[0], .events = POLLIN } };

    while (!interrupted && poll(p, 2, -1) < 0)
        if (errno != EINTR)
            return false;
    return !interrupted;
}


int cli_flush(const struct cli *c)
{
    static bool told;

    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_OK;
    if (!told)
        (void)cli_failf(c, "standard output: %s", errno ? strerror(errno) : "write failed");
    told = true;
    return CLI_FAILURE;
}
