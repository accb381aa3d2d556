/* sampler_dry.c: DRY ("don't repeat yourself"): a token that would continue a
 * repetition of length L >= allowed loses multiplier * base^(L - allowed).
 *
 * L is the longest text ending right before an earlier occurrence of the token
 * that also ends the history now. It never reaches back over a sequence breaker.
 * All lengths come from one pass of the Z algorithm over the reversed history.
 * Breakers are looked for in the text, so it doesn't matter how the tokenizer
 * cut them. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "models/sampler_internal.h"

static size_t max_exponent(float base)
{
    const double log_flt_max = 88.7228391;

    return base > 1.000001f ? (size_t)(log_flt_max / log((double)base)) : SIZE_MAX;
}

static int copy_breakers(struct dry *d, const struct sampler_options *o, struct err *e)
{
    if (o->n_dry_breakers > SAMPLER_MAX_BREAKERS)
        return err_set(e, WATT_EINVAL, "sampler: %zu dry sequence breakers, at most %d",
                       o->n_dry_breakers, SAMPLER_MAX_BREAKERS);
    d->breakers = mem_calloc(o->n_dry_breakers, sizeof *d->breakers);
    d->breaker_len = mem_calloc(o->n_dry_breakers, 1);
    if (!d->breakers || !d->breaker_len)
        return err_set(e, WATT_ENOMEM, "sampler: dry");
    for (size_t i = 0; i < o->n_dry_breakers; i++) {
        const size_t len = strlen(o->dry_breakers[i]);

        if (len == 0 || len > SAMPLER_BREAKER_MAX)
            return err_set(e, WATT_EINVAL, "sampler: a dry sequence breaker of %zu bytes, wanted 1 to %d",
                           len, SAMPLER_BREAKER_MAX);
        memcpy(d->breakers[i], o->dry_breakers[i], len);
        d->breaker_len[i] = (uint8_t)len;
    }
    d->n_breakers = o->n_dry_breakers;
    return 0;
}

int dry_open(struct dry *d, const struct sampler_spec *spec, const struct sampler_options *o,
             struct err *e)
{
    *d = (struct dry){ .multiplier = o->dry_multiplier, .base = o->dry_base,
                       .allowed = o->dry_allowed_length, .max_exponent = max_exponent(o->dry_base) };
    dry_reset(d);
    if (o->dry_multiplier <= 0 || o->dry_last_n == 0)
        return 0;
    d->window = o->dry_last_n < 0 ? spec->n_ctx : (size_t)o->dry_last_n;
    d->match = mem_calloc(d->window, sizeof *d->match);
    d->longest = mem_calloc(spec->n_vocab, sizeof *d->longest);
    if (!d->match || !d->longest)
        return err_set(e, WATT_ENOMEM, "sampler: dry");
    return spec->piece ? copy_breakers(d, o, e) : 0;
}

void dry_close(struct dry *d)
{
    mem_free(d->breakers);
    mem_free(d->breaker_len);
    mem_free(d->match);
    mem_free(d->longest);
}

void dry_reset(struct dry *d)
{
    d->tail_len = 0;
    d->since_break = SIZE_MAX;
}

static void tail_push(struct dry *d, char byte)
{
    if (d->tail_len == sizeof d->tail)
        memmove(d->tail, d->tail + 1, --d->tail_len);
    d->tail[d->tail_len++] = byte;
}

/* Does a breaker end with the last byte? */
static bool breaker_ends(const struct dry *d)
{
    for (size_t i = 0; i < d->n_breakers; i++) {
        const size_t len = d->breaker_len[i];

        if (len <= d->tail_len && memcmp(d->tail + d->tail_len - len, d->breakers[i], len) == 0)
            return true;
    }
    return false;
}

void dry_accept(struct dry *d, struct sv piece)
{
    bool broke = false;

    for (size_t i = 0; i < piece.len; i++) {
        tail_push(d, piece.data[i]);
        broke |= breaker_ends(d);
    }
    if (broke)
        d->since_break = 0;
    else if (d->since_break != SIZE_MAX)
        d->since_break++;
}

/* match[i], 0 < i < n: how many tokens before and at history_at(i) equal the
 * last tokens: the Z function of the reversed history. */
static void find_repeats(uint32_t *match, const struct history *h, size_t n)
{
    size_t left = 0, right = 0;     /* [left, right): the match that reaches furthest back */

    match[0] = 0;
    for (size_t i = 1; i < n; i++) {
        size_t len = 0;

        if (i < right)
            len = match[i - left] < right - i ? match[i - left] : right - i;
        while (i + len < n && history_at(h, len) == history_at(h, i + len))
            len++;
        match[i] = (uint32_t)len;
        if (i + len > right) {
            left = i;
            right = i + len;
        }
    }
}

/* Takes the penalty of a repeat of d->longest - 1 tokens from a candidate. */
static void penalise(const struct dry *d, struct sampler_token *t)
{
    size_t exponent;

    if (d->longest[t->id] == 0 || t->logit == -INFINITY)
        return;
    exponent = d->longest[t->id] - 1 - d->allowed;
    if (exponent > d->max_exponent)
        exponent = d->max_exponent;
    t->logit = t->p = logit_finite(t->logit - d->multiplier * powf(d->base, (float)exponent));
}

void dry_apply(struct dry *d, const struct history *h, struct cands *c)
{
    const size_t n = h->n < d->window ? h->n : d->window;
    const size_t limit = d->since_break < n ? d->since_break : n;

    if (n <= d->allowed || limit < d->allowed)
        return;
    find_repeats(d->match, h, n);
    for (size_t i = 1; i < n; i++) {
        const size_t len = d->match[i] < limit ? d->match[i] : limit;
        const uint32_t next = history_at(h, i - 1);

        /* +1, so that 0 says "no repeat" even when a length of 0 is allowed */
        if (len >= d->allowed && len + 1 > d->longest[next])
            d->longest[next] = (uint32_t)len + 1;
    }
    c->n_sorted = 0;
    for (size_t i = 0; !c->whole && i < c->n; i++)
        penalise(d, &c->v[i]);
    for (size_t i = 1; i < n; i++) {
        const uint32_t next = history_at(h, i - 1);

        if (c->whole)
            penalise(d, &c->v[next]);
        d->longest[next] = 0;       /* clean for the next token, and penalised once */
    }
}
