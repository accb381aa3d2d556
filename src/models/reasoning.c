/* reasoning.c: see reasoning.h. */
#include "models/reasoning.h"

#include <string.h>

static bool blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

void reasoning_begin(struct reasoning *r, const char *open, const char *close, struct sv prompt)
{
    const struct sv tag = sv_cstr(open);

    *r = (struct reasoning){ .open = open, .close = close, .state = REASONING_BEFORE };
    if (!*close || strlen(close) > REASONING_TAG_MAX || tag.len > REASONING_TAG_MAX) {
        r->state = REASONING_AFTER;
        return;
    }
    while (prompt.len && blank(prompt.data[prompt.len - 1]))
        prompt.len--;
    if (tag.len && sv_ends(prompt, tag))
        r->state = REASONING_INSIDE;
    else if (!tag.len)
        r->state = REASONING_AFTER;
}

static void remember(struct reasoning *r, size_t len)
{
    if (r->n_lens == REASONING_TAG_MAX) {
        memmove(r->lens, r->lens + 1, (REASONING_TAG_MAX - 1) * sizeof *r->lens);
        r->n_lens--;
    }
    r->lens[r->n_lens++] = (uint32_t)len;
}

/* Earlier tokens that lie in the tag were counted before it was one. The last token has `last` bytes
 * of the tag. */
static void uncount_tag(struct reasoning *r, size_t last)
{
    size_t left = strlen(r->close) - last;

    while (r->n_lens > 0 && r->n_tokens > 0 && r->lens[r->n_lens - 1] <= left) {
        left -= r->lens[--r->n_lens];
        r->n_tokens--;
    }
}

static void inside(struct reasoning *r, struct sv s, bool counts)
{
    const size_t n = strlen(r->close);

    r->n_behind = 0;
    r->stray = false;
    for (size_t i = 0; i < s.len; i++) {
        if (r->n_tail == n) {
            memmove(r->tail, r->tail + 1, n - 1);
            r->n_tail--;
        }
        r->tail[r->n_tail++] = s.data[i];
        if (r->n_tail == n && memcmp(r->tail, r->close, n) == 0) {
            r->state = REASONING_AFTER;
            r->n_behind = s.len - i - 1;
            for (size_t k = i + 1; k < s.len; k++)
                r->stray |= !blank(s.data[k]);
            uncount_tag(r, i + 1 < n ? i + 1 : n);
            return;
        }
    }
    r->n_tokens += counts;
    if (counts)
        remember(r, s.len);
}

void reasoning_push(struct reasoning *r, struct sv s)
{
    if (r->state == REASONING_INSIDE) {
        inside(r, s, true);
        return;
    }
    for (size_t i = 0; r->state == REASONING_BEFORE && i < s.len; i++) {
        if (r->n_matched == 0 && blank(s.data[i]))
            continue;
        if (s.data[i] != r->open[r->n_matched]) {
            r->state = REASONING_AFTER;
        } else if (r->open[++r->n_matched] == '\0') {
            r->state = REASONING_INSIDE;
            inside(r, (struct sv){ s.data + i + 1, s.len - i - 1 }, false);
            return;
        }
    }
}
