/* sampler_stages.c: the stages that narrow or reshape the distribution. Each
 * takes the candidates, whose keys are their logits, and leaves at least one.
 * Sums are kept in double. */
#include <math.h>
#include <string.h>

#include "models/sampler_internal.h"

#define HUGE_LOGIT  1e30f
#define FIRST_GUESS 128     /* candidates ordered at first where a cut is unknown */
#define MANY        4096    /* more are cut by mass without an order */

static float max_logit(const struct cands *c)
{
    return c->n_sorted > 0 ? c->v[0].logit : c->v[cands_best(c)].logit;
}

/* The sum of exp(logit - max). */
static double exp_sum(const struct cands *c, float max)
{
    double sum = 0;

    for (size_t i = 0; i < c->n; i++)
        sum += (double)expf(c->v[i].logit - max);
    return sum;
}

/* p log p. A token so unlikely that its probability is 0 adds 0, not NaN. */
static double p_log_p(double log_p)
{
    const double p = exp(log_p);

    return p > 0 ? p * log_p : 0;
}

static void truncate_to(struct cands *c, size_t n)
{
    c->n = n;
    if (c->n_sorted > n)
        c->n_sorted = n;
    c->whole = false;
}

static size_t keep_at_least(const struct sampler *s)
{
    const size_t keep = s->o.min_keep > 1 ? s->o.min_keep : 1;

    return keep < s->c.n ? keep : s->c.n;
}

/* Makes sure that candidate i is in its place in the order. */
static void order_up_to(struct cands *c, size_t i)
{
    if (i >= c->n_sorted)
        cands_sort_top(c, i < FIRST_GUESS ? FIRST_GUESS : i * 4);
}

/* ---- penalties ---- */

static void penalise(const struct sampler *s, struct sampler_token *t, uint32_t count)
{
    float v = t->logit;

    if (v == -INFINITY)
        return;
    /* dividing a negative logit would make it likelier */
    v = v > 0 ? v / s->o.repeat_penalty : v * s->o.repeat_penalty;
    v -= (float)count * s->o.frequency_penalty + s->o.presence_penalty;
    t->logit = t->p = logit_finite(v);
}

void stage_penalties(struct sampler *s)
{
    struct cands *c = &s->c;
    const size_t n = s->h.n < s->penalty_window ? s->h.n : s->penalty_window;

    if (n == 0 || (s->o.repeat_penalty == 1.0f && s->o.frequency_penalty == 0.0f
                   && s->o.presence_penalty == 0.0f))
        return;
    c->n_sorted = 0;
    if (!c->whole || n > c->n / 4) {
        for (size_t i = 0; i < c->n; i++)
            if (s->counts[c->v[i].id] > 0)
                penalise(s, &c->v[i], s->counts[c->v[i].id]);
        return;
    }
    /* few tokens of a whole vocabulary: each id of the window once, at its newest */
    for (size_t i = 0; i < n; i++) {
        const uint32_t id = history_at(&s->h, i);

        if (s->counts[id] > 0) {
            penalise(s, &c->v[id], s->counts[id]);
            s->counts[id] = 0;      /* done; counted again below */
        }
    }
    for (size_t i = 0; i < n; i++)
        s->counts[history_at(&s->h, i)]++;
}

/* ---- cuts ---- */

void stage_top_k(struct sampler *s)
{
    if (s->o.top_k == 0 || s->o.top_k >= s->c.n)
        return;
    cands_sort_top(&s->c, s->o.top_k);
    truncate_to(&s->c, s->o.top_k);
}

void stage_top_p(struct sampler *s)
{
    struct cands *c = &s->c;
    const size_t keep = keep_at_least(s);
    double sum, so_far = 0;
    float max;

    if (s->o.top_p >= 1.0f || c->n == 1)
        return;
    max = max_logit(c);
    if (c->n > MANY && c->n_sorted == 0 && keep == 1 && cands_keep_mass(c, max, (double)s->o.top_p))
        return;
    sum = exp_sum(c, max);
    for (size_t i = 0; i < c->n; i++) {
        order_up_to(c, i);
        so_far += (double)expf(c->v[i].logit - max);
        if (so_far >= (double)s->o.top_p * sum && i + 1 >= keep) {
            truncate_to(c, i + 1);
            return;
        }
    }
}

void stage_min_p(struct sampler *s)
{
    struct cands *c = &s->c;
    const size_t keep = keep_at_least(s);
    float least;
    size_t n = 0, sorted = c->n_sorted;

    if (s->o.min_p <= 0.0f || c->n == 1)
        return;
    least = max_logit(c) + logf(s->o.min_p);
    if (keep > 1) {
        cands_sort_top(c, keep);    /* the best ones stay whatever their probability */
        sorted = c->n_sorted;
    }
    for (size_t i = 0; i < c->n; i++)
        if (c->v[i].logit >= least || (keep > 1 && i < keep))
            c->v[n++] = c->v[i];
    /* a cut by logit keeps an order that was there */
    c->n_sorted = sorted < n ? sorted : n;
    if (n < c->n)
        truncate_to(c, n);
}

/* Keeps the tokens whose surprise is nearest to the entropy. */
void stage_typical_p(struct sampler *s)
{
    struct cands *c = &s->c;
    const size_t keep = keep_at_least(s);
    double log_sum, entropy = 0, so_far = 0;
    size_t n = c->n;
    float max;

    if (s->o.typical_p >= 1.0f || c->n == 1)
        return;
    max = max_logit(c);
    log_sum = log(exp_sum(c, max));
    for (size_t i = 0; i < c->n; i++)
        entropy -= p_log_p((double)(c->v[i].logit - max) - log_sum);
    for (size_t i = 0; i < c->n; i++) {
        const double log_p = (double)(c->v[i].logit - max) - log_sum;

        c->v[i].p = -(float)fabs(-log_p - entropy);
    }
    c->n_sorted = 0;
    c->whole = false;
    for (size_t i = 0; i < c->n; i++) {
        order_up_to(c, i);
        so_far += exp((double)(c->v[i].logit - max) - log_sum);
        if (so_far > (double)s->o.typical_p && i + 1 >= keep) {
            n = i + 1;
            break;
        }
    }
    truncate_to(c, n);
    c->n_sorted = 0;
    for (size_t i = 0; i < c->n; i++)
        c->v[i].p = c->v[i].logit;
}

/* Sometimes removes all tokens at or above the threshold but the least likely
 * of them. */
void stage_xtc(struct sampler *s)
{
    struct cands *c = &s->c;
    size_t above = 0;
    double sum;
    float max;

    if (s->o.xtc_probability <= 0.0f || s->o.xtc_threshold > 0.5f || c->n < 2)
        return;
    if (rng_double(&s->rng) >= (double)s->o.xtc_probability)
        return;
    max = max_logit(c);
    sum = exp_sum(c, max);
    for (; above < c->n; above++) {
        order_up_to(c, above);
        if ((double)expf(c->v[above].logit - max) < (double)s->o.xtc_threshold * sum)
            break;
    }
    if (above < 2 || c->n - (above - 1) < keep_at_least(s))
        return;
    memmove(c->v, c->v + above - 1, (c->n - (above - 1)) * sizeof *c->v);
    c->n_sorted -= above - 1;
    truncate_to(c, c->n - (above - 1));
}

/* ---- temperature ---- */

static void keep_best(struct cands *c)
{
    c->v[0] = c->v[cands_best(c)];
    truncate_to(c, 1);
}

static float dynamic_temp(const struct sampler *s)
{
    const struct cands *c = &s->c;
    const float low = fmaxf(0.0f, s->o.temp - s->o.dynatemp_range);
    const float high = s->o.temp + s->o.dynatemp_range;
    const float max = max_logit(c);
    const double log_sum = log(exp_sum(c, max));
    double entropy = 0;

    for (size_t i = 0; i < c->n; i++)
        entropy -= p_log_p((double)(c->v[i].logit - max) - log_sum);
    entropy /= log((double)c->n);       /* 1: all equally likely */
    if (entropy < 0)
        entropy = 0;
    return low + (high - low) * (float)pow(entropy, (double)s->o.dynatemp_exponent);
}

void stage_temperature(struct sampler *s)
{
    struct cands *c = &s->c;
    float temp = s->o.temp, shift = 0;

    if (c->n == 1)
        return;
    if (s->o.dynatemp_range > 0.0f)
        temp = dynamic_temp(s);
    if (!(temp > 0.0f)) {
        keep_best(c);
        return;
    }
    if (temp == 1.0f)
        return;
    /* relative to the best where the quotient would overflow */
    if (fabsf(max_logit(c)) > HUGE_LOGIT * temp)
        shift = max_logit(c);
    for (size_t i = 0; i < c->n; i++)
        c->v[i].logit = c->v[i].p = (c->v[i].logit - shift) / temp;
    c->impossible = true;       /* the worst may have gone under */
}

/* Cuts what would surprise by more than mu bits; the draw then corrects mu. */
void stage_mirostat(struct sampler *s)
{
    struct cands *c = &s->c;
    const float max = max_logit(c);
    const double log_sum = log(exp_sum(c, max));
    size_t n = 0;

    for (; n < c->n; n++) {
        double bits;

        order_up_to(c, n);
        bits = (log_sum - (double)(c->v[n].logit - max)) / M_LN2;
        if (bits > (double)s->mu && n > 0)
            break;
    }
    truncate_to(c, n);
}
