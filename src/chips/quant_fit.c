/* quant_fit.c: the search behind the quantisers; see quant_fit.h. */
#include "chips/quant_fit.h"

#include <math.h>
#include <string.h>

#include "chips/quant_tables.h"

/* Eight floats. In the searches a lane holds a candidate, not an element, so that no
 * sum runs across lanes and the result doesn't depend on the vector width. */
typedef float   lanes __attribute__((vector_size(4 * FIT_LANES)));
typedef int32_t lane_mask __attribute__((vector_size(4 * FIT_LANES)));

#define INLINE static inline __attribute__((always_inline))
#define SPLAT(v)           ((lanes){ 0 } + (v))
#define SELECT(mask, a, b) ((lanes)(((lane_mask)(a) & (mask)) | ((lane_mask)(b) & ~(mask))))

/* The same source for wider vectors, chosen when the program starts. Without fused
 * products the bits are the same. Sanitizers don't like the early choice. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

/* Codebooks as thresholds half way between levels and the steps taken there. */
static const float iq4_mid[15] = {
    -115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101
};
static const float iq4_step[15] = { 23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24 };
static const float fp4_mid[7] = { 0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10 };
static const float fp4_step[7] = { 1, 1, 1, 1, 2, 2, 4 };

float fit_prepare(float *x, float *w, const float *in, const float *importance, size_t n)
{
    float max = 0, w_max = 0;

    for (size_t i = 0; i < n; i++) {
        float v = in[i];
        const float mag = fabsf(v);

        v = mag <= QUANT_LIMIT ? v : v > 0 ? QUANT_LIMIT : v < 0 ? -QUANT_LIMIT : 0;
        x[i] = v;
        max = fabsf(v) > max ? fabsf(v) : max;
    }
    for (size_t i = 0; importance && i < n; i++) {
        const float v = importance[i];

        w[i] = v > 0 && v <= 3e38f ? v : 0;
        w_max = w[i] > w_max ? w[i] : w_max;
    }
    /* never quite 0, so that unimportant elements still get sensible levels */
    for (size_t i = 0; i < n; i++)
        w[i] = w_max > 0 ? (w[i] > 1e-5f * w_max ? w[i] / w_max : 1e-5f) : 1;
    return max;
}

/* v becomes the nearest level of each lane. */
INLINE void nearest(lanes *v, enum fit_grid grid, float lo, float hi)
{
    lanes r;
    lane_mask sign;

    switch (grid) {
    case FIT_WHOLE:
        *v = SELECT(*v < SPLAT(lo), SPLAT(lo), *v);
        *v = SELECT(*v > SPLAT(hi), SPLAT(hi), *v);
        *v = (*v + 0x1.8p23f) - 0x1.8p23f;      /* to the nearest whole number */
        break;
    case FIT_IQ4:
        r = SPLAT(-127.0f);
        for (int k = 0; k < 15; k++)
            r += (lanes)((lane_mask)SPLAT(iq4_step[k]) & (*v > SPLAT(iq4_mid[k])));
        *v = r;
        break;
    case FIT_FP4:
        sign = (lane_mask)*v & INT32_MIN;
        *v = (lanes)((lane_mask)*v & INT32_MAX);
        r = SPLAT(0.0f);
        for (int k = 0; k < 7; k++)
            r += (lanes)((lane_mask)SPLAT(fp4_step[k]) & (*v > SPLAT(fp4_mid[k])));
        *v = (lanes)((lane_mask)r | sign);
        break;
    }
}

/* 1 / d, and 0 where d is too small for that. */
INLINE void invert(lanes *t, const lanes *d)
{
    const lanes mag = (lanes)((lane_mask)*d & INT32_MAX);

    *t = (lanes)((lane_mask)(SPLAT(1.0f) / *d) & (mag > SPLAT(1e-30f)));
}

INLINE void scale_sums(lanes *xq, lanes *qq, const float *x, const float *w, size_t n,
                       enum fit_grid grid, float lo, float hi, const lanes *t)
{
    lanes a = { 0 }, b = { 0 };

    for (size_t i = 0; i < n; i++) {
        lanes q = *t * x[i];

        nearest(&q, grid, lo, hi);
        a += q * (w[i] * x[i]);
        b += q * q * w[i];
    }
    *xq = a;
    *qq = b;
}

/* Rounds of: levels from t = 1 / d, then d by least squares. */
INLINE void scale_search(lanes *xq, lanes *qq, const float *x, const float *w, size_t n,
                         enum fit_grid grid, float lo, float hi, const lanes *start)
{
    lanes t = *start;

    for (int round = 0;; round++) {
        lanes next;

        scale_sums(xq, qq, x, w, n, grid, lo, hi, &t);
        if (round == 2)
            return;
        next = *qq / *xq;
        t = SELECT((*xq != SPLAT(0.0f)) & (*qq > SPLAT(0.0f)), next, t);
    }
}

CLONES static void scale_whole(lanes *xq, lanes *qq, const float *x, const float *w, size_t n,
                               float lo, float hi, const lanes *t)
{
    scale_search(xq, qq, x, w, n, FIT_WHOLE, lo, hi, t);
}

CLONES static void scale_iq4(lanes *xq, lanes *qq, const float *x, const float *w, size_t n,
                             const lanes *t)
{
    scale_search(xq, qq, x, w, n, FIT_IQ4, 0, 0, t);
}

CLONES static void scale_fp4(lanes *xq, lanes *qq, const float *x, const float *w, size_t n,
                             const lanes *t)
{
    scale_search(xq, qq, x, w, n, FIT_FP4, 0, 0, t);
}

float fit_scale(const float *x, const float *w, size_t n, const struct fit_levels *l,
                float *curvature)
{
    /* How far past the last level the largest element is put, in steps of the grid. Six
     * lanes put it on the longer side, two on the other. */
    static const float past[FIT_LANES] = { -0.75f, -0.4f, -0.1f, 0.25f, 0.7f, 1.3f, -0.2f, 0.4f };
    const float step = l->grid == FIT_WHOLE ? 1.0f : l->grid == FIT_IQ4 ? 22.0f : 3.0f;
    const bool low = -l->lo >= l->hi;
    const float far = low ? l->lo : l->hi, near = low ? l->hi : l->lo;
    float extreme = 0, d = 0, best = 0, curve = 0;
    lanes t, xq = SPLAT(0), qq = SPLAT(0);

    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(extreme))
            extreme = x[i];
    if (curvature)
        *curvature = 0;
    if (fabsf(extreme) < QUANT_TINY)
        return 0;
    for (int c = 0; c < FIT_LANES; c++) {
        const float end = c < 6 || near == 0 ? far : near;

        t[c] = (end + copysignf(step, end) * past[c]) / extreme;
    }
    switch (l->grid) {
    case FIT_WHOLE:
        scale_whole(&xq, &qq, x, w, n, l->lo, l->hi, &t);
        break;
    case FIT_IQ4:
        scale_iq4(&xq, &qq, x, w, n, &t);
        break;
    case FIT_FP4:
        scale_fp4(&xq, &qq, x, w, n, &t);
        break;
    }
    for (int c = 0; c < FIT_LANES; c++) {
        const float gain = qq[c] > 0 ? xq[c] * xq[c] / qq[c] : 0;   /* sum w x^2 less the error */

        if (gain > best) {
            best = gain;
            d = xq[c] / qq[c];
            curve = qq[c];
        }
    }
    if (curvature)
        *curvature = curve;
    return d;
}

/* One round of the affine search. x is counted from base; sums of w, w x. On return
 * d and m are the least-squares solution, error is relative to sum w x^2. */
INLINE void affine_round(lanes *d, lanes *m, lanes *error, lanes *qq, const float *x,
                         const float *w, size_t n, float hi, float base, float m_max,
                         float sum_w, float sum_x)
{
    lanes l1 = { 0 }, l2 = { 0 }, xl = { 0 }, det, nd, nm, cap, t;
    lane_mask ok, over;

    invert(&t, d);
    for (size_t i = 0; i < n; i++) {
        const float v = x[i] - base;
        lanes q = (SPLAT(v) - *m) * t;

        nearest(&q, FIT_WHOLE, 0, hi);
        l1 += q * w[i];
        l2 += q * q * w[i];
        xl += q * (w[i] * v);
    }
    det = l2 * sum_w - l1 * l1;
    nd = (xl * sum_w - l1 * sum_x) / det;
    nm = (l2 * sum_x - l1 * xl) / det;
    cap = SPLAT(m_max);
    over = nm > cap;
    nd = SELECT(over, (xl - l1 * m_max) / l2, nd);
    nm = SELECT(over, cap, nm);
    ok = (det > l2 * (sum_w * 1e-6f)) & (nd > SPLAT(0.0f));
    *d = SELECT(ok, nd, *d);
    *m = SELECT(ok, nm, *m);
    *error = *d * (*d * l2 + *m * l1 * 2.0f - xl * 2.0f) + *m * (*m * sum_w - 2.0f * sum_x);
    *qq = l2;
}

CLONES static void affine_search(lanes *d, lanes *m, lanes *error, lanes *qq, const float *x,
                                 const float *w, size_t n, float hi, float base, float m_max,
                                 float sum_w, float sum_x)
{
    for (int round = 0; round < 3; round++)
        affine_round(d, m, error, qq, x, w, n, hi, base, m_max, sum_w, sum_x);
}

struct fit_affine fit_affine(const float *x, const float *w, size_t n, float hi,
                             bool min_only_below)
{
    /* Steps by which the range is stretched (more) or clipped (less). */
    static const float stretch[FIT_LANES] = { -0.8f, -0.5f, -0.25f, 0, 0.2f, 0.45f, 0.7f, 1.0f };
    float min = x[0], max = x[0], sum_w = 0, sum_x = 0;
    struct fit_affine fit = { 0 };
    lanes d, m = { 0 }, error, qq;
    int best = 0;

    for (size_t i = 1; i < n; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    if (min_only_below && min > 0)
        min = 0;
    for (size_t i = 0; i < n; i++) {
        sum_w += w[i];
        sum_x += w[i] * (x[i] - min);
    }
    fit.m = min;
    fit.curvature_m = sum_w;
    if (!(max - min >= QUANT_TINY))
        return fit;
    for (int c = 0; c < FIT_LANES; c++)
        d[c] = (max - min) / (hi + stretch[c]);
    affine_search(&d, &m, &error, &qq, x, w, n, hi, min, min_only_below ? -min : 3e38f, sum_w,
                  sum_x);
    for (int c = 1; c < FIT_LANES; c++)
        if (error[c] < error[best])
            best = c;
    fit.d = d[best];
    fit.m = min + m[best];
    fit.curvature_d = qq[best];
    return fit;
}

INLINE void errors(float *error, const float *x, const float *w, size_t n, enum fit_grid grid,
                   float lo, float hi, const float *d_in, const float *m_in)
{
    lanes d, m, t, sum = { 0 };

    memcpy(&d, d_in, sizeof d);
    memcpy(&m, m_in, sizeof m);
    invert(&t, &d);
    for (size_t i = 0; i < n; i++) {
        const lanes v = SPLAT(x[i]) - m;
        lanes q = v * t;

        nearest(&q, grid, lo, hi);
        q = v - q * d;
        sum += q * q * w[i];
    }
    memcpy(error, &sum, sizeof sum);
}

CLONES static void errors_whole(float *error, const float *x, const float *w, size_t n, float lo,
                                float hi, const float *d, const float *m)
{
    errors(error, x, w, n, FIT_WHOLE, lo, hi, d, m);
}

CLONES static void errors_iq4(float *error, const float *x, const float *w, size_t n,
                              const float *d, const float *m)
{
    errors(error, x, w, n, FIT_IQ4, 0, 0, d, m);
}

CLONES static void errors_fp4(float *error, const float *x, const float *w, size_t n,
                              const float *d, const float *m)
{
    errors(error, x, w, n, FIT_FP4, 0, 0, d, m);
}

void fit_errors(float error[FIT_LANES], const float *x, const float *w, size_t n,
                const struct fit_levels *l, const float d[FIT_LANES], const float m[FIT_LANES])
{
    switch (l->grid) {
    case FIT_WHOLE:
        errors_whole(error, x, w, n, l->lo, l->hi, d, m);
        break;
    case FIT_IQ4:
        errors_iq4(error, x, w, n, d, m);
        break;
    case FIT_FP4:
        errors_fp4(error, x, w, n, d, m);
        break;
    }
}

static int8_t index_of(const struct fit_levels *l, float v)
{
    int q = 0;

    switch (l->grid) {
    case FIT_WHOLE:
        v = v < l->lo ? l->lo : v > l->hi ? l->hi : v;
        return (int8_t)lrintf(v);
    case FIT_IQ4:
        for (int k = 0; k < 15; k++)
            q += v > iq4_mid[k];
        return (int8_t)q;
    case FIT_FP4:
        for (int k = 0; k < 7; k++)
            q += fabsf(v) > fp4_mid[k];
        return (int8_t)(v < 0 && q > 0 ? q + 8 : q);
    }
    return 0;
}

CLONES static void round_whole(int8_t *q, const float *x, size_t n, float lo, float hi, float t,
                               float m)
{
    for (size_t i = 0; i + FIT_LANES <= n; i += FIT_LANES) {
        lanes v;

        memcpy(&v, x + i, sizeof v);
        v = (v - m) * t;
        v = SELECT(v < SPLAT(lo), SPLAT(lo), v);
        v = SELECT(v > SPLAT(hi), SPLAT(hi), v);
        v += 0x1.8p23f;     /* the low bits of the sum are the whole number */
        for (int c = 0; c < FIT_LANES; c++)
            q[i + (size_t)c] = (int8_t)((lane_mask)v)[c];
    }
}

void fit_round(int8_t *q, const float *x, size_t n, const struct fit_levels *l, float d, float m)
{
    const float t = fabsf(d) > 1e-30f ? 1 / d : 0;
    size_t done = 0;

    if (l->grid == FIT_WHOLE) {
        round_whole(q, x, n, l->lo, l->hi, t, m);
        done = n / FIT_LANES * FIT_LANES;
    }
    for (size_t i = done; i < n; i++)
        q[i] = index_of(l, (x[i] - m) * t);
}

float fit_level(const struct fit_levels *l, int q)
{
    switch (l->grid) {
    case FIT_WHOLE:
        break;
    case FIT_IQ4:
        return iq4_levels[q];
    case FIT_FP4:
        return fp4_levels[q];
    }
    return (float)q;
}
