/* matmul_wide.c: quantised types by way of their expanded form, AVX2 and AVX-VNNI; see
 * wide.h. The arithmetic of avx512/matmul_wide.c. */
#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/avx2/q8_tile.h"

#define WIDE_FLIP 0
#define WIDE_MANY

static inline void wide_halves(float *dst, const uint8_t *src)
{
    _mm256_storeu_ps(dst, half_scale(src));
    _mm256_storeu_ps(dst + 8, half_scale(src + 16));
}

static inline void wide_levels(uint8_t *dst, const uint8_t *codes, const int8_t *levels)
{
    const __m128i t = _mm_xor_si128(_mm_loadu_si128((const void *)levels),
                                    _mm_set1_epi8((char)0x80));
    const __m256i table = _mm256_broadcastsi128_si256(t);

    for (unsigned i = 0; i < 64; i += 32)
        _mm256_store_si256((__m256i *)(void *)(dst + i),
                           _mm256_shuffle_epi8(table, load256(codes + i)));
}

#include "chips/cpu/wide_body.h"

/* What a type's bytes are: weights of `bits` bits above `base`; 128 is zero. VNNI takes them
 * whole. */
struct range { unsigned bits, base; };

/* What base leaves of the offset: -(128 - base) times the sum is b32 >> this. */
ALWAYS_INLINE int bias_shift(const unsigned base)
{
    return base == 0 ? 0 : base == 96 ? 2 : base == 112 ? 3 : base == 124 ? 5 : 7;
}

ALWAYS_INLINE void dot_wide(__m256i s[2][R_MAX], const struct cursor *c, const int32_t *bias,
                            const uint8_t *block, const struct range range, const unsigned k,
                            const unsigned n, const unsigned R)
{
#ifdef __AVXVNNI__
    const struct weights w = { .form = WHOLE_BYTES, .bits = 8, .q = block };

    (void)range;
    start(s, bias, 0, R);
#else
    const struct weights w = { .form = WHOLE_BYTES, .bits = range.bits, .q = block,
                               .j = range.base };

    start(s, range.base == 128 ? NULL : bias, bias_shift(range.base), R);
#endif
    dot(s, &w, c->q, k, n, R);
}

ALWAYS_INLINE __m256 floats_at(const uint8_t *block, const unsigned i, const unsigned h)
{
    return _mm256_load_ps((const void *)(block + WIDE_W + WIDE_F * i + 32 * h));
}

ALWAYS_INLINE void one_scale(__m256 acc[2][R_MAX], const struct cursor *c, const uint8_t *block,
                             const unsigned with_min, const struct range range, const unsigned R)
{
    const __m256 scale[2] = { floats_at(block, 0, 0), floats_at(block, 0, 1) };
    __m256i s[2][R_MAX];

    dot_wide(s, c, c->b32, block, range, 0, 8, R);
    finish(acc, s, scale, c->d, R);
    if (with_min)
        EACH_ROW(R) EACH_HALF
            acc[h][r] = _mm256_fmadd_ps(floats_at(block, 1, h), _mm256_set1_ps(c->ds[r]),
                                        acc[h][r]);
}

ALWAYS_INLINE void two_scales(__m256 acc[2][R_MAX], const struct cursor *c, const uint8_t *block,
                              const unsigned with_min, const struct range range, const unsigned R)
{
    __m256i s[2][R_MAX];
    __m256 u[2][R_MAX];

    dot_wide(s, c, c->b16, block, range, 0, 4, R);
    EACH_ROW(R) EACH_HALF
        u[h][r] = _mm256_mul_ps(_mm256_cvtepi32_ps(s[h][r]), floats_at(block, 0, h));
    dot_wide(s, c, c->b16 + R, block, range, 4, 4, R);
    EACH_ROW(R) EACH_HALF {
        u[h][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[h][r]), floats_at(block, 1, h), u[h][r]);
        if (with_min) {
            u[h][r] = _mm256_fmadd_ps(floats_at(block, 2, h), _mm256_cvtepi32_ps(bcast32(c->b16 + r)),
                                      u[h][r]);
            u[h][r] = _mm256_fmadd_ps(floats_at(block, 3, h),
                                      _mm256_cvtepi32_ps(bcast32(c->b16 + R + r)), u[h][r]);
        }
        acc[h][r] = _mm256_fmadd_ps(u[h][r], _mm256_set1_ps(c->d[r]), acc[h][r]);
    }
}

ALWAYS_INLINE void wide(float *sum, const struct tile *t, const uint8_t *p, size_t n,
                        const unsigned R, const unsigned n_scales, const unsigned with_min,
                        const struct range range)
{
    struct cursor c = cursor_of(t);
    __m256 acc[2][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n; i++, p += wide_block_bytes(n_scales, with_min)) {
        if (n_scales == 1)
            one_scale(acc, &c, p, with_min, range, R);
        else
            two_scales(acc, &c, p, with_min, range, R);
        cursor_next(&c, R);
    }
    sums_store(sum, acc, R);
}

/* Kernels of S scales, M minima, weights of BITS bits above BASE. */
#define WIDE_KERNELS(S, M, BITS, BASE)                                                    \
    ALWAYS_INLINE void wide_##S##M##BITS##_##BASE(float *sum, const struct tile *t,       \
                                                  const uint8_t *p, size_t n,             \
                                                  const unsigned R)                       \
    {                                                                                     \
        wide(sum, t, p, n, R, S, M, (struct range){ BITS, BASE });                        \
    }                                                                                     \
    Q8_KERNELS(wide_##S##M##BITS##_##BASE)
WIDE_KERNELS(1, 0, 4, 127)
WIDE_KERNELS(1, 0, 5, 112)
WIDE_KERNELS(1, 0, 8, 0)
WIDE_KERNELS(1, 1, 4, 128)
WIDE_KERNELS(1, 1, 5, 128)
WIDE_KERNELS(2, 0, 4, 124)
WIDE_KERNELS(2, 0, 5, 112)
WIDE_KERNELS(2, 0, 6, 96)
WIDE_KERNELS(2, 1, 4, 128)

#define WIDE_BLOCKING(name, S, M, BITS, BASE)                                             \
    {                                                                                     \
        .rows_max = R_MAX, .panels_max = 1, .expand = expand_##name,                      \
        .parts = TILE_D | ((S) == 1 ? TILE_B32 : TILE_B16) | ((S) == 1 && (M) ? TILE_DS : 0), \
        .fn = Q8_FN(wide_##S##M##BITS##_##BASE),                                          \
    }
#define WIDE_MATMUL(name, S, M, BITS, BASE)                                               \
    static const struct blocking name##_wide = WIDE_BLOCKING(name, S, M, BITS, BASE);     \
    void ISA(matmul_##name)(const struct matmul_args *a)                                  \
    {                                                                                     \
        matmul_blocked(a, &name##_wide);                                                  \
    }
WIDE_MATMUL(q4_1, 1, 1, 4, 128)
WIDE_MATMUL(q5_0, 1, 0, 5, 112)
WIDE_MATMUL(q5_1, 1, 1, 5, 128)
WIDE_MATMUL(iq4_nl, 1, 0, 8, 0)
WIDE_MATMUL(iq4_xs, 1, 0, 8, 0)
WIDE_MATMUL(mxfp4, 1, 0, 5, 112)
WIDE_MATMUL(nvfp4, 2, 0, 5, 112)
WIDE_MATMUL(q2_k, 2, 1, 4, 128)
WIDE_MATMUL(q3_k, 2, 0, 4, 124)
WIDE_MATMUL(tq2_0, 1, 0, 4, 127)

const struct blocking ISA(q5_k_wide) = WIDE_BLOCKING(q5_k, 1, 1, 5, 128);
const struct blocking ISA(q6_k_wide) = WIDE_BLOCKING(q6_k, 2, 0, 6, 96);
