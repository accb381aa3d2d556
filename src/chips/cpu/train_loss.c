/* train_loss.c: softmax cross-entropy of the logits of each row, and its gradient. */
#include <math.h>
#include <string.h>

#include "chips/cpu/train_internal.h"

static double exact_loss(const float *x, uint32_t n, uint32_t target)
{
    double top = x[0], sum = 0;

    for (uint32_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (uint32_t i = 0; i < n; i++)
        sum += exp(x[i] - top);
    return log(sum) - (x[target] - top);
}

/* The target has the largest logit; of equal ones the first counts. */
static bool is_right(const struct train *t, const float *x, uint32_t n, uint32_t target)
{
    if (t->k.largest(x, n) > x[target])
        return false;
    for (uint32_t i = 0; i < target; i++)
        if (x[i] == x[target])
            return false;
    return true;
}

static float weight_of(const struct train *t, uint32_t row)
{
    return t->b->weight ? t->b->weight[row] : 1.0f;
}

void train_loss_row(struct train *t, const struct train_item *it, uint32_t row)
{
    const uint32_t n = train_width(t, prog_result(t->own)), from = t->out_row[row];
    const float *x = train_row(train_value(t, prog_result(t->own)), row);
    const uint32_t target = (uint32_t)t->b->target[from];
    const float w = weight_of(t, from);
    float *g = train_row(it->dy, row);

    t->row_right[row] = is_right(t, x, n, target);
    /* where the probability has few bits left, or none, the logits say it; g may lie on x */
    if (x[target] < t->k.largest(x, n) - 40.0f || isnan(x[target])) {
        t->row_loss[row] = exact_loss(x, n, target);
        t->x->k.softmax(g, x, n);
    } else {
        t->x->k.softmax(g, x, n);
        t->row_loss[row] = -log((double)g[target]);
    }
    if (!t->backward)
        return;
    g[target] -= 1.0f;
    t->x->k.affine(g, g, w * t->scale, 0.0f, n);
}

void train_loss_sum(const struct train *t, struct train_loss *out)
{
    *out = (struct train_loss){ 0 };
    for (uint32_t r = 0; r < t->batch.n_out; r++) {
        const float w = weight_of(t, t->out_row[r]);

        out->sum += (double)w * t->row_loss[r];
        out->weight += (double)w;
        out->n_right += t->row_right[r];
    }
    out->n_targets = t->batch.n_out;
    for (uint32_t i = 0; i < t->n_routes; i++)
        out->balance += t->routes[i].loss;
}
