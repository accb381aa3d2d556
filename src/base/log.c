/* log.c: lines of the log; see log.h. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const char cut_mark[] = "[cut]";
static _Atomic(const struct log_sink *) installed;   /* release: the sink's fields */

/* The room kept at the end of a line: the mark, a quote, a brace, a newline. */
#define TAIL 16

struct line {
    char   text[LOG_LINE_MAX];
    size_t len;
    bool   cut;
};

void log_install(const struct log_sink *sink)
{
    atomic_store_explicit(&installed, sink, memory_order_release);
}

bool log_on(enum log_level level)
{
    const struct log_sink *sink = atomic_load_explicit(&installed, memory_order_acquire);

    return sink && level <= sink->level;
}

bool log_level_parse(const char *name, enum log_level *out)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof *level_names; i++)
        if (strcmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

void log_write_fd(void *ctx, const char *line, size_t n)
{
    const int fd = (int)(intptr_t)ctx;

    while (n > 0) {
        ssize_t k = write(fd, line, n);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return;      /* a log that can't be written must not stop the program */
        line += k;
        n -= (size_t)k;
    }
}

/* Bytes that still go before the tail; a closing quote may lie in the tail already. */
static size_t room(const struct line *l)
{
    return l->len < sizeof l->text - TAIL ? sizeof l->text - TAIL - l->len : 0;
}

/* Adds bytes, all or none, so that numbers and names are never halves. */
static void put(struct line *l, const char *bytes, size_t n)
{
    if (l->cut || n > room(l)) {
        l->cut = true;
        return;
    }
    memcpy(l->text + l->len, bytes, n);
    l->len += n;
}

static void putz(struct line *l, const char *z)
{
    put(l, z, strlen(z));
}

/* Text that may be hostile, as much as fits. */
static void put_text(struct line *l, const char *z)
{
    struct sv s = sv_cstr(z);
    size_t taken;

    if (l->cut)
        return;
    l->len += json_escape(l->text + l->len, room(l), s, &taken);
    if (taken < s.len)
        l->cut = true;
}

/* Civil date from days since 1970-01-01, proleptic Gregorian. Not gmtime_r: the
 * first call of that allocates. [Hinnant, "chrono-compatible low-level date
 * algorithms"] */
static void put_time(struct line *l, int64_t ns)
{
    int64_t ms = ns / 1000000, days, z, era, doe, yoe, doy, mp;
    unsigned in_day;
    char text[48];

    if (ns % 1000000 < 0)
        ms--;
    days = ms / 86400000;
    if (ms % 86400000 < 0)
        days--;
    in_day = (unsigned)(ms - days * 86400000);
    z = days + 719468;
    era = (z >= 0 ? z : z - 146096) / 146097;
    doe = z - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    (void)snprintf(text, sizeof text, "%04d-%02d-%02dT%02u:%02u:%02u.%03uZ",
                   (int)(yoe + era * 400 + (mp >= 10)), (int)(mp < 10 ? mp + 3 : mp - 9),
                   (int)(doy - (153 * mp + 2) / 5 + 1), in_day / 3600000, in_day / 60000 % 60,
                   in_day / 1000 % 60, in_day % 1000);
    putz(l, text);
}

static void put_value(struct line *l, const struct log_field *f)
{
    char text[48];

    switch (f->type) {
    case LOG_FIELD_U64: (void)snprintf(text, sizeof text, "%" PRIu64, f->as.u); break;
    case LOG_FIELD_I64: (void)snprintf(text, sizeof text, "%" PRId64, f->as.i); break;
    case LOG_FIELD_F64:
        if (isfinite(f->as.f))
            (void)snprintf(text, sizeof text, "%.10g", f->as.f);
        else
            (void)snprintf(text, sizeof text, "null");    /* JSON has no others */
        break;
    case LOG_FIELD_BOOL: (void)snprintf(text, sizeof text, "%s", f->as.b ? "true" : "false"); break;
    case LOG_FIELD_STR:
        if (f->as.s) {
            putz(l, "\"");
            put_text(l, f->as.s);
            /* the closing quote uses the room kept back, so a cut line stays JSON */
            l->text[l->len++] = '"';
            return;
        }
        (void)snprintf(text, sizeof text, "null");
        break;
    }
    putz(l, text);
}

static void start(struct line *l, const struct log_sink *sink, enum log_level level,
                  const char *area, const char *message)
{
    const bool json = sink->format == LOG_JSON;

    l->len = 0;
    l->cut = false;
    putz(l, json ? "{\"time\":\"" : "");
    put_time(l, clock_wall_ns());
    putz(l, json ? "\",\"level\":\"" : " ");
    putz(l, level_names[level]);
    if (json)
        putz(l, "\",\"area\":\"");
    else
        putz(l, strlen(level_names[level]) < 5 ? "  " : " ");
    putz(l, area);
    putz(l, json ? "\",\"message\":\"" : ": ");
    put_text(l, message);
    if (json)
        l->text[l->len++] = '"';
}

static void finish(struct line *l, const struct log_sink *sink)
{
    if (l->cut && sink->format == LOG_HUMAN) {
        memcpy(l->text + l->len, cut_mark, sizeof cut_mark - 1);
        l->len += sizeof cut_mark - 1;
    }
    if (sink->format == LOG_JSON)
        l->text[l->len++] = '}';
    l->text[l->len++] = '\n';
    sink->write(sink->ctx, l->text, l->len);
}

void log_fields(enum log_level level, const char *area, const char *message,
                const struct log_field *fields, size_t n)
{
    const struct log_sink *sink = atomic_load_explicit(&installed, memory_order_acquire);
    struct line l;

    if (!sink || level > sink->level)
        return;
    start(&l, sink, level, area, message);
    for (size_t i = 0; i < n && !l.cut; i++) {
        const size_t before = l.len;

        putz(&l, sink->format == LOG_JSON ? ",\"" : " ");
        putz(&l, fields[i].key);
        putz(&l, sink->format == LOG_JSON ? "\":" : "=");
        /* room for a value at all; else the whole field goes */
        if (!l.cut && room(&l) >= 48)
            put_value(&l, &fields[i]);
        else
            l.cut = true, l.len = before;
    }
    finish(&l, sink);
}

void log_printf(enum log_level level, const char *area, const char *fmt, ...)
{
    const struct log_sink *sink = atomic_load_explicit(&installed, memory_order_acquire);
    char message[LOG_LINE_MAX];
    struct line l;
    va_list ap;

    if (!sink || level > sink->level)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    start(&l, sink, level, area, message);
    finish(&l, sink);
}
