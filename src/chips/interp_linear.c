/* interp_linear.c: reference of matrix products, plain and by expert, and routing. */
#include <math.h>

#include "chips/interp_internal.h"
#include "chips/route.h"

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

void ref_expert_spread(struct interp *x, const struct instr *in)
{
    const uint32_t k = width_of(x, in->src[1]), width = width_of(x, in->dst[0]);

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const float weight = row_of(x, in->src[1], r / k)[r % k];

        for (uint32_t c = 0; c < width; c++)
            row_of(x, in->dst[0], r)[c] = weight * row_of(x, in->src[0], r / k)[c];
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

void ref_route(struct interp *x, const struct instr *in)
{
    for (uint32_t r = 0; r < rows_in(x, in->src[0]); r++)
        route_row(&in->a.route, row_of(x, in->src[0], r), vector_of(x, in->w[0]),
                  ids_of(x, in->dst[0], r), row_of(x, in->dst[1], r), x->scratch);
}
