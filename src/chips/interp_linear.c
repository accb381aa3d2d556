/* interp_linear.c: reference of matrix products, plain and by expert, and routing. */
#include <math.h>

#include "chips/interp_internal.h"

void ref_linear(struct interp *x, const struct instr *in)
{
    const uint32_t n_out = width_of(x, in->dst[0]), n_in = width_of(x, in->src[0]);
    const uint32_t rows = rows_in(x, in->dst[0]);
    const float *bias = vector_of(x, in->w[1]), *scale = vector_of(x, in->w[2]);
    const bool per_out = vector_len(x, in->w[2]) > 1;
    const double factor = in->a.linear.scale != 0 ? in->a.linear.scale : 1;

    for (uint32_t o = 0; rows > 0 && o < n_out; o++) {
        const float *w = interp_weight_row(x, in->w[0], o);

        for (uint32_t r = 0; r < rows; r++) {
            double y = dot(w, row_of(x, in->src[0], r), n_in) * factor;

            if (scale)
                y *= scale[per_out ? o : 0];
            row_of(x, in->dst[0], r)[o] = (float)(bias ? y + bias[o] : y);
        }
    }
}

/* One row of one expert's matrix for every slot that chose the expert. */
static void expert_row(struct interp *x, const struct instr *in, uint32_t expert, uint32_t o)
{
    const uint32_t n_out = width_of(x, in->dst[0]), n_in = width_of(x, in->src[0]);
    const uint32_t k = width_of(x, in->src[1]), tokens = rows_in(x, in->src[1]);
    const uint32_t per = prog_value(x->p, in->src[0])->per;
    const float *bias = vector_of(x, in->w[1]), *scale = vector_of(x, in->w[2]);
    const float *w = NULL;

    for (uint32_t t = 0; t < tokens; t++) {
        const int32_t *ids = ids_of(x, in->src[1], t);

        for (uint32_t i = 0; i < k; i++) {
            double y;

            if (ids[i] != (int32_t)expert)
                continue;
            if (!w)
                w = interp_weight_row(x, in->w[0], (uint64_t)expert * n_out + o);
            y = dot(w, row_of(x, in->src[0], per == 1 ? t : t * k + i), n_in);
            if (scale)
                y *= scale[vector_len(x, in->w[2]) > 1 ? expert : 0];
            if (bias)
                y += bias[(size_t)expert * n_out + o];
            row_of(x, in->dst[0], t * k + i)[o] = (float)y;
        }
    }
}

void ref_expert_linear(struct interp *x, const struct instr *in)
{
    const uint32_t n_experts = (uint32_t)prog_weight_at(x->p, in->w[0])->t.shape[0];
    const uint32_t k = width_of(x, in->src[1]), tokens = rows_in(x, in->src[1]);

    for (uint32_t expert = 0; expert < n_experts; expert++) {
        bool used = false;

        for (uint32_t t = 0; t < tokens && !used; t++)
            for (uint32_t i = 0; i < k; i++)
                used |= ids_of(x, in->src[1], t)[i] == (int32_t)expert;
        for (uint32_t o = 0; used && o < width_of(x, in->dst[0]); o++)
            expert_row(x, in, expert, o);
    }
}

void ref_expert_sum(struct interp *x, const struct instr *in)
{
    const uint32_t k = prog_value(x->p, in->src[0])->per, width = width_of(x, in->dst[0]);

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const float *weight = row_of(x, in->src[1], r);

        for (uint32_t c = 0; c < width; c++) {
            double sum = 0;

            for (uint32_t i = 0; i < k; i++)
                sum += (double)weight[i] * row_of(x, in->src[0], r * k + i)[c];
            row_of(x, in->dst[0], r)[c] = (float)sum;
        }
    }
}

/* ---- routing ---- */

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
        max = fmax(max, logits[i]);
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
            max = fmax(max, weight[i]);
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

void ref_route(struct interp *x, const struct instr *in)
{
    const struct route_args *a = &in->a.route;
    const uint32_t n = a->n_experts;
    const struct route_work w = { x->scratch, x->scratch + n, x->scratch + 2 * n,
                                  x->scratch + 3 * n, x->scratch + 4 * n };
    const float *bias = vector_of(x, in->w[0]);

    for (uint32_t r = 0; r < rows_in(x, in->src[0]); r++) {
        int32_t *ids = ids_of(x, in->dst[0], r);
        float *weight = row_of(x, in->dst[1], r);

        route_scores(a, row_of(x, in->src[0], r), w.score);
        for (uint32_t i = 0; i < n; i++) {
            w.select[i] = w.score[i] + (bias ? bias[i] : 0);
            w.taken[i] = 0;
        }
        if (a->n_groups > 1)
            drop_groups(a, &w);
        for (uint32_t i = 0; i < a->n_used; i++) {
            ids[i] = (int32_t)take_best(w.select, w.taken, n);
            weight[i] = (float)w.score[ids[i]];
        }
        finish_weights(a, weight);
    }
}
