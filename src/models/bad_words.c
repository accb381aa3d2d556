/* bad_words.c: see bad_words.h. */
#include "models/bad_words.h"

#include <string.h>

#include "base/mem.h"

int bad_words_init(struct bad_words *w, const int32_t *ids, const uint32_t *ends, size_t n,
                   struct err *e)
{
    *w = (struct bad_words){ .n = n };
    if (n == 0)
        return 0;
    if (n > BAD_WORDS_MAX || ends[n - 1] > BAD_WORDS_MAX_TOKENS)
        return err_set(e, WATT_ELIMIT, "bad words: %zu of %u tokens, at most %u of %u", n, ends[n - 1],
                       BAD_WORDS_MAX, BAD_WORDS_MAX_TOKENS);
    for (size_t i = 0; i < n; i++) {
        const uint32_t from = i ? ends[i - 1] : 0;

        if (ends[i] <= from)
            return err_set(e, WATT_EINVAL, "bad words: number %zu has no tokens", i);
        if (ends[i] - from > w->longest)
            w->longest = ends[i] - from;
    }
    w->ids = mem_array(ends[n - 1], sizeof *w->ids);
    w->ends = mem_array(n, sizeof *w->ends);
    if (!w->ids || !w->ends) {
        bad_words_deinit(w);
        return err_set(e, WATT_ENOMEM, "bad words: %zu", n);
    }
    memcpy(w->ids, ids, ends[n - 1] * sizeof *w->ids);
    memcpy(w->ends, ends, n * sizeof *w->ends);
    return 0;
}

void bad_words_deinit(struct bad_words *w)
{
    mem_free(w->ids);
    mem_free(w->ends);
    *w = (struct bad_words){ 0 };
}

int bad_words_text_init(struct bad_words_text *t, const struct bad_words *w, struct err *e)
{
    *t = (struct bad_words_text){ .w = w };
    if (w->longest < 2)
        return 0;
    t->last = mem_array(w->longest - 1, sizeof *t->last);
    return t->last ? 0 : err_set(e, WATT_ENOMEM, "bad words: %u tokens", w->longest);
}

void bad_words_text_deinit(struct bad_words_text *t)
{
    mem_free(t->last);
    *t = (struct bad_words_text){ 0 };
}

void bad_words_push(struct bad_words_text *t, int32_t id)
{
    const uint32_t cap = t->last ? t->w->longest - 1 : 0;

    if (cap == 0)
        return;
    if (t->n == cap)
        memmove(t->last, t->last + 1, (size_t)--t->n * sizeof *t->last);
    t->last[t->n++] = id;
}

/* The token that sequence i forbids now; -1: none. */
static int32_t forbidden(const struct bad_words_text *t, size_t i)
{
    const uint32_t from = i ? t->w->ends[i - 1] : 0, n = t->w->ends[i] - from - 1;
    const int32_t *ids = t->w->ids + from;

    if (n > t->n || (n > 0 && memcmp(ids, t->last + t->n - n, n * sizeof *ids) != 0))
        return -1;
    return ids[n];
}

bool bad_words_any(const struct bad_words_text *t)
{
    for (size_t i = 0; t->w && i < t->w->n; i++)
        if (forbidden(t, i) >= 0)
            return true;
    return false;
}

void bad_words_forbid(const struct bad_words_text *t, uint64_t *bits)
{
    for (size_t i = 0; t->w && i < t->w->n; i++) {
        const int32_t id = forbidden(t, i);

        if (id >= 0)
            bits[id / 64] &= ~(UINT64_C(1) << id % 64);
    }
}
