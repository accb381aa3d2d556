/* kernels.h: contracts of the CPU kernels, and the table they are called through.
 *
 * kernels_init() starts from the scalar references and overwrites upward by the
 * features in the mask, so that tests can pass any mask and one binary serves
 * every machine. Each kernel is a pure function of its arguments: no globals, no
 * allocation. Results do not depend on how the caller cuts rows and panels into
 * calls. Named by their mathematics, never by a model. tests/checkkern compares
 * every entry of every mask with the reference. */
#ifndef CHIPS_CPU_KERNELS_H
#define CHIPS_CPU_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "chips/cpu/drop.h"
#include "chips/cpu/features.h"
#include "chips/cpu/pack.h"
#include "chips/kv_layout.h"
#include "chips/program.h"

/* ---- activations ---- */

#define ACT_BLOCK 32u
/* One prepared row of n_in activations in ACTF_Q8, blocks = ceil(n_in/32) (missing
 * columns are zeros): int8 q[blocks*32], f32 d[blocks], f32 ds[blocks] (d times the sum
 * of the block's q), int32 b32[blocks] and b16[blocks*2] (-128 times the sum of q over
 * each 32 and each 16), each part 64-byte aligned; offsets in layout.h.
 * d = amax/127 of the block, q = round_half_even(x/d) in -127..127; zeros when d is 0.
 * NaN or infinity in a block makes its d NaN, so that the result shows it. */
size_t act_row_bytes(enum act_format f, uint32_t n_in);     /* a multiple of 64 */
typedef void act_prepare_fn(void *out, const float *x, uint32_t n_in);

/* ---- matrix product ---- */

#define MATMUL_SCRATCH ((size_t)512 << 10)

struct matmul_args {
    float          *out;            /* row r: out + r*out_stride; columns are output rows of W */
    size_t          out_stride;     /* in floats */
    const void     *act;            /* prepared rows */
    size_t          act_stride;     /* in bytes */
    const uint32_t *act_index;      /* row r reads prepared row act_index[r]; NULL: r */
    const uint32_t *out_index;      /* row r writes out row out_index[r]; NULL: r */
    uint32_t        n_rows;
    const struct packed *w;
    uint32_t        mat;            /* which expert */
    uint32_t        first, last;    /* panels */
    void           *scratch;        /* MATMUL_SCRATCH bytes of the worker's own, 64-byte aligned */
};
/* out[r][o] = sum_i act[r][i] * W[o][i] for the rows o < n_out of the panels. */
typedef void matmul_fn(const struct matmul_args *a);

/* How to cut a product into calls: at most so many rows and panels each. One row: few
 * panels, so that threads share the weights evenly. Many rows: the call copies its rows into
 * tiles once and reuses them for every panel, so few rows that stay in the cache and many
 * panels; hand out all panels of some rows before the next rows. Depends on the shape alone; any other cut gives the same bits, only slower. */
struct matmul_cut { uint32_t rows, panels; };
struct matmul_cut matmul_cut(const struct packed *w, uint32_t n_rows);

/* ---- rows of floats ---- */

/* y = x / sqrt(mean(x*x) + eps) * gain; gain may be NULL; y may be x. */
typedef void rms_norm_fn(float *y, const float *x, const float *gain, size_t n, float eps);
/* y = (x - mean) / sqrt(var + eps) * gain + bias; gain, bias may be NULL; y may be x. */
typedef void layer_norm_fn(float *y, const float *x, const float *gain, const float *bias,
                           size_t n, float eps);
typedef void l2_norm_fn(float *y, const float *x, size_t n, float eps);
/* y = softmax of x, the maximum subtracted first; y may be x. */
typedef void softmax_fn(float *y, const float *x, size_t n);
typedef void unary_fn(float *y, const float *x, size_t n, const struct act_args *a);
typedef void gated_fn(float *y, const float *gate, const float *up, size_t n,
                      const struct act_args *a);
typedef void add_fn(float *y, const float *a, const float *b, size_t n);
typedef void mul_fn(float *y, const float *a, const float *b, size_t n);
typedef void affine_fn(float *y, const float *x, float scale, float offset, size_t n);
typedef void axpy_fn(float *y, const float *x, float a, size_t n);      /* y += a x */
/* Turns n_rot columns of n_heads heads of head_dim in place; cos_sin: [n_rot/2][2]. */
typedef void rope_fn(float *x, const float *cos_sin, uint32_t n_heads, uint32_t head_dim,
                     uint32_t n_rot, enum rope_pairing pairing);

/* All query heads of one KV head for consecutive rows of one stream; defined in
 * attention.h. The arithmetic per (row, head) is fixed: chunks of KV_CHUNK_TOKENS
 * absolute positions, each with its own maximum, merged in ascending order. */
struct attn_task;
typedef void attention_fn(const struct attn_task *t);
/* Merges the partials of n_segments segments per query and writes t->out; segment s of
 * query i lies at t->partial + i*t->partial_stride + s*segment_stride. */
typedef void attention_merge_fn(const struct attn_task *t, uint32_t n_segments,
                                size_t segment_stride);
/* One row's keys and values, all KV heads, into the cache: k [n_kv_heads*k_dim],
 * v [n_kv_heads*v_dim]; token counted from the page's start. */
typedef void kv_store_fn(const struct kv_layout *l, void *page, sid state, uint32_t token,
                         const float *k, const float *v);

struct kernels {
    uint32_t         mask;          /* features really used */
    act_prepare_fn  *act_prepare[ACTF_COUNT];
    matmul_fn       *matmul[DTYPE_COUNT];   /* by packed dtype; never NULL after init for
                                             * types that pack_describe accepts */
    rms_norm_fn     *rms_norm;
    layer_norm_fn   *layer_norm;
    l2_norm_fn      *l2_norm;
    softmax_fn      *softmax;
    unary_fn        *unary;
    gated_fn        *gated;
    add_fn          *add;
    mul_fn          *mul;
    affine_fn       *affine;
    axpy_fn         *axpy;
    rope_fn         *rope;
    drop_fn         *drop;
    attention_fn    *attention;
    attention_merge_fn *attention_merge;
    kv_store_fn     *kv_store;
};

/* mask is and-ed with what the machine has. */
void kernels_init(struct kernels *k, uint32_t mask);

/* Each ISA folder's parts, called in this order by kernels_init: matrix products, then
 * rows of floats and attention. */
void kernels_init_ref_matmul(struct kernels *k);
void kernels_init_ref_rows(struct kernels *k);
void kernels_init_ref_attention(struct kernels *k);     /* called by the former */
void kernels_init_avx2_matmul(struct kernels *k, uint32_t mask);
void kernels_init_avx2_rows(struct kernels *k, uint32_t mask);
void kernels_init_avx512_matmul(struct kernels *k, uint32_t mask);
void kernels_init_avx512_rows(struct kernels *k, uint32_t mask);
void kernels_init_avx512_attention(struct kernels *k);     /* with VNNI */
void kernels_init_neon_matmul(struct kernels *k, uint32_t mask);
void kernels_init_neon_rows(struct kernels *k, uint32_t mask);

#endif
