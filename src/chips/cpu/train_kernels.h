/* train_kernels.h: kernels that only the backward pass needs, in a table per instruction set as
 * scan.h has them. Pure functions of their arguments; every sum has one order, which depends on
 * the shape alone. */
#ifndef CHIPS_CPU_TRAIN_KERNELS_H
#define CHIPS_CPU_TRAIN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chips/program.h"

/* g[o][i] += sum over r of dy[r][o] x[r][i], r ascending within blocks of OUTER_DEPTH rows; the
 * index arrays name rows instead, or are NULL. n_out <= OUTER_MAX_OUT, n_in <= OUTER_MAX_IN. */
#define OUTER_MAX_OUT 128u
#define OUTER_MAX_IN 384u
#define OUTER_DEPTH 128u
#define OUTER_SCRATCH ((size_t)(OUTER_MAX_OUT + 8 + OUTER_MAX_IN + 48) * OUTER_DEPTH * 4)
struct outer_args {
    float          *g;
    const float    *dy, *x;
    size_t          g_stride, dy_stride, x_stride;      /* floats */
    const uint32_t *dy_index, *x_index;
    uint32_t        n_rows, n_out, n_in;
    void           *scratch;        /* OUTER_SCRATCH bytes, 64-byte aligned */
};
typedef void outer_fn(const struct outer_args *a);

/* c[m][n] (+)= sum over k of a(m, k) b[k][n]; a(m, k) is a[m * a_m + k * a_k]. */
struct gemm_args {
    float       *c;
    const float *a, *b;
    size_t       c_stride, a_m, a_k, b_stride;          /* floats */
    uint32_t     m, n, k;
    bool         add;               /* to what c holds */
};
typedef void gemm_fn(const struct gemm_args *g);

/* Backward of one group of a norm: dx from x and dy; dgain and dbias are added to. Any of dx,
 * gain, dgain, dbias may be NULL. add: to what dx holds. */
struct norm_back_args {
    float       *dx, *dgain, *dbias;
    const float *x, *dy, *gain;
    enum norm_kind kind;
    float        eps;
    bool         add;
};
typedef void norm_back_fn(const struct norm_back_args *a, size_t n);
/* dx (+)= dy f'(x) */
typedef void unary_back_fn(float *dx, const float *x, const float *dy, size_t n,
                           const struct act_args *a, bool add);
/* y = f(gate) up; dgate or dup may be NULL. */
struct gated_back_args {
    float       *dgate, *dup;
    const float *gate, *up, *dy;
    const struct act_args *act;
    bool         add_gate, add_up;
};
typedef void gated_back_fn(const struct gated_back_args *a, size_t n);
/* Scores of one query to weights: p[j] = exp(s[j] - max) / sum, in place; top and extra begin the
 * maximum and, as exp(extra - max), the sum (both -INFINITY: none). Returns the extra one's weight. */
typedef float weights_fn(float *s, size_t n, float extra);
/* ds[j] = p[j] (dp[j] - mean) scale in place of dp, with mean = sum of p dp, which it returns. */
typedef float scores_back_fn(float *dp, const float *p, size_t n, float scale);
typedef float largest_fn(const float *x, size_t n);

/* To nearest even, as f32_to_bf16(). */
typedef void to_bf16_fn(uint16_t *y, const float *x, size_t n);
/* Words of two rows: lo[i] in the lower half, hi[i] in the upper; hi may be NULL: zeros. */
typedef void bf16_pairs_fn(uint32_t *y, const float *lo, const float *hi, size_t n);

/* x as a cache of halves gives it back. */
typedef void round_f16_fn(float *x, size_t n);

struct train_kernels {
    outer_fn       *outer, *outer_bf16;     /* operands as they are; rounded to BF16 */
    gemm_fn        *gemm;
    norm_back_fn   *norm_back;
    unary_back_fn  *unary_back;
    gated_back_fn  *gated_back;
    weights_fn     *weights;
    scores_back_fn *scores_back;
    largest_fn     *largest;
    to_bf16_fn     *to_bf16;
    bf16_pairs_fn  *bf16_pairs;
    round_f16_fn   *round_f16;
};

extern const struct train_kernels train_ref;
#if defined(__x86_64__)
extern const struct train_kernels train_avx2, train_avx512;
outer_fn outer_bf16_dot_avx512;
#elif defined(__aarch64__)
extern const struct train_kernels train_neon;
#endif

/* The best of a kernels' mask (chips/cpu/features.h). */
void train_kernels_init(struct train_kernels *k, uint32_t mask);

#endif
