/* matmul_float.c: F32, F16 and BF16 weights, AVX2, and the general path of types
 * without a layout. Per output one chain of fused multiply-adds in ascending
 * order of inputs: the bits of AVX-512 without BF16. */
#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/avx2/vec.h"

ALWAYS_INLINE __m256 bcast_f32(const uint8_t *x) { return _mm256_castsi256_ps(bcast32(x)); }

ALWAYS_INLINE void add(__m256 *acc, __m256 w0, __m256 w1, const uint8_t *x, const unsigned R)
{
    EACH_ROW(R) {
        const __m256 v = bcast_f32(x + 4 * r);

        acc[2 * r] = _mm256_fmadd_ps(w0, v, acc[2 * r]);
        acc[2 * r + 1] = _mm256_fmadd_ps(w1, v, acc[2 * r + 1]);
    }
}

ALWAYS_INLINE void f32(__m256 *acc, const uint8_t *panel, const uint8_t *x, size_t i,
                       const unsigned R)
{
    const float *w = (const void *)(panel + 64 * i);

    add(acc, _mm256_load_ps(w), _mm256_load_ps(w + 8), x, R);
}

ALWAYS_INLINE void f16(__m256 *acc, const uint8_t *panel, const uint8_t *x, size_t i,
                       const unsigned R)
{
    add(acc, half_scale(panel + 32 * i), half_scale(panel + 32 * i + 16), x, R);
}

/* A pair as two f32, the even input first. */
ALWAYS_INLINE void bf16(__m256 *acc, const uint8_t *panel, const uint8_t *x, size_t i,
                        const unsigned R)
{
    const __m256i upper = _mm256_set1_epi32((int)0xFFFF0000u);
    const __m256i w0 = load256(panel + 64 * i), w1 = load256(panel + 64 * i + 32);

    EACH_ROW(R) {
        const __m256i v = bcast32(x + 4 * r);
        const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
        const __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(v, upper));

        acc[2 * r] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(w0, 16)), even,
                                     acc[2 * r]);
        acc[2 * r + 1] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(w1, 16)), even,
                                         acc[2 * r + 1]);
        acc[2 * r] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(w0, upper)), odd,
                                     acc[2 * r]);
        acc[2 * r + 1] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(w1, upper)), odd,
                                         acc[2 * r + 1]);
    }
}

#define FLOAT_KERNEL(NAME, R)                                                      \
    static void NAME##_##R(float *sum, const struct tile *t, const uint8_t *panel, \
                           size_t panel_bytes, size_t n)                           \
    {                                                                              \
        const uint8_t *x = t->x;                                                   \
        __m256 acc[2 * (R)];                                                       \
                                                                                   \
        (void)panel_bytes;                                                         \
        _Pragma("GCC unroll 12") for (unsigned i = 0; i < 2 * (R); i++)            \
            acc[i] = _mm256_load_ps(sum + 8 * i);                                  \
        for (size_t i = 0; i < n; i++)                                             \
            NAME(acc, panel, x + 4 * (R) * i, i, R);                               \
        _Pragma("GCC unroll 12") for (unsigned i = 0; i < 2 * (R); i++)            \
            _mm256_store_ps(sum + 8 * i, acc[i]);                                  \
    }
#define FLOAT_KERNELS(NAME)                                                        \
    FLOAT_KERNEL(NAME, 1) FLOAT_KERNEL(NAME, 2) FLOAT_KERNEL(NAME, 3)              \
    FLOAT_KERNEL(NAME, 4) FLOAT_KERNEL(NAME, 6)                                    \
    static const struct blocking NAME##_blocking = {                               \
        .rows_max = 6, .panels_max = 1, .parts = TILE_X,                           \
        .fn = { [1] = { NAME##_1 }, [2] = { NAME##_2 }, [3] = { NAME##_3 },        \
                [4] = { NAME##_4 }, [6] = { NAME##_6 } },                          \
    };

FLOAT_KERNELS(f32)
FLOAT_KERNELS(f16)
FLOAT_KERNELS(bf16)

void matmul_f32_avx2(const struct matmul_args *a) { matmul_blocked(a, &f32_blocking); }
void matmul_f16_avx2(const struct matmul_args *a) { matmul_blocked(a, &f16_blocking); }
void matmul_bf16_avx2(const struct matmul_args *a) { matmul_blocked(a, &bf16_blocking); }
void matmul_raw_avx2(const struct matmul_args *a) { matmul_raw(a, &f32_blocking); }
