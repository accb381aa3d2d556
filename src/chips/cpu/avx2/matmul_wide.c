/* matmul_wide.c: quantised types by way of their expanded form, AVX2 and AVX-VNNI; see
 * wide.h. The arithmetic of avx512/matmul_wide.c. */
#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/avx2/q8_tile.h"

#ifdef __AVXVNNI__
#define WIDE_FLIP 0
#else
#define WIDE_FLIP 0x80
#endif

static inline void wide_halves(float *dst, const uint8_t *src)
{
    _mm256_storeu_ps(dst, half_scale(src));
    _mm256_storeu_ps(dst + 8, half_scale(src + 16));
}

static inline void wide_levels(uint8_t *dst, const uint8_t *codes, const int8_t *levels)
{
    const __m128i t = _mm_xor_si128(_mm_loadu_si128((const void *)levels),
                                    _mm_set1_epi8((char)(0x80 ^ WIDE_FLIP)));
    const __m256i table = _mm256_broadcastsi128_si256(t);

    for (unsigned i = 0; i < 64; i += 32)
        _mm256_store_si256((__m256i *)(void *)(dst + i),
                           _mm256_shuffle_epi8(table, load256(codes + i)));
}

#include "chips/cpu/wide_body.h"

ALWAYS_INLINE __m256 floats_at(const uint8_t *block, const unsigned i)
{
    return _mm256_load_ps((const void *)(block + WIDE_W + WIDE_F * i));
}

/* Lanes 8 h …: block points at their part. */
ALWAYS_INLINE void one_scale(__m256 *acc, const struct cursor *c, const uint8_t *block,
                             const unsigned with_min, const unsigned R)
{
    __m256i s[R_MAX];

    start8(s, c->b32, R);
    dot8(s, block, c->q, 0, 8, R);
    finish(acc, s, floats_at(block, 0), c->d, R);
    if (with_min)
        EACH_ROW(R)
            acc[r] = _mm256_fmadd_ps(floats_at(block, 1), _mm256_set1_ps(c->ds[r]), acc[r]);
}

ALWAYS_INLINE void two_scales(__m256 *acc, const struct cursor *c, const uint8_t *block,
                              const unsigned with_min, const unsigned R)
{
    __m256i s[R_MAX];
    __m256 u[R_MAX];

    start8(s, c->b16, R);
    dot8(s, block, c->q, 0, 4, R);
    EACH_ROW(R)
        u[r] = _mm256_mul_ps(_mm256_cvtepi32_ps(s[r]), floats_at(block, 0));
    start8(s, c->b16 + R, R);
    dot8(s, block, c->q, 4, 4, R);
    EACH_ROW(R)
        u[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[r]), floats_at(block, 1), u[r]);
    if (with_min)
        EACH_ROW(R) {
            u[r] = _mm256_fmadd_ps(floats_at(block, 2), _mm256_cvtepi32_ps(bcast32(c->b16 + r)),
                                   u[r]);
            u[r] = _mm256_fmadd_ps(floats_at(block, 3),
                                   _mm256_cvtepi32_ps(bcast32(c->b16 + R + r)), u[r]);
        }
    EACH_ROW(R)
        acc[r] = _mm256_fmadd_ps(u[r], _mm256_set1_ps(c->d[r]), acc[r]);
}

ALWAYS_INLINE void wide(float *sum, const struct tile *t, const uint8_t *p, size_t n,
                        const unsigned R, const unsigned n_scales, const unsigned with_min)
{
    struct cursor c = cursor_of(t);
    __m256 acc[2][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n; i++, p += wide_block_bytes(n_scales, with_min)) {
#pragma GCC unroll 2
        for (unsigned h = 0; h < 2; h++) {
            if (n_scales == 1)
                one_scale(acc[h], &c, p + 32 * h, with_min, R);
            else
                two_scales(acc[h], &c, p + 32 * h, with_min, R);
        }
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
    WIDE_KERNEL(S, M, 1) WIDE_KERNEL(S, M, 2) WIDE_KERNEL(S, M, 3) WIDE_KERNEL(S, M, 4)
WIDE_KERNELS(1, 0)
WIDE_KERNELS(1, 1)
WIDE_KERNELS(2, 0)
WIDE_KERNELS(2, 1)

#define WIDE_MATMUL(name, S, M)                                                          \
    static const struct blocking name##_wide = {                                         \
        .rows_max = R_MAX, .panels_max = 1, .expand = expand_##name,                     \
        .parts = TILE_D | ((S) == 1 ? TILE_B32 : TILE_B16) | ((S) == 1 && (M) ? TILE_DS : 0), \
        .fn = { [1] = { wide_##S##_##M##_1 }, [2] = { wide_##S##_##M##_2 },              \
                [3] = { wide_##S##_##M##_3 }, [4] = { wide_##S##_##M##_4 } },            \
    };                                                                                   \
    void ISA(matmul_##name)(const struct matmul_args *a)                                 \
    {                                                                                    \
        matmul_blocked(a, &name##_wide);                                                 \
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
