/* rows_body.h: kernels over rows of floats, written once in the operations of the
 * simd.h that the including file chose. Reductions keep VN lanes, each summing its
 * columns in ascending order, and add the lanes at the end: the result depends on the
 * row alone. */
#include <math.h>

#include "chips/cpu/kernels.h"
#include "chips/cpu/vmath_body.h"

#define EACH_VECTOR(i, n) for (size_t i = 0; i < (n); i += VN)
#define LEFT(i, n) ((n) - (i))

static inline vf ld(const float *p, size_t left)
{
    return left >= VN ? v_load(p) : v_loadn(p, left);
}

static inline void st(float *p, vf v, size_t left)
{
    if (left >= VN)
        v_store(p, v);
    else
        v_storen(p, v, left);
}

static float sum_squares(const float *x, size_t n)
{
    vf s = v_zero();

    EACH_VECTOR(i, n) {
        vf v = ld(x + i, LEFT(i, n));

        s = v_fma(v, v, s);
    }
    return v_sum(s);
}

static void scale_gain(float *y, const float *x, const float *gain, size_t n, float scale)
{
    const vf m = v_set1(scale);

    EACH_VECTOR(i, n) {
        vf v = v_mul(ld(x + i, LEFT(i, n)), m);

        if (gain)
            v = v_mul(v, ld(gain + i, LEFT(i, n)));
        st(y + i, v, LEFT(i, n));
    }
}

static void rms_norm(float *y, const float *x, const float *gain, size_t n, float eps)
{
    scale_gain(y, x, gain, n, 1.0f / sqrtf(sum_squares(x, n) / (float)n + eps));
}

static void l2_norm(float *y, const float *x, size_t n, float eps)
{
    scale_gain(y, x, NULL, n, 1.0f / fmaxf(sqrtf(sum_squares(x, n)), eps));
}

static void layer_norm(float *y, const float *x, const float *gain, const float *bias, size_t n,
                       float eps)
{
    vf s = v_zero(), m, r;
    float inv;

    EACH_VECTOR(i, n)
        s = v_add(s, ld(x + i, LEFT(i, n)));
    m = v_set1(v_sum(s) / (float)n);
    s = v_zero();
    EACH_VECTOR(i, n) {
        vf d = v_sub(ld(x + i, LEFT(i, n)), m);

        if (LEFT(i, n) < VN) {              /* lanes beyond the row hold -mean: drop them */
            float tail[VN];

            v_store(tail, d);
            d = v_loadn(tail, LEFT(i, n));
        }
        s = v_fma(d, d, s);
    }
    inv = 1.0f / sqrtf(v_sum(s) / (float)n + eps);
    r = v_set1(inv);
    EACH_VECTOR(i, n) {
        vf v = v_mul(v_sub(ld(x + i, LEFT(i, n)), m), r);

        if (gain)
            v = v_mul(v, ld(gain + i, LEFT(i, n)));
        if (bias)
            v = v_add(v, ld(bias + i, LEFT(i, n)));
        st(y + i, v, LEFT(i, n));
    }
}

static void softmax(float *y, const float *x, size_t n)
{
    vf top = v_set1(-INFINITY), sum = v_zero();
    float most;

    EACH_VECTOR(i, n) {
        if (LEFT(i, n) >= VN)
            top = v_max(top, v_load(x + i));
    }
    most = v_hmax(top);
    for (size_t i = n - n % VN; i < n; i++)
        most = x[i] > most ? x[i] : most;
    top = v_set1(most);
    EACH_VECTOR(i, n) {
        vf v = v_exp(v_sub(ld(x + i, LEFT(i, n)), top));

        st(y + i, v, LEFT(i, n));
        if (LEFT(i, n) < VN)
            v = v_loadn(y + i, LEFT(i, n));
        sum = v_add(sum, v);
    }
    scale_gain(y, y, NULL, n, 1.0f / v_sum(sum));
}

static inline vf act_xielu(vf x, const struct xielu *k)
{
    const vf line = v_mul(v_set1(k->beta), x);
    const vf left = v_sub(v_expm1_below(v_min(x, v_set1(k->eps))), x);

    return v_if_gt(x, v_zero(), v_fma(v_mul(v_set1(k->p), x), x, line),
                   v_fma(v_set1(k->n), left, line));
}

static inline vf act_one(vf x, const struct act_args *a)
{
    const vf param = v_set1(a->param);

    switch (a->act) {
    case ACT_SILU:
        return v_mul(x, v_sigmoid(x));
    case ACT_GELU: {
        vf x3 = v_mul(v_mul(x, x), x);
        vf u = v_mul(v_set1(0.79788456080286535588f), v_fma(v_set1(0.044715f), x3, x));

        /* (1 + tanh u) / 2 is sigmoid(2u), which does not cancel where u is very negative */
        return v_mul(x, v_sigmoid(v_add(u, u)));
    }
    case ACT_GELU_ERF:
        return v_mul(v_mul(v_set1(0.5f), x),
                     v_add(v_set1(1.0f), v_erf(v_mul(x, v_set1(0.70710678118654752440f)))));
    case ACT_GELU_QUICK:
        return v_mul(x, v_sigmoid(v_mul(v_set1(1.702f), x)));
    case ACT_RELU:
        return v_if_gt(v_zero(), x, v_zero(), x);
    case ACT_RELU2: {
        vf r = v_if_gt(v_zero(), x, v_zero(), x);

        return v_mul(r, r);
    }
    case ACT_SIGMOID:
        return v_sigmoid(x);
    case ACT_TANH:
        return v_tanh(x);
    case ACT_EXP:
        return v_exp(x);
    case ACT_NEG_EXP:
        return v_sub(v_zero(), v_exp(x));
    case ACT_SOFTCAP:
        return v_mul(param, v_tanh(v_div(x, param)));
    case ACT_CLAMP:
        return v_max(v_sub(v_zero(), param), v_min(param, x));  /* this order keeps NaN */
    case ACT_XIELU:
        return act_xielu(x, &a->xielu);
    case ACT_NONE:
    case ACT_SOFTPLUS:          /* by itself, below: needs a logarithm */
    case ACT_COUNT:
        break;
    }
    return x;
}

static float softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

static void unary(float *y, const float *x, size_t n, const struct act_args *a)
{
    if (a->act == ACT_SOFTPLUS) {
        for (size_t i = 0; i < n; i++)
            y[i] = softplus(x[i]);
        return;
    }
    EACH_VECTOR(i, n)
        st(y + i, act_one(ld(x + i, LEFT(i, n)), a), LEFT(i, n));
}

static inline vf gate_one(vf g, vf u, const struct act_args *a)
{
    float lanes[VN];

    if (a->limit > 0.0f) {
        const vf top = v_set1(a->limit);

        g = v_min(g, top);
        u = v_max(v_min(u, top), v_set1(-a->limit));
    }
    if (a->up_offset != 0.0f)
        u = v_add(u, v_set1(a->up_offset));
    if (a->alpha > 0.0f)
        return v_mul(v_mul(g, v_sigmoid(v_mul(g, v_set1(a->alpha)))), u);
    if (a->act == ACT_SOFTPLUS) {
        v_store(lanes, g);
        for (int i = 0; i < VN; i++)
            lanes[i] = softplus(lanes[i]);
        g = v_load(lanes);
        return v_mul(g, u);
    }
    return v_mul(act_one(g, a), u);
}

static void gated(float *y, const float *gate, const float *up, size_t n,
                  const struct act_args *a)
{
    EACH_VECTOR(i, n)
        st(y + i, gate_one(ld(gate + i, LEFT(i, n)), ld(up + i, LEFT(i, n)), a), LEFT(i, n));
}

static void add(float *y, const float *a, const float *b, size_t n)
{
    EACH_VECTOR(i, n)
        st(y + i, v_add(ld(a + i, LEFT(i, n)), ld(b + i, LEFT(i, n))), LEFT(i, n));
}

static void mul(float *y, const float *a, const float *b, size_t n)
{
    EACH_VECTOR(i, n)
        st(y + i, v_mul(ld(a + i, LEFT(i, n)), ld(b + i, LEFT(i, n))), LEFT(i, n));
}

static void affine(float *y, const float *x, float scale, float offset, size_t n)
{
    const vf s = v_set1(scale), o = v_set1(offset);

    EACH_VECTOR(i, n)
        st(y + i, v_fma(ld(x + i, LEFT(i, n)), s, o), LEFT(i, n));
}

static void axpy(float *y, const float *x, float a, size_t n)
{
    const vf s = v_set1(a);

    EACH_VECTOR(i, n)
        st(y + i, v_fma(ld(x + i, LEFT(i, n)), s, ld(y + i, LEFT(i, n))), LEFT(i, n));
}

static void rope(float *x, const float *cos_sin, uint32_t n_heads, uint32_t head_dim,
                 uint32_t n_rot, enum rope_pairing pairing)
{
    const uint32_t half = n_rot / 2;
    const uint32_t step = pairing == ROPE_NEOX ? 1 : 2, other = pairing == ROPE_NEOX ? half : 1;

    for (uint32_t h = 0; h < n_heads; h++, x += head_dim)
        for (uint32_t i = 0; i < half; i++) {
            const float c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
            const float a = x[i * step], b = x[i * step + other];

            x[i * step] = a * c - b * s;
            x[i * step + other] = a * s + b * c;
        }
}

/* Fills the row kernels of a table; the including file's init calls it. */
static void rows_install(struct kernels *k)
{
    k->rms_norm = rms_norm;
    k->layer_norm = layer_norm;
    k->l2_norm = l2_norm;
    k->softmax = softmax;
    k->unary = unary;
    k->gated = gated;
    k->add = add;
    k->mul = mul;
    k->affine = affine;
    k->axpy = axpy;
    k->rope = rope;
}
