/* charset.c: sets of characters for classes of regular expressions and grammars. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/grammar/regex.h"

void charset_deinit(struct charset *s)
{
    mem_free(s->ranges);
    memset(s, 0, sizeof *s);
}

void charset_add(struct charset *s, uint32_t lo, uint32_t hi)
{
    if (lo > hi)
        return;
    if (s->n == s->cap) {
        const uint32_t cap = s->cap ? s->cap * 2 : 16;
        void *p = mem_grow(s->ranges, cap, sizeof *s->ranges);

        if (!p) {
            s->failed = true;
            return;
        }
        s->ranges = p;
        s->cap = cap;
    }
    s->ranges[s->n][0] = lo;
    s->ranges[s->n++][1] = hi;
}

void charset_merge(struct charset *s, const struct charset *other)
{
    for (uint32_t i = 0; i < other->n; i++)
        charset_add(s, other->ranges[i][0], other->ranges[i][1]);
    s->failed |= other->failed;
}

static int by_low(const void *x, const void *y)
{
    const uint32_t *a = x, *b = y;

    return (a[0] > b[0]) - (a[0] < b[0]);
}

void charset_normalise(struct charset *s)
{
    uint32_t n = 0;

    if (s->n == 0)
        return;
    qsort(s->ranges, s->n, sizeof *s->ranges, by_low);
    for (uint32_t i = 1; i < s->n; i++) {
        if (s->ranges[i][0] <= s->ranges[n][1] + 1) {
            if (s->ranges[i][1] > s->ranges[n][1])
                s->ranges[n][1] = s->ranges[i][1];
        } else {
            n++;
            s->ranges[n][0] = s->ranges[i][0];
            s->ranges[n][1] = s->ranges[i][1];
        }
    }
    s->n = n + 1;
}

void charset_invert(struct charset *s)
{
    struct charset r = { 0 };
    uint32_t at = 0;

    charset_add(s, 0xD800, 0xDFFF);
    charset_normalise(s);
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->ranges[i][0] > at)
            charset_add(&r, at, s->ranges[i][0] - 1);
        at = s->ranges[i][1] + 1;
    }
    if (at <= FA_MAX_CHAR)
        charset_add(&r, at, FA_MAX_CHAR);
    r.failed |= s->failed;
    charset_deinit(s);
    *s = r;
}
