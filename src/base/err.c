/* err.c: messages of failures; see err.h. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Makes one clean line of what may hold bytes from a hostile file: controls
 * (C0, DEL, C1) and invalid bytes become '?'. A message that filled its buffer
 * ends in "..." and not inside a character. */
static void clean(char *s, bool cut)
{
    size_t len = strlen(s), in = 0, out = 0;

    if (cut) {
        len = utf8_complete(s, len < 3 ? len : len - 3);
        memcpy(s + len, "...", 4);
        len += 3;
    }
    while (in < len) {
        uint32_t cp;
        bool valid;
        size_t n = utf8_decode(s + in, len - in, &cp, &valid);

        if (!valid || cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            s[out++] = '?';
        else
            for (size_t i = 0; i < n; i++)
                s[out++] = s[in + i];
        in += n;
    }
    s[out] = '\0';
}

static int put(struct err *e, int code, const char *text, int wanted)
{
    memcpy(e->msg, text, ERR_MSG_MAX);
    clean(e->msg, wanted >= ERR_MSG_MAX);
    e->code = code;
    return code;
}

int (err_set)(struct err *e, int code, const char *fmt, ...)
{
    char text[ERR_MSG_MAX] = "";   /* apart from e->msg, which may be an argument */
    va_list ap;
    int n;

    if (!e)
        return code;
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return put(e, code, text, n);
}

int (err_errno)(struct err *e, int code, int errnum, const char *fmt, ...)
{
    char what[ERR_MSG_MAX], why[128];
    const char *text;
    va_list ap;

    if (!e)
        return code;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    /* strerror itself is not thread-safe; this is GNU's strerror_r, which may
     * leave the buffer alone and return a constant */
    text = strerror_r(errnum, why, sizeof why);
    return err_set(e, code, "%s: %s", what, text);
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    char context[ERR_MSG_MAX];
    va_list ap;

    if (!e)
        return WATT_EINVAL;
    va_start(ap, fmt);
    (void)vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    return err_set(e, e->code, "%s: %s", context, e->msg);
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
