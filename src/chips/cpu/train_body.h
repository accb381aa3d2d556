/* train_body.h: kernels of the backward pass, written once in the operations of the simd.h that
 * the including file chose; see train_kernels.h. TILE_M rows times TILE_V vectors of results stay
 * in registers. The including file names its table in TRAIN_TABLE. */
#include <math.h>
#include <string.h>

#include "chips/cpu/train_kernels.h"
#include "chips/cpu/vmath_body.h"
#include "chips/dtype.h"

#define TRAIN_INLINE static inline __attribute__((always_inline))
#define EACH_M(m) _Pragma("GCC unroll 8") for (unsigned m = 0; m < TILE_M; m++)
#define EACH_V(v, V) _Pragma("GCC unroll 3") for (unsigned v = 0; v < (V); v++)

/* ---- products ---- */

/* One tile: V vectors of columns; rows of results m < left. */
TRAIN_INLINE void tile(const struct gemm_args *g, const float *a, const float *b, float *c,
                       unsigned left, const unsigned V)
{
    vf acc[TILE_M * TILE_V];

    EACH_M(m) EACH_V(v, V)
        acc[m * TILE_V + v] = v_zero();
    for (uint32_t k = 0; k < g->k; k++) {
        vf w[TILE_V];

        EACH_V(v, V)
            w[v] = v_load(b + v * VN);
        EACH_M(m) {
            const vf s = v_set1(a[m * g->a_m]);

            EACH_V(v, V)
                acc[m * TILE_V + v] = v_fma(s, w[v], acc[m * TILE_V + v]);
        }
        a += g->a_k;
        b += g->b_stride;
    }
    EACH_M(m)
        if (m < left)
            EACH_V(v, V) {
                float *to = c + m * g->c_stride + v * VN;

                v_store(to, g->add ? v_add(v_load(to), acc[m * TILE_V + v])
                                   : acc[m * TILE_V + v]);
            }
}

/* What is left over at the edges: one row of results, n columns of a vector. */
static void edge(const struct gemm_args *g, const float *a, const float *b, float *c, size_t n)
{
    vf acc = v_zero();

    for (uint32_t k = 0; k < g->k; k++)
        acc = v_fma(v_set1(a[k * g->a_k]), n < VN ? v_loadn(b + k * g->b_stride, n)
                                                  : v_load(b + k * g->b_stride), acc);
    if (n < VN)
        v_storen(c, g->add ? v_add(v_loadn(c, n), acc) : acc, n);
    else
        v_store(c, g->add ? v_add(v_load(c), acc) : acc);
}

static void gemm(const struct gemm_args *g)
{
    uint32_t n = 0;

    while (n < g->n) {
        const uint32_t left = g->n - n, V = left / VN < TILE_V ? left / VN : TILE_V;
        const uint32_t wide = V ? V * VN : left;
        uint32_t m = 0;

        for (; V && m + TILE_M <= g->m; m += TILE_M) {
            const float *a = g->a + m * g->a_m, *b = g->b + n;
            float *c = g->c + m * g->c_stride + n;

            if (V == 3)
                tile(g, a, b, c, TILE_M, 3);
            else if (V == 2)
                tile(g, a, b, c, TILE_M, 2);
            else
                tile(g, a, b, c, TILE_M, 1);
        }
        for (; m < g->m; m++)
            for (uint32_t at = 0; at < wide; at += VN)
                edge(g, g->a + m * g->a_m, g->b + n + at, g->c + m * g->c_stride + n + at,
                     wide - at < VN ? wide - at : VN);
        n += wide;
    }
}

/* Operands in panels: dy [n_out / TILE_M][depth][TILE_M], x [n_in / wide][depth][wide]. */
static void pack_dy(float *to, const struct outer_args *a, uint32_t row, uint32_t depth)
{
    for (uint32_t r = 0; r < depth; r++) {
        const float *from = a->dy + (a->dy_index ? a->dy_index[row + r] : row + r) * a->dy_stride;

        for (uint32_t o = 0; o < a->n_out; o += TILE_M) {
            float *y = to + (size_t)o * depth + (size_t)r * TILE_M;
            const uint32_t left = a->n_out - o;

            if (left >= TILE_M) {
                memcpy(y, from + o, TILE_M * sizeof *y);
                continue;
            }
            for (uint32_t k = 0; k < TILE_M; k++)
                y[k] = k < left ? from[o + k] : 0.0f;
        }
    }
}

static void pack_x(float *to, const struct outer_args *a, uint32_t row, uint32_t depth)
{
    const uint32_t padded = (a->n_in + VN - 1) / VN * VN;

    for (uint32_t r = 0; r < depth; r++) {
        const float *from = a->x + (a->x_index ? a->x_index[row + r] : row + r) * a->x_stride;

        for (uint32_t i = 0; i < padded; i += TILE_V * VN) {
            const uint32_t wide = padded - i < TILE_V * VN ? padded - i : TILE_V * VN;
            float *y = to + (size_t)i * depth + (size_t)r * wide;

            for (uint32_t k = 0; k < wide; k += VN) {
                const uint32_t left = a->n_in - i - k;

                v_store(y + k, left >= VN ? v_load(from + i + k) : v_loadn(from + i + k, left));
            }
        }
    }
}

/* A tile whose last columns don't exist: through a buffer. */
static void ragged(const struct gemm_args *g, const float *a, const float *b, float *c,
                   unsigned left, uint32_t wide, uint32_t exist)
{
    float buf[TILE_M * TILE_V * VN];
    struct gemm_args into = *g;

    into.c_stride = TILE_V * VN;
    into.add = false;
    if (wide == 3 * VN)
        tile(&into, a, b, buf, TILE_M, 3);
    else if (wide == 2 * VN)
        tile(&into, a, b, buf, TILE_M, 2);
    else
        tile(&into, a, b, buf, TILE_M, 1);
    for (uint32_t m = 0; m < left; m++)
        for (uint32_t i = 0; i < exist; i++)
            c[m * g->c_stride + i] += buf[m * TILE_V * VN + i];
}

static void outer_chunk(const struct outer_args *a, const float *dy, const float *x, uint32_t depth)
{
    const uint32_t padded = (a->n_in + VN - 1) / VN * VN;

    for (uint32_t i = 0; i < padded; i += TILE_V * VN) {
        const uint32_t wide = padded - i < TILE_V * VN ? padded - i : TILE_V * VN;
        const struct gemm_args g = { .c_stride = a->g_stride, .a_m = 1, .a_k = TILE_M,
                                     .b_stride = wide, .k = depth, .add = true };
        const float *b = x + (size_t)i * depth;

        for (uint32_t o = 0; o < a->n_out; o += TILE_M) {
            const float *w = dy + (size_t)o * depth;
            float *c = a->g + o * a->g_stride + i;
            const unsigned left = a->n_out - o < TILE_M ? a->n_out - o : TILE_M;

            if (i + wide > a->n_in)
                ragged(&g, w, b, c, left, wide, a->n_in - i);
            else if (wide == 3 * VN)
                tile(&g, w, b, c, left, 3);
            else if (wide == 2 * VN)
                tile(&g, w, b, c, left, 2);
            else
                tile(&g, w, b, c, left, 1);
        }
    }
}

/* Where there is no instruction for BF16: rounded, then as floats. */
static void round_all(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = bf16_to_f32(f32_to_bf16(x[i]));
}

static void outer_as(const struct outer_args *a, bool round)
{
    float *dy = a->scratch, *x = dy + (OUTER_MAX_OUT + 8) * OUTER_DEPTH;

    for (uint32_t r = 0; r < a->n_rows; r += OUTER_DEPTH) {
        const uint32_t depth = a->n_rows - r < OUTER_DEPTH ? a->n_rows - r : OUTER_DEPTH;

        pack_dy(dy, a, r, depth);
        pack_x(x, a, r, depth);
        if (round) {
            round_all(dy, (size_t)(a->n_out + TILE_M - 1) / TILE_M * TILE_M * depth);
            round_all(x, (size_t)(a->n_in + VN - 1) / VN * VN * depth);
        }
        outer_chunk(a, dy, x, depth);
    }
}

static void outer(const struct outer_args *a)
{
    outer_as(a, false);
}

static void outer_rounded(const struct outer_args *a)
{
    outer_as(a, true);
}

/* ---- rows ---- */

TRAIN_INLINE vf ld(const float *p, size_t left)
{
    return left >= VN ? v_load(p) : v_loadn(p, left);
}

TRAIN_INLINE void st(float *p, vf v, size_t left)
{
    if (left >= VN)
        v_store(p, v);
    else
        v_storen(p, v, left);
}

TRAIN_INLINE void put(float *p, vf v, size_t left, bool add)
{
    st(p, add ? v_add(ld(p, left), v) : v, left);
}

/* Lanes beyond n as zeros. */
TRAIN_INLINE vf only(vf v, size_t left)
{
    float lanes[VN];

    if (left >= VN)
        return v;
    v_store(lanes, v);
    return v_loadn(lanes, left);
}

static void norm_back(const struct norm_back_args *a, size_t n)
{
    vf s = v_zero(), t = v_zero(), mean, inv, m0, m1;
    float scale, sum, dot;

    for (size_t i = 0; a->kind == NORM_LAYER && i < n; i += VN)
        s = v_add(s, ld(a->x + i, n - i));
    mean = v_set1(a->kind == NORM_LAYER ? v_sum(s) / (float)n : 0.0f);
    s = v_zero();
    for (size_t i = 0; i < n; i += VN) {
        const vf d = only(v_sub(ld(a->x + i, n - i), mean), n - i);

        s = v_fma(d, d, s);
    }
    scale = a->kind == NORM_L2 ? 1.0f / fmaxf(sqrtf(v_sum(s)), a->eps)
                               : 1.0f / sqrtf(v_sum(s) / (float)n + a->eps);
    inv = v_set1(scale);
    s = v_zero();
    for (size_t i = 0; i < n; i += VN) {
        const size_t left = n - i;
        const vf hat = v_mul(v_sub(ld(a->x + i, left), mean), inv), dy = ld(a->dy + i, left);
        const vf g = a->gain ? v_mul(dy, ld(a->gain + i, left)) : dy;

        if (a->dgain)
            put(a->dgain + i, v_mul(dy, hat), left, true);
        if (a->dbias)
            put(a->dbias + i, dy, left, true);
        s = v_add(s, g);
        t = v_fma(g, hat, t);           /* dy is zero beyond n */
    }
    if (!a->dx)
        return;
    sum = v_sum(s);
    dot = v_sum(t);
    m0 = v_set1(a->kind == NORM_LAYER ? sum / (float)n : 0.0f);
    if (a->kind == NORM_L2)
        m1 = v_set1(scale * a->eps < 1.0f ? dot : 0.0f);
    else
        m1 = v_set1(dot / (float)n);
    for (size_t i = 0; i < n; i += VN) {
        const size_t left = n - i;
        const vf hat = v_mul(v_sub(ld(a->x + i, left), mean), inv), dy = ld(a->dy + i, left);
        const vf g = a->gain ? v_mul(dy, ld(a->gain + i, left)) : dy;

        put(a->dx + i, v_mul(v_sub(v_sub(g, m0), v_mul(hat, m1)), inv), left, a->add);
    }
}

/* Between eps and 0, where f has a step, the slope goes on as below eps. */
TRAIN_INLINE vf slope_xielu(vf x, const struct xielu *k, vf *y)
{
    const vf zero = v_zero(), p = v_set1(k->p), n = v_set1(k->n);
    const vf beta = v_set1(k->beta), line = v_mul(beta, x);
    const vf e = v_expm1_below(v_min(x, v_set1(k->eps)));

    *y = v_if_gt(x, zero, v_fma(v_mul(p, x), x, line), v_fma(n, v_sub(e, x), line));
    return v_if_gt(x, zero, v_fma(v_add(p, p), x, beta), v_fma(n, e, beta));
}

/* f'(x); *y: f(x). */
TRAIN_INLINE vf slope_one(vf x, const struct act_args *a, vf *y)
{
    const vf one = v_set1(1.0f), zero = v_zero(), param = v_set1(a->param);
    vf s, u, d;

    switch (a->act) {
    case ACT_SILU:
        s = v_sigmoid(x);
        *y = v_mul(x, s);
        return v_mul(s, v_fma(x, v_sub(one, s), one));
    case ACT_GELU:
        u = v_set1(2 * 0.79788456080286535588f);
        d = v_mul(x, x);
        s = v_sigmoid(v_mul(u, v_fma(v_mul(v_set1(0.044715f), d), x, x)));
        *y = v_mul(x, s);
        d = v_mul(u, v_fma(v_set1(3 * 0.044715f), d, one));
        return v_fma(v_mul(v_mul(x, s), v_sub(one, s)), d, s);
    case ACT_GELU_ERF:
        s = v_mul(v_set1(0.5f), v_add(one, v_erf(v_mul(x, v_set1(0.70710678118654752440f)))));
        *y = v_mul(x, s);
        u = v_exp(v_mul(v_set1(-0.5f), v_mul(x, x)));
        return v_fma(v_mul(x, v_set1(0.39894228040143267794f)), u, s);
    case ACT_GELU_QUICK:
        s = v_sigmoid(v_mul(v_set1(1.702f), x));
        *y = v_mul(x, s);
        return v_fma(v_mul(v_set1(1.702f), *y), v_sub(one, s), s);
    case ACT_RELU:
        *y = v_if_gt(x, zero, x, zero);
        return v_if_gt(x, zero, one, zero);
    case ACT_RELU2:
        u = v_if_gt(x, zero, x, zero);
        *y = v_mul(u, u);
        return v_add(u, u);
    case ACT_SIGMOID:
        *y = s = v_sigmoid(x);
        return v_mul(s, v_sub(one, s));
    case ACT_TANH:
        *y = u = v_tanh(x);
        return v_sub(one, v_mul(u, u));
    case ACT_EXP:
        return *y = v_exp(x);
    case ACT_NEG_EXP:
        return *y = v_sub(zero, v_exp(x));
    case ACT_SOFTCAP:
        u = v_tanh(v_div(x, param));
        *y = v_mul(param, u);
        return v_sub(one, v_mul(u, u));
    case ACT_CLAMP:
        u = v_sub(zero, param);
        *y = v_max(u, v_min(param, x));
        return v_if_gt(x, param, zero, v_if_gt(u, x, zero, one));
    case ACT_SOFTPLUS: {
        float lanes[VN];

        v_store(lanes, x);
        for (int i = 0; i < VN; i++)
            lanes[i] = lanes[i] > 20.0f ? lanes[i] : log1pf(expf(lanes[i]));
        *y = v_load(lanes);
        return v_sigmoid(x);
    }
    case ACT_XIELU:
        return slope_xielu(x, &a->xielu, y);
    case ACT_NONE:
    case ACT_COUNT:
        break;
    }
    *y = x;
    return one;
}

static void unary_back(float *dx, const float *x, const float *dy, size_t n,
                       const struct act_args *a, bool add)
{
    vf y;

    for (size_t i = 0; i < n; i += VN)
        put(dx + i, v_mul(ld(dy + i, n - i), slope_one(ld(x + i, n - i), a, &y)),
            n - i, add);
}

static void gated_back(const struct gated_back_args *a, size_t n)
{
    const struct act_args *act = a->act;
    const vf one = v_set1(1.0f), zero = v_zero();
    const vf top = v_set1(act->limit), low = v_set1(-act->limit), alpha = v_set1(act->alpha);

    for (size_t i = 0; i < n; i += VN) {
        const size_t left = n - i;
        vf g = ld(a->gate + i, left), u = ld(a->up + i, left), dy = ld(a->dy + i, left);
        vf f, d, through = one, up_through = one;

        if (act->limit > 0.0f) {
            through = v_if_gt(g, top, zero, one);
            up_through = v_if_gt(u, top, zero, v_if_gt(low, u, zero, one));
            g = v_min(g, top);
            u = v_max(v_min(u, top), low);
        }
        if (act->up_offset != 0.0f)
            u = v_add(u, v_set1(act->up_offset));
        if (act->alpha > 0.0f) {
            const vf s = v_sigmoid(v_mul(g, alpha));

            f = v_mul(g, s);
            d = v_fma(v_mul(v_mul(f, alpha), v_sub(one, s)), one, s);
        } else {
            d = slope_one(g, act, &f);
        }
        if (a->dgate)
            put(a->dgate + i, v_mul(v_mul(dy, u), v_mul(d, through)), left, a->add_gate);
        if (a->dup)
            put(a->dup + i, v_mul(v_mul(dy, f), up_through), left, a->add_up);
    }
}

/* ---- attention ---- */

static float largest(const float *x, size_t n)
{
    vf top = v_set1(-INFINITY);
    float most;

    for (size_t i = 0; i + VN <= n; i += VN)
        top = v_max(top, v_load(x + i));
    most = v_hmax(top);
    for (size_t i = n - n % VN; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

static float weights(float *s, size_t n, float extra)
{
    const float most = fmaxf(largest(s, n), extra);
    const vf top = v_set1(most);
    vf sum = v_zero(), inv;
    float all, rest;

    for (size_t i = 0; i < n; i += VN) {
        const vf e = v_exp(v_sub(ld(s + i, n - i), top));

        st(s + i, e, n - i);
        sum = v_add(sum, only(e, n - i));
    }
    rest = extra > -INFINITY ? expf(extra - most) : 0.0f;
    all = v_sum(sum) + rest;
    inv = v_set1(1.0f / all);
    for (size_t i = 0; i < n; i += VN)
        st(s + i, v_mul(ld(s + i, n - i), inv), n - i);
    return rest / all;
}

static float scores_back(float *dp, const float *p, size_t n, float scale)
{
    vf s = v_zero(), mean;
    const vf f = v_set1(scale);
    float m;

    for (size_t i = 0; i < n; i += VN)
        s = v_fma(ld(p + i, n - i), ld(dp + i, n - i), s);
    m = v_sum(s);
    mean = v_set1(m);
    for (size_t i = 0; i < n; i += VN)
        st(dp + i, v_mul(v_mul(ld(p + i, n - i), v_sub(ld(dp + i, n - i), mean)), f), n - i);
    return m;
}

/* ---- BF16: plain loops, which the compiler turns to vectors ---- */

TRAIN_INLINE uint32_t bf16_bits(float f)
{
    uint32_t u;

    memcpy(&u, &f, sizeof u);
    return (u & 0x7FFFFFFFu) > 0x7F800000u ? (u >> 16 | 0x40u)
                                           : (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
}

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (uint16_t)bf16_bits(x[i]);
}

static void bf16_pairs(uint32_t *y, const float *lo, const float *hi, size_t n)
{
    if (!hi) {
        for (size_t i = 0; i < n; i++)
            y[i] = bf16_bits(lo[i]);
        return;
    }
    for (size_t i = 0; i < n; i++)
        y[i] = bf16_bits(lo[i]) | bf16_bits(hi[i]) << 16;
}

static void round_f16(float *x, size_t n)
{
    size_t i = 0;

    for (; i + VN <= n; i += VN) {
        uint16_t half[VN];

        v_store_f16(half, v_load(x + i));
        v_store(x + i, v_load_f16(half));
    }
    for (; i < n; i++)
        x[i] = f16_to_f32(f32_to_f16(x[i]));
}

const struct train_kernels TRAIN_TABLE = {
    .outer = outer, .outer_bf16 = outer_rounded, .gemm = gemm, .norm_back = norm_back,
    .unary_back = unary_back, .gated_back = gated_back, .weights = weights,
    .scores_back = scores_back, .largest = largest,
    .to_bf16 = to_bf16, .bf16_pairs = bf16_pairs, .round_f16 = round_f16,
};
