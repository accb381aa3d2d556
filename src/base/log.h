/* log.h: one line for each event, for people or as JSON.
 *
 * Nothing is written until the program installs a sink: the library is silent.
 * A line is built on the stack (LOG_LINE_MAX bytes, cut there with a mark) and
 * handed to the sink whole; logging allocates nothing, so it is fine inside a
 * step, and any thread may log. Lines have the time in UTC, a level, the area
 * (a module's name), a message and named values:
 *
 *   2026-11-22T15:48:11.123Z info  kv: pages freed n=3 id="a b"
 *   {"time":"2026-11-22T15:48:11.123Z","level":"info","area":"kv",
 *    "message":"pages freed","n":3,"id":"a b"}                  (on one line)
 *
 * Values may be hostile: control characters never reach the line. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define LOG_LINE_MAX 2048

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_HUMAN, LOG_JSON };

struct log_sink {
    /* Gets a whole line with its newline, from any thread, several at once. */
    void          (*write)(void *ctx, const char *line, size_t n);
    void           *ctx;
    enum log_level  level;     /* this and what is worse is written */
    enum log_format format;
};

struct log_field {
    const char *key;           /* a name of ours: letters, digits, _ */
    enum { LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_F64, LOG_FIELD_STR, LOG_FIELD_BOOL } type;
    union { uint64_t u; int64_t i; double f; const char *s; bool b; } as;
};

/* Set once, before threads start; *sink must live as long as it is installed.
 * NULL takes it away. */
void log_install(const struct log_sink *sink);
/* A sink's write for a file descriptor in ctx ((void *)(intptr_t)fd): each line
 * is one write(2). */
void log_write_fd(void *ctx, const char *line, size_t n);
bool log_on(enum log_level level);       /* would it be written? */
/* "error", "warn", "info", "debug" into *out; false when it is none of them. */
bool log_level_parse(const char *name, enum log_level *out);

void log_printf(enum log_level level, const char *area, const char *fmt, ...) PRINTF_LIKE(3, 4);
void log_fields(enum log_level level, const char *area, const char *message,
                const struct log_field *fields, size_t n);
/* log_fields(LOG_INFO, "kv", "pages freed", LOG_FIELDS(log_u64("n", 3))) */
#define LOG_FIELDS(...)                                                            \
    (const struct log_field[]){ __VA_ARGS__ },                                     \
    sizeof((const struct log_field[]){ __VA_ARGS__ }) / sizeof(struct log_field)

static inline struct log_field log_u64(const char *key, uint64_t v)
{
    return (struct log_field){ .key = key, .type = LOG_FIELD_U64, .as.u = v };
}
static inline struct log_field log_i64(const char *key, int64_t v)
{
    return (struct log_field){ .key = key, .type = LOG_FIELD_I64, .as.i = v };
}
static inline struct log_field log_f64(const char *key, double v)
{
    return (struct log_field){ .key = key, .type = LOG_FIELD_F64, .as.f = v };
}
static inline struct log_field log_str(const char *key, const char *v)   /* NULL: null */
{
    return (struct log_field){ .key = key, .type = LOG_FIELD_STR, .as.s = v };
}
static inline struct log_field log_bool(const char *key, bool v)
{
    return (struct log_field){ .key = key, .type = LOG_FIELD_BOOL, .as.b = v };
}

#endif
