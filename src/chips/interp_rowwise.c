/* interp_rowwise.c: reference of norms, activations and element-wise operations. */
#include <math.h>
#include <string.h>

#include "chips/interp_internal.h"

static void norm_group(float *y, const float *x, uint32_t n, const struct norm_args *a)
{
    double mean = 0, sq = 0, scale;

    for (uint32_t i = 0; i < n && a->kind == NORM_LAYER; i++)
        mean += x[i];
    mean /= n;
    for (uint32_t i = 0; i < n; i++)
        sq += (x[i] - mean) * (x[i] - mean);
    if (a->kind == NORM_L2)
        scale = 1 / fmax(sqrt(sq), a->eps);
    else
        scale = 1 / sqrt(sq / n + a->eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * scale);
}

void ref_norm(struct interp *x, const struct instr *in)
{
    const uint32_t width = width_of(x, in->dst[0]);
    const uint32_t group = in->a.norm.group ? in->a.norm.group : width;
    const float *gain = vector_of(x, in->w[0]), *bias = vector_of(x, in->w[1]);
    const uint32_t n_gain = (uint32_t)vector_len(x, in->w[0]);
    const uint32_t n_bias = (uint32_t)vector_len(x, in->w[1]);

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        float *y = row_of(x, in->dst[0], r);

        for (uint32_t c = 0; c < width; c += group)
            norm_group(y + c, row_of(x, in->src[0], r) + c, group, &in->a.norm);
        for (uint32_t c = 0; c < width; c++) {
            if (gain)
                y[c] *= gain[c % n_gain];
            if (bias)
                y[c] += bias[c % n_bias];
        }
    }
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* The tanh form, argument and result rounded to half precision: what engines that look GELU up
 * in a table of halves compute, and golden logits were made by one. An exact GELU differs from
 * those by 5e-8 (normalised mean squared), far under what fast kernels are allowed, far over what
 * this interpreter is. */
static double gelu(double x)
{
    const double h = f16_to_f32(f32_to_f16((float)x));

    if (!(fabs(x) < 10))
        return x > 0 ? x : isnan(x) ? x : 0;
    return f16_to_f32(f32_to_f16((float)(
        0.5 * h * (1 + tanh(0.79788456080286535588 * (h + 0.044715 * h * h * h))))));
}

static double gelu_tanh(double x)
{
    return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static double xielu(double x, const struct xielu *k)
{
    return k->beta * x + (x > 0 ? k->p * x * x : k->n * (expm1(fmin(x, k->eps)) - x));
}

static double activate(double x, const struct act_args *a)
{
    switch (a->act) {
    case ACT_SILU:       return x * sigmoid(a->alpha > 0 ? a->alpha * x : x);
    case ACT_GELU:       return a->param != 0 ? gelu_tanh(x) : gelu(x);
    case ACT_GELU_ERF:   return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    case ACT_GELU_QUICK: return x * sigmoid(1.702 * x);
    case ACT_RELU:       return x > 0 ? x : 0;
    case ACT_RELU2:      return x > 0 ? x * x : 0;
    case ACT_SIGMOID:    return sigmoid(x);
    case ACT_TANH:       return tanh(x);
    case ACT_SOFTPLUS:   return x > 20 ? x : log1p(exp(x));
    case ACT_EXP:        return exp(x);
    case ACT_NEG_EXP:    return -exp(x);
    case ACT_SOFTCAP:    return a->param * tanh(x / a->param);
    case ACT_CLAMP:      return fmin(fmax(x, -a->param), a->param);
    case ACT_XIELU:      return xielu(x, &a->xielu);
    default:             return x;
    }
}

void ref_unary(struct interp *x, const struct instr *in)
{
    const struct act_args a = { .act = in->a.act.act, .param = in->a.act.param,
                                .xielu = in->a.act.xielu };

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++)
        for (uint32_t c = 0; c < width_of(x, in->dst[0]); c++)
            row_of(x, in->dst[0], r)[c] = (float)activate(row_of(x, in->src[0], r)[c], &a);
}

void ref_gated(struct interp *x, const struct instr *in)
{
    const struct act_args *a = &in->a.act;

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        for (uint32_t c = 0; c < width_of(x, in->dst[0]); c++) {
            double gate = row_of(x, in->src[0], r)[c], up = row_of(x, in->src[1], r)[c];

            if (a->limit > 0) {
                gate = fmin(gate, a->limit);
                up = fmax(fmin(up, a->limit), -a->limit);
            }
            row_of(x, in->dst[0], r)[c] = (float)(activate(gate, a) * (up + a->up_offset));
        }
    }
}

/* Column c of the second operand: a vector, a value of the same width, or one column. */
struct operand { const float *p; uint32_t last; };

static struct operand second(const struct interp *x, const struct instr *in, uint32_t r)
{
    if (in->w[0])
        return (struct operand){ vector_of(x, in->w[0]),
                                 (uint32_t)vector_len(x, in->w[0]) - 1 };
    return (struct operand){ row_of(x, in->src[1], r), width_of(x, in->src[1]) - 1 };
}

void ref_add(struct interp *x, const struct instr *in)
{
    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const struct operand y = second(x, in, r);

        for (uint32_t c = 0; c < width_of(x, in->dst[0]); c++)
            row_of(x, in->dst[0], r)[c] = row_of(x, in->src[0], r)[c] +
                                          y.p[c < y.last ? c : y.last];
    }
}

void ref_mul(struct interp *x, const struct instr *in)
{
    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const struct operand y = second(x, in, r);

        for (uint32_t c = 0; c < width_of(x, in->dst[0]); c++)
            row_of(x, in->dst[0], r)[c] = in->a.divide
                ? row_of(x, in->src[0], r)[c] / y.p[c < y.last ? c : y.last]
                : row_of(x, in->src[0], r)[c] * y.p[c < y.last ? c : y.last];
    }
}

void ref_affine(struct interp *x, const struct instr *in)
{
    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++)
        for (uint32_t c = 0; c < width_of(x, in->dst[0]); c++)
            row_of(x, in->dst[0], r)[c] = (float)(
                (double)in->a.affine.scale * row_of(x, in->src[0], r)[c] + in->a.affine.offset);
}

void ref_softmax(struct interp *x, const struct instr *in)
{
    const uint32_t width = width_of(x, in->dst[0]);
    const uint32_t group = in->a.group ? in->a.group : width;

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        for (uint32_t c = 0; c < width; c += group) {
            const float *s = row_of(x, in->src[0], r) + c;
            float *y = row_of(x, in->dst[0], r) + c;
            double max = -INFINITY, sum = 0;

            for (uint32_t i = 0; i < group; i++)
                max = s[i] > max ? s[i] : max;    /* fmax() here stops gcc 12 for ARM */
            for (uint32_t i = 0; i < group; i++)
                sum += exp(s[i] - max);
            for (uint32_t i = 0; i < group; i++)
                y[i] = (float)(exp(s[i] - max) / sum);
        }
    }
}

void ref_position_scale(struct interp *x, const struct instr *in)
{
    const struct position_scale_args *a = &in->a.pscale;

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const uint64_t pos = (uint64_t)batch_pos(x->b, r) + a->offset;
        const double scale = 1 + a->c * log(1 + (double)(pos / a->length));

        for (uint32_t c = 0; c < width_of(x, in->dst[0]); c++)
            row_of(x, in->dst[0], r)[c] = (float)(row_of(x, in->src[0], r)[c] * scale);
    }
}
