/* scan_body.h: the kernels of scan.h, compiled once per instruction set: the file that includes
 * it defines SCAN_TABLE. Vectors are the compiler's own; it splits them where registers are
 * narrower. */
#include <stdbool.h>
#include <string.h>

#include "chips/cpu/scan.h"

typedef float lanes_t __attribute__((vector_size(SCAN_LANES * sizeof(float))));
typedef float eight_t __attribute__((vector_size(8 * sizeof(float))));
typedef float four_t __attribute__((vector_size(4 * sizeof(float))));

#define INLINE static inline __attribute__((always_inline))

/* Halves onto each other, in registers: a trip through memory would cost more than the column. */
INLINE float fold(const lanes_t *acc)
{
    const lanes_t a = *acc;
    const eight_t b = __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7) +
                      __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
    const four_t c = __builtin_shufflevector(b, b, 0, 1, 2, 3) +
                     __builtin_shufflevector(b, b, 4, 5, 6, 7);
    const four_t d = c + __builtin_shufflevector(c, c, 2, 3, 2, 3);

    return d[0] + d[1];
}

INLINE void load(lanes_t *v, const float *from)
{
    memcpy(v, from, sizeof *v);
}

/* ---- n is nv vectors: the column in registers ---- */

INLINE void linear_n(const uint32_t nv, const bool each, float *s, const struct scan_rows *r)
{
    lanes_t S[16], k, q, keep;

    for (uint32_t i = 0; i < nv; i++)
        load(&S[i], s + i * SCAN_LANES);
    for (uint32_t t = 0; t < r->n_rows; t++) {
        const float *pk = r->k + t * r->k_stride, *pq = r->q + t * r->q_stride;
        const float *pw = r->keep + t * r->keep_stride, v = r->v[t];
        lanes_t acc = { 0 };

        for (uint32_t i = 0; i < nv; i++) {
            load(&k, pk + i * SCAN_LANES);
            load(&q, pq + i * SCAN_LANES);
            if (each) {
                load(&keep, pw + i * SCAN_LANES);
                S[i] = S[i] * keep + k * v;
            } else {
                S[i] = S[i] * pw[0] + k * v;
            }
            acc += S[i] * q;
        }
        r->y[t] = fold(&acc);
    }
    memcpy(s, S, nv * sizeof *S);
}

/* One row, n_cols columns: k and q are loaded once, every column goes through registers once. */
INLINE void linear_cols_n(const uint32_t nv, float *s, const struct scan_rows *r, uint32_t n_cols)
{
    const float keep = r->keep[0];
    lanes_t k[16], q[16];

    for (uint32_t i = 0; i < nv; i++) {
        load(&k[i], r->k + i * SCAN_LANES);
        load(&q[i], r->q + i * SCAN_LANES);
    }
    for (uint32_t c = 0; c < n_cols; c++, s += nv * SCAN_LANES) {
        const float v = r->v[c];
        lanes_t acc = { 0 }, x;

        for (uint32_t i = 0; i < nv; i++) {
            load(&x, s + i * SCAN_LANES);
            x = x * keep + k[i] * v;
            memcpy(s + i * SCAN_LANES, &x, sizeof x);
            acc += x * q[i];
        }
        r->y[c] = fold(&acc);
    }
}

INLINE void delta_n(const uint32_t nv, const bool each, float *s, const struct scan_rows *r)
{
    lanes_t S[16], k, q, keep;

    for (uint32_t i = 0; i < nv; i++)
        load(&S[i], s + i * SCAN_LANES);
    for (uint32_t t = 0; t < r->n_rows; t++) {
        const float *pk = r->k + t * r->k_stride, *pq = r->q + t * r->q_stride;
        const float *pw = r->keep + t * r->keep_stride;
        lanes_t held = { 0 }, acc = { 0 };
        float change;

        for (uint32_t i = 0; i < nv; i++) {
            load(&k, pk + i * SCAN_LANES);
            if (each) {
                load(&keep, pw + i * SCAN_LANES);
                S[i] *= keep;
            } else {
                S[i] *= pw[0];
            }
            held += S[i] * k;
        }
        change = r->beta[t] * (r->v[t] - fold(&held));
        for (uint32_t i = 0; i < nv; i++) {
            load(&k, pk + i * SCAN_LANES);
            load(&q, pq + i * SCAN_LANES);
            S[i] += k * change;
            acc += S[i] * q;
        }
        r->y[t] = fold(&acc);
    }
    memcpy(s, S, nv * sizeof *S);
}

INLINE void wkv_n(const uint32_t nv, float *s, const struct scan_rows *r)
{
    lanes_t S[16], x, y, keep;

    for (uint32_t i = 0; i < nv; i++)
        load(&S[i], s + i * SCAN_LANES);
    for (uint32_t t = 0; t < r->n_rows; t++) {
        const size_t at = t * r->k_stride;
        const float *pw = r->keep + t * r->keep_stride, v = r->v[t];
        lanes_t acc = { 0 };
        float held;

        for (uint32_t i = 0; i < nv; i++) {
            load(&x, r->a + at + i * SCAN_LANES);
            acc += S[i] * x;
        }
        held = fold(&acc);
        acc = (lanes_t){ 0 };
        for (uint32_t i = 0; i < nv; i++) {
            load(&keep, pw + i * SCAN_LANES);
            load(&x, r->b + at + i * SCAN_LANES);
            load(&y, r->k + at + i * SCAN_LANES);
            S[i] = S[i] * keep + x * held + y * v;
            load(&x, r->q + t * r->q_stride + i * SCAN_LANES);
            acc += S[i] * x;
        }
        r->y[t] = fold(&acc);
    }
    memcpy(s, S, nv * sizeof *S);
}

/* ---- any n ---- */

INLINE float dot_any(const float *x, const float *y, uint32_t n)
{
    float tail[SCAN_LANES];
    lanes_t acc = { 0 }, a, b;
    uint32_t j = 0;

    for (; j + SCAN_LANES <= n; j += SCAN_LANES) {
        load(&a, x + j);
        load(&b, y + j);
        acc += a * b;
    }
    if (j == n)
        return fold(&acc);
    memcpy(tail, &acc, sizeof tail);
    for (uint32_t l = 0; j < n; j++, l++)
        tail[l] += x[j] * y[j];
    load(&acc, tail);
    return fold(&acc);
}

INLINE void linear_any(const bool each, float *s, const struct scan_rows *r)
{
    for (uint32_t t = 0; t < r->n_rows; t++) {
        const float *k = r->k + t * r->k_stride, *keep = r->keep + t * r->keep_stride;
        const float v = r->v[t];

        for (uint32_t j = 0; j < r->n; j++)
            s[j] = s[j] * keep[each ? j : 0] + k[j] * v;
        r->y[t] = dot_any(s, r->q + t * r->q_stride, r->n);
    }
}

INLINE void delta_any(const bool each, float *s, const struct scan_rows *r)
{
    for (uint32_t t = 0; t < r->n_rows; t++) {
        const float *k = r->k + t * r->k_stride, *keep = r->keep + t * r->keep_stride;
        float change;

        for (uint32_t j = 0; j < r->n; j++)
            s[j] *= keep[each ? j : 0];
        change = r->beta[t] * (r->v[t] - dot_any(s, k, r->n));
        for (uint32_t j = 0; j < r->n; j++)
            s[j] += k[j] * change;
        r->y[t] = dot_any(s, r->q + t * r->q_stride, r->n);
    }
}

INLINE void wkv_any(float *s, const struct scan_rows *r)
{
    for (uint32_t t = 0; t < r->n_rows; t++) {
        const size_t at = t * r->k_stride;
        const float *keep = r->keep + t * r->keep_stride;
        const float held = dot_any(s, r->a + at, r->n), v = r->v[t];

        for (uint32_t j = 0; j < r->n; j++)
            s[j] = s[j] * keep[j] + r->b[at + j] * held + r->k[at + j] * v;
        r->y[t] = dot_any(s, r->q + t * r->q_stride, r->n);
    }
}

/* ---- the table ---- */

#define SCAN_BY_WIDTH(s, r, fixed, any) \
    do {                                \
        switch ((r)->n) {               \
        case 16:  fixed(1); break;      \
        case 32:  fixed(2); break;      \
        case 64:  fixed(4); break;      \
        case 128: fixed(8); break;      \
        case 256: fixed(16); break;     \
        default:  any;                  \
        }                               \
    } while (0)

static void k_linear(float *s, const struct scan_rows *r)
{
#define FIXED(nv) linear_n(nv, false, s, r)
    SCAN_BY_WIDTH(s, r, FIXED, linear_any(false, s, r));
#undef FIXED
}

static void k_linear_cols(float *s, const struct scan_rows *r, uint32_t n_cols)
{
    struct scan_rows one = *r;

    switch (r->n) {
    case 32:  linear_cols_n(2, s, r, n_cols); return;
    case 64:  linear_cols_n(4, s, r, n_cols); return;
    case 128: linear_cols_n(8, s, r, n_cols); return;
    case 256: linear_cols_n(16, s, r, n_cols); return;
    default:  break;
    }
    for (uint32_t c = 0; c < n_cols; c++, one.v++, one.y++)
        k_linear(s + (size_t)c * r->n, &one);
}

static void k_linear_each(float *s, const struct scan_rows *r)
{
#define FIXED(nv) linear_n(nv, true, s, r)
    SCAN_BY_WIDTH(s, r, FIXED, linear_any(true, s, r));
#undef FIXED
}

static void k_delta(float *s, const struct scan_rows *r)
{
#define FIXED(nv) delta_n(nv, false, s, r)
    SCAN_BY_WIDTH(s, r, FIXED, delta_any(false, s, r));
#undef FIXED
}

static void k_delta_each(float *s, const struct scan_rows *r)
{
#define FIXED(nv) delta_n(nv, true, s, r)
    SCAN_BY_WIDTH(s, r, FIXED, delta_any(true, s, r));
#undef FIXED
}

static void k_wkv(float *s, const struct scan_rows *r)
{
#define FIXED(nv) wkv_n(nv, s, r)
    SCAN_BY_WIDTH(s, r, FIXED, wkv_any(s, r));
#undef FIXED
}

static void k_dots(float *y, const float *w, const float *x, uint32_t n_out, uint32_t n)
{
    for (uint32_t i = 0; i < n_out; i++)
        y[i] = dot_any(w + (size_t)i * n, x, n);
}

static void k_conv(float *y, const float *bias, const float *kernel, const float *const *u,
                   uint32_t n_taps, uint32_t n)
{
    uint32_t c = 0;

    for (; c + SCAN_LANES <= n; c += SCAN_LANES) {
        lanes_t sum = { 0 }, w, x;

        if (bias)
            load(&sum, bias + c);
        for (uint32_t j = 0; j < n_taps; j++) {
            load(&w, kernel + (size_t)j * n + c);
            load(&x, u[j] + c);
            sum += w * x;
        }
        memcpy(y + c, &sum, sizeof sum);
    }
    for (; c < n; c++) {
        y[c] = bias ? bias[c] : 0;
        for (uint32_t j = 0; j < n_taps; j++)
            y[c] += kernel[(size_t)j * n + c] * u[j][c];
    }
}

const struct scan_kernels SCAN_TABLE = {
    .linear = k_linear, .linear_cols = k_linear_cols, .linear_each = k_linear_each,
    .delta = k_delta, .delta_each = k_delta_each, .wkv = k_wkv, .dots = k_dots, .conv = k_conv,
};
