/* train_expert.c: gradients of products by expert: slots sorted by expert as in forward, then per
 * expert what train_products.c does for one matrix. */
#include <math.h>
#include <string.h>

#include "chips/cpu/train_internal.h"

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* A counting sort by one worker: order holds slots by expert, token their rows. */
void train_sort(struct train *t, const struct train_phase *ph)
{
    const struct train_item *it = &t->items[ph->first];
    const struct train_place ids = train_value(t, it->in->src[1]);
    const uint32_t tokens = train_value_rows(t, it->in->src[1]);
    const uint32_t k = train_width(t, it->in->src[1]);
    struct sorted *s = &t->sorted;
    uint32_t at = 0;

    if (team_next(t->team) != 0)
        return;
    s->n_experts = t->weight[it->in->w[0]].param->mats;
    memset(s->start, 0, (s->n_experts + 1u) * sizeof *s->start);
    for (uint32_t r = 0; r < tokens; r++)
        for (uint32_t j = 0; j < k; j++)
            s->start[((const int32_t *)(const void *)train_row(ids, r))[j]]++;
    for (uint32_t x = 0; x <= s->n_experts; x++) {      /* counts to starts */
        const uint32_t n = x < s->n_experts ? s->start[x] : 0;

        s->start[x] = at;
        at += n;
    }
    for (uint32_t r = 0; r < tokens; r++)
        for (uint32_t j = 0; j < k; j++) {
            const uint32_t to = s->start[((const int32_t *)(const void *)train_row(ids, r))[j]]++;

            s->order[to] = r * k + j;
            s->token[to] = r;
        }
    for (uint32_t x = s->n_experts; x > 0; x--)         /* each start ran to its end */
        s->start[x] = s->start[x - 1];
    s->start[0] = 0;
}

/* ---- load balance ---- */

/* The loss of one router and, in place of the counts, what back_route() multiplies: coefficient
 * times experts times the share of slots, over the number of rows. */
static void balance_of(const struct train *t, struct train_route *r)
{
    const struct route_args *a = &r->in->a.route;
    const uint32_t rows = train_value_rows(t, r->in->src[0]), n = a->n_experts;
    const struct train_place logits = train_value(t, r->in->src[0]), ids = train_value(t, r->in->dst[0]);
    double *f = t->balance + r->first, *p = f + n, weight = 0, loss = 0;

    memset(f, 0, 2 * (size_t)n * sizeof *f);
    for (uint32_t i = 0; i < t->batch.n_out; i++)
        weight += t->b->weight ? (double)t->b->weight[t->out_row[i]] : 1.0;
    for (uint32_t row = 0; row < rows; row++) {
        const float *x = train_row(logits, row);
        const int32_t *id = (const int32_t *)(const void *)train_row(ids, row);
        double top = x[0], sum = 0;

        for (uint32_t e = 1; e < n; e++)
            top = x[e] > top ? x[e] : top;
        for (uint32_t e = 0; e < n; e++)
            sum += exp(x[e] - top);
        for (uint32_t e = 0; e < n; e++)
            p[e] += exp(x[e] - top) / sum;
        for (uint32_t k = 0; k < a->n_used; k++)
            f[id[k]] += 1;
    }
    for (uint32_t e = 0; e < n; e++) {
        f[e] *= (double)t->o.balance * n / ((double)rows * a->n_used * rows);
        loss += f[e] * p[e];
        f[e] *= t->backward ? (double)t->scale * weight : 0;
    }
    r->loss = loss;
}

void train_balance(struct train *t)
{
    for (size_t i; (i = team_next(t->team)) < t->n_routes;)
        balance_of(t, &t->routes[i]);
}

/* Where the slots' gradients go: straight to the operand, or to work space when slots share it. */
static struct train_place slot_place(const struct train *t, const struct train_item *it)
{
    return it->extra == UINT32_MAX ? it->dst[0] : train_extra(t, it);
}

static void operand_task(const struct train *t, const struct train_item *it, uint32_t expert,
                         uint32_t task, uint32_t rows, void *scratch)
{
    const struct packed *w = &t->weight[it->in->w[0]].turned;
    const struct matmul_cut cut = matmul_cut(w, rows);
    const uint32_t cuts = ceil_div(w->n_panels, cut.panels);
    const uint32_t row = task / cuts * cut.rows, panel = task % cuts * cut.panels;
    const uint32_t *order = t->sorted.order + t->sorted.start[expert] + row;
    const struct train_place to = slot_place(t, it);
    struct matmul_args m = { .out = to.p, .out_stride = to.stride, .w = w, .mat = expert,
                             .first = panel,
                             .last = panel + cut.panels < w->n_panels ? panel + cut.panels
                                                                      : w->n_panels,
                             .act_index = order, .out_index = order,
                             .n_rows = rows - row < cut.rows ? rows - row : cut.rows,
                             .scratch = scratch };

    m.act = train_prepared(t, it, &m.act_stride);
    t->x->k.matmul[w->dtype](&m);
}

static void matrix_task(const struct train *t, const struct train_item *it, uint32_t expert,
                        uint32_t task, uint32_t rows, void *scratch)
{
    const struct train_param *pa = t->weight[it->matrix].param;
    const struct sorted *s = &t->sorted;
    const bool by_token = prog_value(t->own, it->in->src[0])->per == 1;
    const uint32_t cuts = ceil_div(pa->cols, OUTER_MAX_IN), at = s->start[expert];
    const uint32_t o = task / cuts * OUTER_MAX_OUT, i = task % cuts * OUTER_MAX_IN;
    const struct train_place x = train_value(t, it->in->src[0]);
    const struct outer_args a = {
        .g = pa->g + ((uint64_t)expert * pa->rows + o) * pa->cols + i, .g_stride = pa->cols,
        .dy = it->dy.p + o, .dy_stride = it->dy.stride, .x = x.p + i, .x_stride = x.stride,
        .dy_index = s->order + at, .x_index = (by_token ? s->token : s->order) + at,
        .n_rows = rows, .n_out = pa->rows - o < OUTER_MAX_OUT ? pa->rows - o : OUTER_MAX_OUT,
        .n_in = pa->cols - i < OUTER_MAX_IN ? pa->cols - i : OUTER_MAX_IN, .scratch = scratch };

    (t->o.compute == DTYPE_BF16 ? t->k.outer_bf16 : t->k.outer)(&a);
}

static size_t operand_tasks(const struct train *t, const struct train_item *it, uint32_t rows)
{
    const struct packed *w = &t->weight[it->in->w[0]].turned;
    struct matmul_cut cut;

    if (!it->dst[0].p || rows == 0)
        return 0;
    cut = matmul_cut(w, rows);
    return (size_t)ceil_div(w->n_panels, cut.panels) * ceil_div(rows, cut.rows);
}

static size_t matrix_tasks(const struct train *t, const struct train_item *it, uint32_t rows)
{
    const struct train_param *pa = t->weight[it->in->w[0]].param;

    if (!it->matrix || rows == 0)
        return 0;
    return (size_t)ceil_div(pa->rows, OUTER_MAX_OUT) * ceil_div(pa->cols, OUTER_MAX_IN);
}

void train_experts(struct train *t, const struct train_phase *ph, void *scratch)
{
    const struct train_item *it = &t->items[ph->first];
    size_t base = 0, task = team_next(t->team);

    for (uint32_t x = 0; x < t->sorted.n_experts; x++) {
        const uint32_t rows = t->sorted.start[x + 1] - t->sorted.start[x];
        const size_t n_operand = operand_tasks(t, it, rows);
        const size_t n = n_operand + matrix_tasks(t, it, rows);

        for (; task - base < n; task = team_next(t->team)) {
            if (task - base < n_operand)
                operand_task(t, it, x, (uint32_t)(task - base), rows, scratch);
            else
                matrix_task(t, it, x, (uint32_t)(task - base - n_operand), rows, scratch);
        }
        base += n;
    }
}
