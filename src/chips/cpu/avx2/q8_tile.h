/* q8_tile.h: products of quantised weights with ACTF_Q8 activations, AVX2.
 *
 * Weights are used as small unsigned numbers. Without VNNI, vpmaddubsw sums pairs
 * of products in 16 bits, and those of 4-, 5- and 6-bit weights are added there
 * for 8, 4 and 2 words before they are widened: 8 * 2 * 15 * 127, 4 * 2 * 31 * 127
 * and 2 * 2 * 63 * 127 all stay below 2^15. 8-bit weights are split into sign and
 * magnitude, the sign moved to the activation: 2 * 128 * 127 fits. Sums of a block
 * are exact, and the float arithmetic is that of avx512/q8_tile.h in the same
 * order, so both give the same bits. */
#ifndef CHIPS_CPU_AVX2_Q8_TILE_H
#define CHIPS_CPU_AVX2_Q8_TILE_H

#include "chips/cpu/avx2/vec.h"

#define R_MAX 4

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

/* acc[half of the lanes][row] */
ALWAYS_INLINE void sums_load(__m256 acc[2][R_MAX], const float *sum, const unsigned R)
{
    EACH_ROW(R) {
        acc[0][r] = _mm256_load_ps(sum + PACK_ROWS * r);
        acc[1][r] = _mm256_load_ps(sum + PACK_ROWS * r + 8);
    }
}
ALWAYS_INLINE void sums_store(float *sum, __m256 acc[2][R_MAX], const unsigned R)
{
    EACH_ROW(R) {
        _mm256_store_ps(sum + PACK_ROWS * r, acc[0][r]);
        _mm256_store_ps(sum + PACK_ROWS * r + 8, acc[1][r]);
    }
}

/* s = bias >> shift: -128 times the sum, down to the type's own offset */
ALWAYS_INLINE void start(__m256i *s, const int32_t *bias, const int shift, const unsigned R)
{
    EACH_ROW(R)
        s[r] = _mm256_srai_epi32(bcast32(bias + r), shift);
}
ALWAYS_INLINE void start_zero(__m256i *s, const unsigned R)
{
    EACH_ROW(R)
        s[r] = _mm256_setzero_si256();
}

/* s += the unsigned weights w of words k … k + n - 1 times R rows; n words fit 16 bits. */
ALWAYS_INLINE void dot(__m256i *s, const __m256i *w, const int8_t *q, const unsigned k,
                       const unsigned n, const unsigned R)
{
#ifdef __AVXVNNI__
#pragma GCC unroll 8
    for (unsigned i = 0; i < n; i++)
        EACH_ROW(R)
            s[r] = _mm256_dpbusd_avx_epi32(s[r], w[i], bcast32(q + ACT_BLOCK * r + 4 * (k + i)));
#else
    const __m256i ones = _mm256_set1_epi16(1);

    EACH_ROW(R) {
        __m256i t = _mm256_maddubs_epi16(w[0], bcast32(q + ACT_BLOCK * r + 4 * k));

#pragma GCC unroll 8
        for (unsigned i = 1; i < n; i++)
            t = _mm256_add_epi16(t, _mm256_maddubs_epi16(w[i], bcast32(q + ACT_BLOCK * r +
                                                                       4 * (k + i))));
        s[r] = _mm256_add_epi32(s[r], _mm256_madd_epi16(t, ones));
    }
#endif
}

/* s += the 8-bit weights at w, words k … k + n - 1, 64 bytes apart, times R rows. With VNNI
 * weights stand plus 128, else signed, and their sign goes to the activation. */
ALWAYS_INLINE void dot8(__m256i *s, const uint8_t *w, const int8_t *q, const unsigned k,
                        const unsigned n, const unsigned R)
{
#pragma GCC unroll 8
    for (unsigned i = k; i < k + n; i++) {
        const __m256i v = load256(w + 64 * i);
#ifdef __AVXVNNI__
        dot(s, &v, q, i, 1, R);
#else
        const __m256i magnitude = _mm256_abs_epi8(v), ones = _mm256_set1_epi16(1);

        EACH_ROW(R) {
            const __m256i x = _mm256_sign_epi8(bcast32(q + ACT_BLOCK * r + 4 * i), v);

            s[r] = _mm256_add_epi32(s[r], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, x),
                                                            ones));
        }
#endif
    }
}
/* What dot8() starts from: the bias of unsigned weights, or zero. */
ALWAYS_INLINE void start8(__m256i *s, const int32_t *bias, const unsigned R)
{
#ifdef __AVXVNNI__
    start(s, bias, 0, R);
#else
    (void)bias;
    start_zero(s, R);
#endif
}

/* acc += float(s) * (scale * d) */
ALWAYS_INLINE void finish(__m256 *acc, const __m256i *s, __m256 scale, const float *d,
                          const unsigned R)
{
    EACH_ROW(R)
        acc[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[r]),
                                 _mm256_mul_ps(scale, _mm256_set1_ps(d[r])), acc[r]);
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
    };

#endif
