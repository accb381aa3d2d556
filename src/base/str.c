/* str.c: bounded growing strings and views; see str.h. */
#include "base/str.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void str_init(struct str *s, size_t max_bytes)
{
    *s = (struct str){ .max = max_bytes ? max_bytes : STR_MAX_DEFAULT };
}

void str_deinit(struct str *s)
{
    mem_free(s->data);
    s->data = NULL;
    s->len = s->cap = 0;
}

void str_reset(struct str *s)
{
    s->len = 0;
    s->failed = false;
    if (s->data)
        s->data[0] = '\0';
}

bool str_reserve(struct str *s, size_t n)
{
    size_t want, cap;
    char *data;

    if (s->failed || n > s->max || s->len > s->max - n)
        goto fail;
    want = s->len + n + 1;
    if (want <= s->cap)
        return true;
    cap = s->cap < 32 ? 64 : s->cap + s->cap / 2;
    if (cap < want)
        cap = want;
    data = mem_realloc(s->data, cap);
    if (!data)
        goto fail;
    s->data = data;
    s->cap = cap;
    s->data[s->len] = '\0';
    return true;
fail:
    s->failed = true;
    return false;
}

void str_append(struct str *s, const void *bytes, size_t n)
{
    if (n == 0 || !str_reserve(s, n))
        return;
    memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = '\0';
}

void str_puts(struct str *s, const char *z)
{
    str_append(s, z, strlen(z));
}

void str_putc(struct str *s, char c)
{
    str_append(s, &c, 1);
}

void str_printf(struct str *s, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n <= 0 || !str_reserve(s, (size_t)n)) {
        s->failed |= n < 0;
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(s->data + s->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    s->len += (size_t)n;
}

const char *str_cstr(const struct str *s)
{
    return s->data ? s->data : "";
}

char *str_take(struct str *s, size_t *len)
{
    char *data;

    if (s->failed || !str_reserve(s, 0))
        return NULL;
    s->data[s->len] = '\0';
    data = s->data;
    if (len)
        *len = s->len;
    s->data = NULL;
    s->len = s->cap = 0;
    return data;
}

struct sv sv_cstr(const char *z)
{
    return (struct sv){ z, strlen(z) };
}

bool sv_eq(struct sv a, struct sv b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool sv_eq_cstr(struct sv a, const char *z)
{
    return sv_eq(a, sv_cstr(z));
}

bool sv_starts(struct sv a, struct sv prefix)
{
    return a.len >= prefix.len && sv_eq((struct sv){ a.data, prefix.len }, prefix);
}

bool sv_ends(struct sv a, struct sv suffix)
{
    return a.len >= suffix.len &&
           sv_eq((struct sv){ a.data + (a.len - suffix.len), suffix.len }, suffix);
}
