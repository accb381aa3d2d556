/* matmul_wide.c: quantised types by way of their expanded form, AVX-512 VNNI; see
 * wide.h. Arithmetic per output, in ascending order of blocks of 32:
 *   one scale:   acc = fma(float(dot), scale * d, acc); acc = fma(min, d * sum, acc)
 *   two scales:  u = float(dot0) * scale0; u = fma(float(dot1), scale1, u);
 *                u = fma(min_k, float(b16_k), u) for k = 0, 1; acc = fma(u, d, acc) */
#include "chips/cpu/avx512/matmul.h"
#include "chips/cpu/avx512/q8_tile.h"

#define WIDE_FLIP 0
#define WIDE_MANY

static inline void wide_halves(float *dst, const uint8_t *src)
{
    _mm512_storeu_ps(dst, half_scale(src));
}

static inline void wide_levels(uint8_t *dst, const uint8_t *codes, const int8_t *levels)
{
    const __m128i t = _mm_loadu_si128((const void *)levels);
    const __m512i table = _mm512_broadcast_i32x4(_mm_xor_si128(t, _mm_set1_epi8((char)0x80)));

    _mm512_store_si512(dst, _mm512_shuffle_epi8(table, load512(codes)));
}

#include "chips/cpu/wide_body.h"

ALWAYS_INLINE __m512 floats_at(const uint8_t *block, const unsigned i)
{
    return _mm512_load_ps((const void *)(block + WIDE_W + WIDE_F * i));
}

ALWAYS_INLINE void four_words(__m512i *s, const uint8_t *w, const int8_t *q, const unsigned first,
                              const unsigned R)
{
#pragma GCC unroll 4
    for (unsigned k = 0; k < 4; k++)
        dot(s, load512(w + 64 * (first + k)), q, first + k, R);
}

ALWAYS_INLINE void one_scale(__m512 *acc, const struct cursor *c, const uint8_t *block,
                             const unsigned with_min, const unsigned R)
{
    __m512i s[R_MAX];

    start(s, c->b32, R);
    four_words(s, block, c->q, 0, R);
    four_words(s, block, c->q, 4, R);
    finish(acc, s, floats_at(block, 0), c->d, R);
    if (with_min)
        EACH_ROW(R)
            acc[r] = _mm512_fmadd_ps(floats_at(block, 1), _mm512_set1_ps(c->ds[r]), acc[r]);
}

ALWAYS_INLINE void two_scales(__m512 *acc, const struct cursor *c, const uint8_t *block,
                              const unsigned with_min, const unsigned R)
{
    const __m512 scale0 = floats_at(block, 0), scale1 = floats_at(block, 1);
    __m512i s0[R_MAX], s1[R_MAX];

    start(s0, c->b16, R);
    four_words(s0, block, c->q, 0, R);
    start(s1, c->b16 + R, R);
    four_words(s1, block, c->q, 4, R);
    EACH_ROW(R) {
        __m512 u = _mm512_mul_ps(_mm512_cvtepi32_ps(s0[r]), scale0);

        u = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s1[r]), scale1, u);
        if (with_min) {
            u = _mm512_fmadd_ps(floats_at(block, 2), _mm512_cvtepi32_ps(bcast32(c->b16 + r)), u);
            u = _mm512_fmadd_ps(floats_at(block, 3), _mm512_cvtepi32_ps(bcast32(c->b16 + R + r)),
                                u);
        }
        acc[r] = _mm512_fmadd_ps(u, _mm512_set1_ps(c->d[r]), acc[r]);
    }
}

ALWAYS_INLINE void wide(float *sum, const struct tile *t, const uint8_t *p, size_t n,
                        const unsigned R, const unsigned n_scales, const unsigned with_min)
{
    struct cursor c = cursor_of(t);
    __m512 regs[R_REGS], *acc = sums_load(regs, sum, R);

    for (size_t i = 0; i < n; i++, p += wide_block_bytes(n_scales, with_min)) {
        fetch(&c, R);
        if (n_scales == 1)
            one_scale(acc, &c, p, with_min, R);
        else
            two_scales(acc, &c, p, with_min, R);
        cursor_next(&c, R);
    }
    sums_store(sum, acc, R);
}

#define WIDE_KERNEL(S, M, R)                                                             \
    static void wide_##S##_##M##_##R(float *sum, const struct tile *t, const uint8_t *p, \
                                     size_t panel_bytes, size_t n)                       \
    {                                                                                    \
        (void)panel_bytes;                                                               \
        wide(sum, t, p, n, R, S, M);                                                     \
    }
#define WIDE_KERNELS(S, M)                                                               \
    WIDE_KERNEL(S, M, 1) WIDE_KERNEL(S, M, 2) WIDE_KERNEL(S, M, 3) WIDE_KERNEL(S, M, 4)  \
    WIDE_KERNEL(S, M, 6) WIDE_KERNEL(S, M, 8) WIDE_KERNEL(S, M, 12)
WIDE_KERNELS(1, 0)
WIDE_KERNELS(1, 1)
WIDE_KERNELS(2, 0)
WIDE_KERNELS(2, 1)

#define WIDE_FN(S, M)                                                                    \
    .rows_max = (S) == 1 ? 12 : 8, .panels_max = 1,                                                     \
    .parts = TILE_D | ((S) == 1 ? TILE_B32 : TILE_B16) | ((S) == 1 && (M) ? TILE_DS : 0), \
    .fn = { [1] = { wide_##S##_##M##_1 }, [2] = { wide_##S##_##M##_2 },                  \
            [3] = { wide_##S##_##M##_3 }, [4] = { wide_##S##_##M##_4 },                  \
            [6] = { wide_##S##_##M##_6 }, [8] = { wide_##S##_##M##_8 },                  \
            [12] = { wide_##S##_##M##_12 } }
#define WIDE_TYPE(name, S, M)                                                            \
    const struct blocking name##_wide_avx512 = { .expand = expand_##name, WIDE_FN(S, M) };
#define WIDE_MATMUL(name, S, M)                                                          \
    static WIDE_TYPE(name, S, M)                                                         \
    void matmul_##name##_avx512(const struct matmul_args *a)                             \
    {                                                                                    \
        matmul_blocked(a, &name##_wide_avx512);                                          \
    }
WIDE_MATMUL(q4_1, 1, 1)
WIDE_MATMUL(q5_0, 1, 0)
WIDE_MATMUL(q5_1, 1, 1)
WIDE_MATMUL(iq4_nl, 1, 0)
WIDE_MATMUL(iq4_xs, 1, 0)
WIDE_MATMUL(mxfp4, 1, 0)
WIDE_MATMUL(nvfp4, 2, 0)
WIDE_MATMUL(q2_k, 2, 1)
WIDE_MATMUL(q3_k, 2, 0)
WIDE_MATMUL(tq2_0, 1, 0)
WIDE_TYPE(q5_k, 1, 1)
WIDE_TYPE(q6_k, 2, 0)
