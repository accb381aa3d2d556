/* energy_cost.c: planes through the cost model; see energy_cost.h. */
#include "applications/energy_cost.h"

#include "chips/program.h"

#define SOME_ROWS 32u
#define SOME_PAST 512u

static double above0(double v)
{
    return v > 0 ? v : 0;
}

static struct energy_plane plane(double v11, double vn1, double v1p, double vnp)
{
    const double n = SOME_ROWS - 1, p = SOME_PAST;
    struct energy_plane x = { .rows = above0((vn1 - v11) / n) };

    x.one = above0(v11 - x.rows);
    x.both = above0((vnp - vn1 - v1p + v11) / (n * p));
    x.past = above0((v1p - v11) / p - x.both);
    return x;
}

void energy_cost_init(struct energy_cost *c, const struct model *m,
                      const struct meter_coefficients *k)
{
    const struct program *p = model_program(m);
    struct prog_cost at[4];

    prog_cost(p, 1, 1, 0, 1, &at[0], NULL);
    prog_cost(p, SOME_ROWS, 1, 0, 1, &at[1], NULL);
    prog_cost(p, 1, 1, SOME_PAST, 1, &at[2], NULL);
    prog_cost(p, SOME_ROWS, 1, SOME_PAST, 1, &at[3], NULL);
    *c = (struct energy_cost){
        .ops = plane(at[0].ops, at[1].ops, at[2].ops, at[3].ops),
        .bytes = plane(at[0].kv_bytes + at[0].act_bytes, at[1].kv_bytes + at[1].act_bytes,
                       at[2].kv_bytes + at[2].act_bytes, at[3].kv_bytes + at[3].act_bytes),
        .weight_bytes = at[0].weight_bytes,
        .more_weight_bytes = above0((at[1].weight_bytes - at[0].weight_bytes) / (SOME_ROWS - 1)),
        .pj_op = k ? k->pj_per_op : ENERGY_COST_PJ_OP,
        .pj_byte = k ? k->pj_per_byte : ENERGY_COST_PJ_BYTE,
    };
    prog_cost(p, 4096, 1, 0, 1, &at[1], NULL);
    c->max_weight_bytes = at[1].weight_bytes;
}

double energy_cost_weights(const struct energy_cost *c, uint32_t n_rows)
{
    const double bytes = c->weight_bytes + c->more_weight_bytes * (n_rows > 0 ? n_rows - 1 : 0);

    return bytes < c->max_weight_bytes ? bytes : c->max_weight_bytes;
}

static double at(const struct energy_plane *x, double n, double p)
{
    return x->one + x->rows * n + x->past * p + x->both * n * p;
}

void energy_cost_share(const struct energy_cost *c, uint32_t n, uint32_t n_past, uint32_t total,
                       double weight_bytes, double *ops, double *bytes)
{
    *ops = *bytes = 0;
    if (n == 0)
        return;
    *ops = at(&c->ops, n, n_past);
    *bytes = at(&c->bytes, n, n_past) + weight_bytes * n / (total ? total : n);
}
