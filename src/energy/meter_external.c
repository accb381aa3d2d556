/* meter_external.c: meters outside the machine: the output of a command, or an answer over HTTP. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "energy/fetch.h"
#include "energy/meter_internal.h"

#define ANSWER_BYTES ((size_t)64 << 10)
#define TIMEOUT_MS   5000u

extern char **environ;

struct external {
    char         *command, *url, *pointer;      /* one of the first two */
    struct fetch *fetch;
    struct str    answer;
};

/* ---- what was answered ---- */

bool meter_unit(const char *unit, bool *power, double *factor)
{
    static const struct { const char *name; bool power; double factor; } units[] = {
        { "W", true, 1e6 }, { "mW", true, 1e3 }, { "uW", true, 1 }, { "kW", true, 1e9 },
        { "J", false, 1e6 }, { "mJ", false, 1e3 }, { "uJ", false, 1 }, { "kJ", false, 1e9 },
        { "Wh", false, 3.6e9 }, { "kWh", false, 3.6e12 },
    };

    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(units[i].name, unit) == 0) {
            *power = units[i].power;
            *factor = units[i].factor;
            return true;
        }
    return false;
}

/* A number, spaces around it, and a word behind it. */
static bool number_in(const char *s, size_t n, double *out)
{
    char text[64], *end;
    size_t from = 0;

    while (from < n && isspace((unsigned char)s[from]))
        from++;
    n -= from;
    n = n < sizeof text - 1 ? n : sizeof text - 1;
    memcpy(text, s + from, n);
    text[n] = '\0';
    if (!(isdigit((unsigned char)text[0]) || text[0] == '-' || text[0] == '+' || text[0] == '.') ||
        strncasecmp(text, "0x", 2) == 0)
        return false;
    *out = strtod(text, &end);
    while (*end && (isspace((unsigned char)*end) || isalpha((unsigned char)*end)))
        end++;
    return isfinite(*out) && *end == '\0';
}

/* One step of a JSON pointer (RFC 6901): ~1 is '/', ~0 is '~'. */
static const json_t *step(const json_t *at, const char *token, size_t n)
{
    char key[128];
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        char c = token[i];

        if (c == '~') {
            i++;
            if (i == n || (token[i] != '0' && token[i] != '1'))
                return NULL;
            c = token[i] == '1' ? '/' : '~';
        }
        if (len + 1 == sizeof key)
            return NULL;
        key[len++] = c;
    }
    key[len] = '\0';
    if (json_is_object(at))
        return json_object_get(at, key);
    if (!json_is_array(at) || len == 0 || len > 8 || strspn(key, "0123456789") != len)
        return NULL;
    return json_array_get(at, (size_t)strtoul(key, NULL, 10));
}

static int follow(const json_t *root, const char *pointer, double *out, struct err *e)
{
    const json_t *at = root;

    if (*pointer != '/')
        return err_set(e, WATT_EINVAL, "JSON pointer '%.80s' does not begin with '/'", pointer);
    for (const char *p = pointer; *p && at;) {
        const size_t n = strcspn(p + 1, "/");

        at = step(at, p + 1, n);
        p += 1 + n;
    }
    if (!at)
        return err_set(e, WATT_EFORMAT, "the answer has no %.80s", pointer);
    *out = json_is_number(at) ? json_number_value(at) : NAN;
    if (json_is_string(at) &&
        !number_in(json_string_value(at), json_string_length(at), out))
        *out = NAN;
    if (!isfinite(*out))
        return err_set(e, WATT_EFORMAT, "%.80s of the answer is no number", pointer);
    return 0;
}

int meter_answer(const char *bytes, size_t n, const char *pointer, double *out, struct err *e)
{
    const struct json_limits limits = { .max_bytes = ANSWER_BYTES, .max_depth = 32 };
    json_t *document;
    int rc;

    if (!pointer || !*pointer)
        return number_in(bytes, n, out) ? 0
             : err_set(e, WATT_EFORMAT, "'%.*s' is no number", (int)(n < 40 ? n : 40), bytes);
    rc = json_parse(&document, "answer", bytes, n, &limits, e);
    if (rc < 0)
        return rc;
    rc = follow(document, pointer, out, e);
    json_close(document);
    return rc;
}

/* ---- a command ---- */

static int spawn(const char *command, int out, pid_t *pid)
{
    char shell[] = "sh", flag[] = "-c", *const argv[] = { shell, flag, (char *)(uintptr_t)command,
                                                          NULL };
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none;
    int rc;

    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&attr);
    (void)sigemptyset(&none);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setpgroup(&attr, 0);      /* so that all it started can be ended */
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    (void)posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&files, out, 1);
    (void)posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_addclosefrom_np(&files, 3);
    rc = posix_spawn(pid, "/bin/sh", &files, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* Its output until it ends, fills the answer or takes too long. */
static int collect(int fd, struct str *answer, struct err *e)
{
    uint64_t left = TIMEOUT_MS;
    const uint64_t began = clock_mono_ns();
    char buf[4096];

    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        const int ready = poll(&p, 1, (int)left);
        ssize_t n;

        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return err_set(e, WATT_EIO, "the command takes over %u s", TIMEOUT_MS / 1000);
        n = read(fd, buf, sizeof buf);
        if (n <= 0)
            return 0;
        str_append(answer, buf, (size_t)n);
        if (!str_ok(answer))
            return err_set(e, WATT_ELIMIT, "the command wrote over %zu bytes", ANSWER_BYTES);
        left = (clock_mono_ns() - began) / 1000000;
        left = left < TIMEOUT_MS ? TIMEOUT_MS - left : 0;
    }
}

static int run_command(struct external *x, struct err *e)
{
    int fds[2], status = 0, rc;
    pid_t pid = 0;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(e, WATT_EIO, errno, "pipe");
    rc = spawn(x->command, fds[1], &pid);
    (void)close(fds[1]);
    if (rc != 0) {
        (void)close(fds[0]);
        return err_errno(e, WATT_EIO, rc, "/bin/sh");
    }
    rc = collect(fds[0], &x->answer, e);
    (void)close(fds[0]);
    if (rc < 0)
        (void)kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (rc == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        rc = err_set(e, WATT_EIO, "the command failed (status %d)",
                     WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return rc;
}

/* ---- the channel ---- */

static int external_read(struct channel *c, double *value, struct err *e)
{
    struct external *x = c->own;
    int rc;

    str_reset(&x->answer);
    rc = x->command ? run_command(x, e) : fetch_get(x->fetch, x->url, TIMEOUT_MS, &x->answer, e);
    if (rc == 0)
        rc = meter_answer(str_cstr(&x->answer), x->answer.len, x->pointer, value, e);
    *value *= c->unit;
    return rc;
}

static void external_close(struct channel *c)
{
    struct external *x = c->own;

    if (!x)
        return;
    fetch_close(x->fetch);
    str_deinit(&x->answer);
    mem_free(x->command);
    mem_free(x->url);
    mem_free(x->pointer);
    mem_free(x);
    c->own = NULL;
}

/* "cmd:COMMAND" or "URL#/pointer"; of a command "cmd:COMMAND #/pointer". */
static int split(struct external *x, const char *want, struct err *e)
{
    const bool command = strncmp(want, "cmd:", 4) == 0;
    const char *body = command ? want + 4 : want;
    const char *mark = strstr(body, command ? " #/" : "#/");
    const size_t n = mark ? (size_t)(mark - body) : strlen(body);
    char *text = mem_strndup(body, n);

    *(command ? &x->command : &x->url) = text;
    x->pointer = mem_strdup(mark ? strchr(mark, '#') + 1 : "");
    if (!text || !x->pointer)
        return err_set(e, WATT_ENOMEM, "meter");
    if (strspn(text, " ") == n)
        return err_set(e, WATT_EINVAL, "meter %.40s: no command", want);
    return command ? 0 : fetch_open(&x->fetch, e);
}

int meter_add_external(struct meter *m, struct err *e)
{
    const char *want = m->opts.want, *unit = m->opts.unit ? m->opts.unit : "W";
    const char *name = m->opts.name && *m->opts.name ? m->opts.name : "external";
    struct external *x;
    struct channel *c;
    bool power;
    double factor;
    int rc;

    if (strncmp(want, "cmd:", 4) != 0 && !fetch_is_url(want))
        return err_set(e, WATT_EINVAL, "meter '%.60s': expected auto, none, rapl, nvml, hwmon, "
                       "hwmon:CHIP, acpi, battery, estimate, cmd:COMMAND or an http URL", want);
    if (!meter_unit(unit, &power, &factor))
        return err_set(e, WATT_EINVAL, "meter: unit '%.20s': expected W, mW, kW, J, kJ, Wh or kWh",
                       unit);
    x = mem_calloc(1, sizeof *x);
    if (!x)
        return err_set(e, WATT_ENOMEM, "meter");
    str_init(&x->answer, ANSWER_BYTES);
    c = meter_add(m, "external", "wall", name);
    c->own = x;
    c->close = external_close;
    c->read = external_read;
    rc = split(x, want, e);
    if (rc < 0)
        return rc;
    (void)snprintf(c->path, sizeof c->path, "%.255s", x->command ? x->command : "");
    c->slow = true;
    c->power = power;
    c->unit = factor;
    c->max_w = 1e6;                     /* a rack's */
    c->slack_s = 60;                    /* kilowatt-hours come in steps */
    c->counted = true;
    (void)snprintf(m->source, sizeof m->source, "%s", c->name);
    return 0;
}

int meter_coefficients_parse(const char *text, struct meter_coefficients *out, struct err *e)
{
    static const char *const names[] = { "idle", "op", "byte" };
    double values[3] = { 0 };
    bool seen[3] = { false };

    for (const char *p = text; *p;) {
        char *end = NULL;
        size_t i = 0;

        while (i < 3 && !(strncmp(p, names[i], strlen(names[i])) == 0 && p[strlen(names[i])] == '='))
            i++;
        if (i < 3)
            values[i] = strtod(p + strlen(names[i]) + 1, &end);
        if (i == 3 || seen[i] || end == p + strlen(names[i]) + 1 || (*end && *end != ',') ||
            !isfinite(values[i]) || values[i] < 0 || values[i] > 1e6)
            return err_set(e, WATT_EINVAL, "estimate '%.60s': expected idle=WATTS,op=PICOJOULES,"
                           "byte=PICOJOULES", text);
        seen[i] = true;
        p = *end ? end + 1 : end;
    }
    if (!seen[1] || !seen[2])
        return err_set(e, WATT_EINVAL, "estimate '%.60s': op and byte are needed, as in "
                       "idle=45,op=12,byte=60", text);
    *out = (struct meter_coefficients){ values[0], values[1], values[2] };
    return 0;
}
