/* denoiser.c: see denoiser.h. */
#include "models/denoiser.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"

struct guess {
    double   sure;
    int32_t  id;
    uint32_t at;                /* in the block */
    const float *row;
};

struct denoiser {
    struct diffusion_opts o;
    uint32_t  n_vocab;
    int32_t   mask;
    struct rng rng;
    struct guess *guesses;      /* [block] */
};

/* ---- open and close ---- */

size_t denoiser_bytes(uint32_t n_block)
{
    return sizeof(struct denoiser) + n_block * sizeof(struct guess);
}

int denoiser_open(struct denoiser **out, const struct diffusion_opts *o, uint32_t n_vocab,
                  int32_t mask, struct err *e)
{
    struct denoiser *d = mem_calloc(1, sizeof *d);

    if (d)
        d->guesses = mem_array(o->block, sizeof *d->guesses);
    if (!d || !d->guesses) {
        denoiser_close(d);
        return err_set(e, WATT_ENOMEM, "diffusion: a block of %u tokens", o->block);
    }
    d->o = *o;
    d->n_vocab = n_vocab;
    d->mask = mask;
    denoiser_reset(d, o->seed);
    *out = d;
    return 0;
}

void denoiser_close(struct denoiser *d)
{
    if (!d)
        return;
    mem_free(d->guesses);
    mem_free(d);
}

void denoiser_reset(struct denoiser *d, uint64_t seed)
{
    rng_init(&d->rng, seed);
}

/* ---- one mask ---- */

/* The two largest logits but the mask's, and the sum of exp(logit - top) over all tokens. */
struct top { uint32_t id; double first, second, sum; };

static struct top top_of(const struct denoiser *d, const float *logits)
{
    struct top t = { .first = -INFINITY, .second = -INFINITY };
    double all = -INFINITY;

    for (uint32_t i = 0; i < d->n_vocab; i++) {
        const double v = logits[i];

        all = v > all ? v : all;
        if (i == (uint32_t)d->mask || !(v > t.second))
            continue;
        if (v > t.first) {
            t.second = t.first;
            t.first = v;
            t.id = i;
        } else {
            t.second = v;
        }
    }
    for (uint32_t i = 0; i < d->n_vocab; i++)
        t.sum += exp((double)logits[i] - all);
    t.sum *= exp(all - t.first);
    return t;
}

static double entropy_of(const struct denoiser *d, const float *logits, const struct top *t)
{
    double h = 0;

    for (uint32_t i = 0; i < d->n_vocab; i++) {
        const double p = exp((double)logits[i] - t->first) / t->sum;

        if (p > 0)
            h -= p * log(p);
    }
    return h;
}

/* The token for a mask, and how sure the model is of it. */
static int guess(struct denoiser *d, const struct denoise_step *s, uint32_t at, const float *logits,
                 struct guess *g, struct err *e)
{
    const struct top t = top_of(d, logits);
    uint32_t id = t.id;

    if (!(t.sum >= 1) || !isfinite(t.sum))
        return err_set(e, WATT_EFORMAT, "diffusion: logits of position %u are no numbers",
                       s->first_at + at);
    if (s->sampler) {
        const int rc = sampler_sample(s->sampler, logits, s->early && at < s->n_early
                                      ? s->early : s->allowed, &id, e);

        if (rc < 0)
            return rc;
    }
    *g = (struct guess){ .id = (int32_t)id, .at = at, .row = logits };
    switch (d->o.algorithm) {
    case DIFFUSION_CONFIDENCE: g->sure = exp((double)logits[id] - t.first) / t.sum; break;
    case DIFFUSION_ENTROPY:    g->sure = -entropy_of(d, logits, &t); break;
    case DIFFUSION_MARGIN:     g->sure = (1 - exp(t.second - t.first)) / t.sum; break;
    case DIFFUSION_RANDOM:     g->sure = rng_double(&d->rng); break;
    }
    return 0;
}

/* ---- the block ---- */

/* Moves the surest guess behind the first n to place n; earlier positions win ties. */
static void next_surest(struct guess *g, uint32_t n, uint32_t total)
{
    uint32_t best = n;
    struct guess swap;

    for (uint32_t i = n + 1; i < total; i++)
        if (g[i].sure > g[best].sure || (g[i].sure == g[best].sure && g[i].at < g[best].at))
            best = i;
    swap = g[n];
    g[n] = g[best];
    g[best] = swap;
}

/* Steps of a block share its tokens evenly, the first ones taking what is left over. */
static uint32_t scheduled(const struct denoiser *d, const struct denoise_step *s)
{
    const uint32_t steps = d->o.steps < s->n_block ? d->o.steps : s->n_block;

    return s->n_block / steps + (s->step < s->n_block % steps);
}

/* A threshold is of the probability, whatever orders the tokens. */
static bool sure_enough(const struct denoiser *d, const struct guess *g)
{
    double p = g->sure;

    if (d->o.algorithm != DIFFUSION_CONFIDENCE)
        p = exp((double)sampler_logprob(g->row, d->n_vocab, (uint32_t)g->id));
    return p >= (double)d->o.threshold;
}

/* A guess for every mask; returns how many there are. */
static int guess_all(struct denoiser *d, const struct denoise_step *s, struct err *e)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_block; i++) {
        const float *row = s->rows + (size_t)(s->packed ? n : i) * d->n_vocab;
        int rc;

        if (s->block[i] != d->mask)
            continue;
        rc = guess(d, s, i, row, &d->guesses[n++], e);
        if (rc < 0)
            return rc;
    }
    return (int)n;
}

int denoiser_step(struct denoiser *d, const struct denoise_step *s, uint32_t *n_fixed,
                  struct err *e)
{
    const uint32_t wanted = scheduled(d, s);
    const int rc = guess_all(d, s, e);
    const uint32_t total = rc < 0 ? 0 : (uint32_t)rc;
    uint32_t n = 0;

    if (rc < 0)
        return rc;
    while (n < total) {
        next_surest(d->guesses, n, total);
        if (d->o.threshold > 0 ? n > 0 && !sure_enough(d, &d->guesses[n]) : n >= wanted)
            break;
        s->block[d->guesses[n].at] = d->guesses[n].id;
        n++;
    }
    if (n_fixed)
        *n_fixed = n;
    return (int)(total - n);
}
