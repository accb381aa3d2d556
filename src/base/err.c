/* err.c: messages of failures; see err.h. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void scrub(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = '?';
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return code;
    va_start(ap, fmt);
    (void)vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    scrub(e->msg);
    e->code = code;
    return code;
}

int err_errno(struct err *e, int code, int errnum, const char *fmt, ...)
{
    char what[ERR_MSG_MAX], why[128];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    /* POSIX strerror_r: strerror itself is not thread-safe */
    if (strerror_r(errnum, why, sizeof why) != 0)
        (void)snprintf(why, sizeof why, "error %d", errnum);
    return err_set(e, code, "%s: %s", what, why);
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    char context[ERR_MSG_MAX], old[ERR_MSG_MAX];
    va_list ap;

    if (!e)
        return WATT_EINVAL;
    va_start(ap, fmt);
    (void)vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    memcpy(old, e->msg, sizeof old);
    return err_set(e, e->code, "%s: %s", context, old);
}

const char *err_name(int code)
{
    switch (code) {
    case WATT_OK:      return "no error";
    case WATT_EINVAL:  return "invalid argument";
    case WATT_ENOMEM:  return "out of memory";
    case WATT_EIO:     return "input/output error";
    case WATT_EFORMAT: return "malformed data";
    case WATT_ELIMIT:  return "limit exceeded";
    case WATT_ENOTSUP: return "not supported";
    case WATT_ENOENT:  return "not found";
    case WATT_ECANCEL: return "cancelled";
    case WATT_EBUSY:   return "busy";
    case WATT_ETIME:   return "time limit exceeded";
    default:           return "unknown error";
    }
}

void check_failed(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "watt: internal error at %s:%d: %s\n", file, line, what);
    abort();
}
