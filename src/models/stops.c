/* stops.c: stop strings in a stream; see stops.h. */
#include "models/stops.h"

#include <string.h>

#include "base/mem.h"

int stops_init(struct stops *s, const char *const *strings, size_t n, struct err *e)
{
    *s = (struct stops){ .hit = -1 };
    str_init(&s->held, 0);
    if (n > STOPS_MAX)
        return err_set(e, WATT_EINVAL, "stop: %zu strings, at most %d", n, STOPS_MAX);
    for (size_t i = 0; i < n; i++) {
        const size_t len = strlen(strings[i]);

        if (len == 0 || len > STOPS_MAX_BYTES) {
            stops_deinit(s);
            return err_set(e, WATT_EINVAL, "stop: string %zu has %zu bytes, wanted 1 to %d", i, len,
                           STOPS_MAX_BYTES);
        }
        s->strings[i] = mem_strndup(strings[i], len);
        if (!s->strings[i]) {
            stops_deinit(s);
            return err_set(e, WATT_ENOMEM, "stop: out of memory");
        }
        s->len[i] = len;
        s->n = i + 1;
    }
    return 0;
}

void stops_deinit(struct stops *s)
{
    for (size_t i = 0; i < s->n; i++)
        mem_free(s->strings[i]);
    str_deinit(&s->held);
    *s = (struct stops){ .hit = -1 };
}

void stops_reset(struct stops *s)
{
    s->hit = -1;
    str_reset(&s->held);
}

/* The string that begins at text[0..n), the longest of several; -1: none. */
static int match_at(const struct stops *s, const char *text, size_t n)
{
    int best = -1;

    for (size_t i = 0; i < s->n; i++)
        if (s->len[i] <= n && memcmp(text, s->strings[i], s->len[i]) == 0
            && (best < 0 || s->len[i] > s->len[best]))
            best = (int)i;
    return best;
}

/* Could text[0..n) be the beginning of a longer string? */
static bool may_begin(const struct stops *s, const char *text, size_t n)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->len[i] > n && memcmp(text, s->strings[i], n) == 0)
            return true;
    return false;
}

bool stops_push(struct stops *s, const char *text, size_t n, struct str *out)
{
    size_t at = 0;

    if (s->n == 0) {
        str_append(out, text, n);
        return false;
    }
    str_append(&s->held, text, n);
    out->failed |= !str_ok(&s->held);
    for (; at < s->held.len; at++) {
        const char *rest = s->held.data + at;
        const size_t left = s->held.len - at;

        s->hit = match_at(s, rest, left);
        if (s->hit >= 0 || may_begin(s, rest, left))
            break;
    }
    if (at > 0) {
        str_append(out, s->held.data, at);
        memmove(s->held.data, s->held.data + at, s->held.len - at);
        s->held.len -= at;
        s->held.data[s->held.len] = '\0';
    }
    if (s->hit >= 0)
        str_reset(&s->held);
    return s->hit >= 0;
}

void stops_finish(struct stops *s, struct str *out)
{
    if (s->held.len > 0)
        str_append(out, s->held.data, s->held.len);
    str_reset(&s->held);
}
