/* route.c: choice of experts; see route.h. */
#include "chips/route.h"

#include <math.h>

/* Scratch of a route: score, selection score, and 1.0 where taken, by expert; a score and
 * 1.0 where taken by group. */
struct route_work { double *score, *select, *taken, *group, *group_taken; };

/* The best of n that isn't taken, ties by lower index, NaN last. Some must be left. */
static uint32_t take_best(const double *v, double *taken, uint32_t n)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < n; i++)
        if (taken[i] == 0 && (best == UINT32_MAX || v[i] > v[best] ||
                              (isnan(v[best]) && !isnan(v[i]))))
            best = i;
    CHECK(best != UINT32_MAX);
    taken[best] = 1;
    return best;
}

static void route_scores(const struct route_args *a, const float *logits, double *score)
{
    double max = -INFINITY, sum = 0;

    for (uint32_t i = 0; i < a->n_experts; i++)
        max = logits[i] > max ? logits[i] : max;     /* fmax() here stops gcc 12 for ARM */
    for (uint32_t i = 0; i < a->n_experts; i++) {
        if (a->score == ROUTE_SIGMOID)
            score[i] = 1 / (1 + exp(-(double)logits[i]));
        else if (a->score == ROUTE_SOFTMAX)
            sum += score[i] = exp(logits[i] - max);
        else
            score[i] = logits[i];
    }
    for (uint32_t i = 0; a->score == ROUTE_SOFTMAX && i < a->n_experts; i++)
        score[i] /= sum;
}

/* Marks the experts of all but the best groups as taken. */
static void drop_groups(const struct route_args *a, const struct route_work *w)
{
    const uint32_t size = a->n_experts / a->n_groups;

    for (uint32_t g = 0; g < a->n_groups; g++) {
        w->group_taken[g] = 0;
        w->group[g] = 0;
        for (uint32_t i = 0; i < 2 && i < size; i++)
            w->group[g] += w->select[g * size + take_best(w->select + g * size,
                                                          w->taken + g * size, size)];
        for (uint32_t i = 0; i < size; i++)
            w->taken[g * size + i] = 1;
    }
    for (uint32_t i = 0; i < a->n_groups_used; i++) {
        const uint32_t g = take_best(w->group, w->group_taken, a->n_groups);

        for (uint32_t k = 0; k < size; k++)
            w->taken[g * size + k] = 0;
    }
}

static void finish_weights(const struct route_args *a, float *weight)
{
    double max = -INFINITY, sum = 0;

    if (a->score == ROUTE_SOFTMAX_SELECTED) {
        for (uint32_t i = 0; i < a->n_used; i++)
            max = weight[i] > max ? weight[i] : max;
        for (uint32_t i = 0; i < a->n_used; i++)
            sum += exp(weight[i] - max);
        for (uint32_t i = 0; i < a->n_used; i++)
            weight[i] = (float)(exp(weight[i] - max) / sum);
    }
    sum = 0;
    for (uint32_t i = 0; i < a->n_used; i++)
        sum += weight[i];
    sum = a->normalise ? fmax(sum, a->norm_floor) : 1;
    for (uint32_t i = 0; i < a->n_used; i++)
        weight[i] = (float)(weight[i] / sum * (a->scale != 0 ? a->scale : 1));
}

size_t route_scratch(const struct route_args *a)
{
    return 3 * (size_t)a->n_experts + 2 * (size_t)a->n_groups;
}

void route_row(const struct route_args *a, const float *logits, const float *bias,
               int32_t *ids, float *weights, double *scratch)
{
    const uint32_t n = a->n_experts;
    const struct route_work w = { scratch, scratch + n, scratch + 2 * n, scratch + 3 * n,
                                  scratch + 3 * n + a->n_groups };

    route_scores(a, logits, w.score);
    for (uint32_t i = 0; i < n; i++) {
        w.select[i] = w.score[i] + (bias ? bias[i] : 0);
        w.taken[i] = 0;
    }
    if (a->n_groups > 1)
        drop_groups(a, &w);
    for (uint32_t i = 0; i < a->n_used; i++) {
        ids[i] = (int32_t)(take_best(w.select, w.taken, n) / (a->n_sharing ? a->n_sharing : 1));
        weights[i] = (float)w.score[ids[i]];
    }
    finish_weights(a, weights);
}
