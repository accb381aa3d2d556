/* q8_tile.h: products of quantised weights with ACTF_Q8 activations, NEON.
 *
 * Four output rows at a time: a register holds four inputs of each. With the dot product
 * extension one instruction adds a word's four products to four lanes. Without it, words
 * are multiplied into 16 bits and summed there: four words of weights up to 63 (4 * 63 *
 * 127 < 2^15), two of 8-bit ones (2 * 128 * 127 < 2^15), then widened, each output in two
 * halves that meet at the end. Sums of a block are exact, and the float arithmetic is that
 * of avx512/q8_tile.h in the same order, so all give the same bits. */
#ifndef CHIPS_CPU_NEON_Q8_TILE_H
#define CHIPS_CPU_NEON_Q8_TILE_H

#include "chips/cpu/neon/vec.h"

/* Where a kernel stands in its tile. */
struct cursor {
    const int8_t  *q;
    const float   *d, *ds;
    const int32_t *b32, *b16;
};

ALWAYS_INLINE struct cursor cursor_of(const struct tile *t)
{
    return (struct cursor){ t->q, t->d, t->ds, t->b32, t->b16 };
}
ALWAYS_INLINE void cursor_next(struct cursor *c, const unsigned R)
{
    c->q += ACT_BLOCK * R;
    c->d += R;
    c->ds += R;
    c->b32 += R;
    c->b16 += 2 * R;
}

/* acc[four lanes][row] */
ALWAYS_INLINE void sums_load(float32x4_t acc[QUADS][R_MAX], const float *sum, const unsigned R)
{
    EACH_ROW(R) EACH_QUAD
        acc[j][r] = vld1q_f32(sum + PACK_ROWS * r + 4 * j);
}
ALWAYS_INLINE void sums_store(float *sum, float32x4_t acc[QUADS][R_MAX], const unsigned R)
{
    EACH_ROW(R) EACH_QUAD
        vst1q_f32(sum + PACK_ROWS * r + 4 * j, acc[j][r]);
}

/* ---- sums of four outputs ---- */

#ifdef __ARM_FEATURE_DOTPROD
typedef struct { int32x4_t v; } isum;

ALWAYS_INLINE isum isum_of(int32_t bias) { return (isum){ vdupq_n_s32(bias) }; }
ALWAYS_INLINE float32x4_t isum_float(isum s) { return vcvtq_f32_s32(s.v); }

/* s += four words of weights times the sixteen activations at q. */
ALWAYS_INLINE isum dot_row(isum s, const int8x16_t *w, const int8_t *q, const unsigned n16)
{
    const int8x16_t x = vld1q_s8(q);

    (void)n16;
    s.v = vdotq_laneq_s32(s.v, w[0], x, 0);
    s.v = vdotq_laneq_s32(s.v, w[1], x, 1);
    s.v = vdotq_laneq_s32(s.v, w[2], x, 2);
    s.v = vdotq_laneq_s32(s.v, w[3], x, 3);
    return s;
}
#else
typedef struct { int32x4_t lo, hi; } isum;  /* pairs of partial sums: outputs 0, 1 and 2, 3 */

ALWAYS_INLINE isum isum_of(int32_t bias)
{
    const int32x4_t b = vreinterpretq_s32_u64(vdupq_n_u64((uint32_t)bias));

    return (isum){ b, b };
}
ALWAYS_INLINE float32x4_t isum_float(isum s) { return vcvtq_f32_s32(vpaddq_s32(s.lo, s.hi)); }

ALWAYS_INLINE isum dot_row(isum s, const int8x16_t *w, const int8_t *q, const unsigned n16)
{
    const int32x4_t all = vreinterpretq_s32_s8(vld1q_s8(q));
    const int8x16_t x[4] = {
        vreinterpretq_s8_s32(vdupq_laneq_s32(all, 0)), vreinterpretq_s8_s32(vdupq_laneq_s32(all, 1)),
        vreinterpretq_s8_s32(vdupq_laneq_s32(all, 2)), vreinterpretq_s8_s32(vdupq_laneq_s32(all, 3)),
    };

#pragma GCC unroll 2
    for (unsigned i = 0; i < 4; i += n16) {
        int16x8_t lo = vmull_s8(vget_low_s8(w[i]), vget_low_s8(x[i]));
        int16x8_t hi = vmull_high_s8(w[i], x[i]);

#pragma GCC unroll 4
        for (unsigned k = i + 1; k < i + n16; k++) {
            lo = vmlal_s8(lo, vget_low_s8(w[k]), vget_low_s8(x[k]));
            hi = vmlal_high_s8(hi, w[k], x[k]);
        }
        s.lo = vpadalq_s16(s.lo, lo);
        s.hi = vpadalq_s16(s.hi, hi);
    }
    return s;
}
#endif

/* s = bias >> shift: -128 times the sum, down to the type's own offset */
ALWAYS_INLINE void start(isum *s, const int32_t *bias, const int shift, const unsigned R)
{
    EACH_ROW(R)
        s[r] = isum_of(bias[r] >> shift);
}
ALWAYS_INLINE void start_zero(isum *s, const unsigned R)
{
    EACH_ROW(R)
        s[r] = isum_of(0);
}
/* s += the weights w of words k … k + 3 times R rows; products of n16 words fit 16 bits. */
ALWAYS_INLINE void dot(isum *s, const int8x16_t *w, const int8_t *q, const unsigned k,
                       const unsigned n16, const unsigned R)
{
    EACH_ROW(R)
        s[r] = dot_row(s[r], w, q + ACT_BLOCK * r + 4 * k, n16);
}
/* s += the signed 8-bit weights at p, words k … k + 3, 64 bytes apart, times R rows; flip
 * where they stand plus 128. */
ALWAYS_INLINE void dot8(isum *s, const uint8_t *p, const int8_t *q, const unsigned k,
                        const unsigned flip, const unsigned R)
{
    int8x16_t w[4];

#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        w[i] = load_s8(p + 64 * (k + i));
        if (flip)
            w[i] = veorq_s8(w[i], vdupq_n_s8(-128));
    }
    dot(s, w, q, k, 2, R);
}

/* acc += float(s) * (scale * d) */
ALWAYS_INLINE void finish(float32x4_t *acc, const isum *s, float32x4_t scale, const float *d,
                          const unsigned R)
{
    EACH_ROW(R)
        acc[r] = vfmaq_f32(acc[r], isum_float(s[r]), vmulq_n_f32(scale, d[r]));
}

/* Defines the kernels NAME_R from NAME(sum, tile, panel, n, R), and NAME_blocking. */
#define Q8_KERNEL(NAME, R)                                                         \
    static void NAME##_##R(float *sum, const struct tile *t, const uint8_t *panel, \
                           size_t panel_bytes, size_t n)                           \
    {                                                                              \
        (void)panel_bytes;                                                         \
        NAME(sum, t, panel, n, R);                                                 \
    }
#define Q8_KERNELS(NAME, PARTS)                                                    \
    Q8_KERNEL(NAME, 1) Q8_KERNEL(NAME, 2) Q8_KERNEL(NAME, 3) Q8_KERNEL(NAME, 4)    \
    static const struct blocking NAME##_blocking = {                               \
        .rows_max = R_MAX, .panels_max = 1, .parts = (PARTS),                      \
        .fn = { [1] = { NAME##_1 }, [2] = { NAME##_2 }, [3] = { NAME##_3 },        \
                [4] = { NAME##_4 } },                                              \
    };                                                                             \
    void ISA(matmul_##NAME)(const struct matmul_args *a)                           \
    {                                                                              \
        matmul_blocked(a, &NAME##_blocking);                                       \
    }

#endif
