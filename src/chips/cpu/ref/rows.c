/* rows.c (reference): kernels over rows of floats, scalar and in double. */
#include <math.h>

#include "base/rng.h"
#include "chips/cpu/kernels.h"

static double sum_squares(const float *x, size_t n)
{
    double s = 0;

    for (size_t i = 0; i < n; i++)
        s += (double)x[i] * x[i];
    return s;
}

static void rms_norm_ref(float *y, const float *x, const float *gain, size_t n, float eps)
{
    const double m = 1.0 / sqrt(sum_squares(x, n) / (double)n + eps);

    for (size_t i = 0; i < n; i++)
        y[i] = (float)(x[i] * m * (gain ? gain[i] : 1.0f));
}

static void l2_norm_ref(float *y, const float *x, size_t n, float eps)
{
    const double m = 1.0 / fmax(sqrt(sum_squares(x, n)), eps);

    for (size_t i = 0; i < n; i++)
        y[i] = (float)(x[i] * m);
}

static void layer_norm_ref(float *y, const float *x, const float *gain, const float *bias,
                           size_t n, float eps)
{
    double mean = 0, var = 0, m;

    for (size_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean);
    m = 1.0 / sqrt(var / (double)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((x[i] - mean) * m * (gain ? gain[i] : 1.0f) + (bias ? bias[i] : 0.0f));
}

static void softmax_ref(float *y, const float *x, size_t n)
{
    double top = -INFINITY, sum = 0;

    for (size_t i = 0; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - top);
    for (size_t i = 0; i < n; i++)
        y[i] = (float)(exp(x[i] - top) / sum);
}

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double act_one(double x, const struct act_args *a)
{
    switch (a->act) {
    case ACT_SILU:       return x * sigmoid(x);
    case ACT_GELU:
        return 0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case ACT_GELU_ERF:   return 0.5 * x * (1.0 + erf(x * 0.70710678118654752440));
    case ACT_GELU_QUICK: return x * sigmoid(1.702 * x);
    case ACT_RELU:       return x < 0 ? 0 : x;
    case ACT_RELU2:      return x < 0 ? 0 : x * x;
    case ACT_SIGMOID:    return sigmoid(x);
    case ACT_TANH:       return tanh(x);
    case ACT_SOFTPLUS:   return x > 20 ? x : log1p(exp(x));
    case ACT_EXP:        return exp(x);
    case ACT_NEG_EXP:    return -exp(x);
    case ACT_SOFTCAP:    return a->param * tanh(x / a->param);
    case ACT_CLAMP:      return x > a->param ? a->param : x < -a->param ? -a->param : x;
    case ACT_XIELU:
        return a->xielu.beta * x + (x > 0 ? a->xielu.p * x * x
                                          : a->xielu.n * (expm1(fmin(x, a->xielu.eps)) - x));
    case ACT_NONE:
    case ACT_COUNT:      break;
    }
    return x;
}

static void unary_ref(float *y, const float *x, size_t n, const struct act_args *a)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)act_one(x[i], a);
}

static void gated_ref(float *y, const float *gate, const float *up, size_t n,
                      const struct act_args *a)
{
    for (size_t i = 0; i < n; i++) {
        double g = gate[i], u = up[i];

        if (a->limit > 0.0f) {
            g = g > a->limit ? a->limit : g;
            u = u > a->limit ? a->limit : u < -a->limit ? -a->limit : u;
        }
        u += a->up_offset;
        y[i] = (float)(a->alpha > 0.0f ? g * sigmoid(a->alpha * g) * u : act_one(g, a) * u);
    }
}

static void add_ref(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void mul_ref(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

static void affine_ref(float *y, const float *x, float scale, float offset, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((double)x[i] * scale + offset);
}

static void axpy_ref(float *y, const float *x, float a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)((double)a * x[i] + y[i]);
}

static void rope_ref(float *x, const float *cos_sin, uint32_t n_heads, uint32_t head_dim,
                     uint32_t n_rot, enum rope_pairing pairing)
{
    for (uint32_t h = 0; h < n_heads; h++, x += head_dim)
        for (uint32_t i = 0; i < n_rot / 2; i++) {
            float *p = pairing == ROPE_NEOX ? x + i : x + 2 * i;
            float *r = pairing == ROPE_NEOX ? x + i + n_rot / 2 : x + 2 * i + 1;
            const double a = *p, b = *r, c = cos_sin[2 * i], s = cos_sin[2 * i + 1];

            *p = (float)(a * c - b * s);
            *r = (float)(a * s + b * c);
        }
}

static void drop_ref(float *y, const struct drop_row *r)
{
    const uint32_t end = r->from + r->n;

    for (uint32_t i = r->from & ~3u; i < end; i += 4) {     /* four columns to a number */
        const uint64_t u = rng_mix(r->key ^ ((uint64_t)i << 32));

        for (uint32_t c = i < r->from ? r->from : i; c < end && c < i + 4; c++) {
            float *p = y + (c - r->from);

            *p = (u >> 16 * (c - i) & 0xFFFF) < r->below ? 0.0f : *p * r->scale;
        }
    }
}

void kernels_init_ref_rows(struct kernels *k)
{
    k->rms_norm = rms_norm_ref;
    k->layer_norm = layer_norm_ref;
    k->l2_norm = l2_norm_ref;
    k->softmax = softmax_ref;
    k->unary = unary_ref;
    k->gated = gated_ref;
    k->add = add_ref;
    k->mul = mul_ref;
    k->affine = affine_ref;
    k->axpy = axpy_ref;
    k->rope = rope_ref;
    k->drop = drop_ref;
    kernels_init_ref_attention(k);
}
