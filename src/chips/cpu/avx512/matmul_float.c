/* matmul_float.c: F32, F16 and BF16 weights with plain AVX-512, and the general
 * path of types without a layout; see float_tile.h. */
#include "chips/cpu/avx512/float_tile.h"
#include "chips/cpu/avx512/matmul.h"

ALWAYS_INLINE __m512 bcast_f32(const uint8_t *x)
{
    return _mm512_castsi512_ps(bcast32(x));
}

ALWAYS_INLINE void f32(__m512 *acc, const uint8_t *panel, size_t stride, const uint8_t *x,
                       size_t i, const unsigned R, const unsigned P)
{
    __m512 w[2];

    EACH_PANEL(P)
        w[p] = _mm512_load_ps((const void *)(panel + p * stride + 64 * i));
    EACH_ROW(R) {
        const __m512 v = bcast_f32(x + 4 * r);

        EACH_PANEL(P)
            acc[p * R + r] = _mm512_fmadd_ps(w[p], v, acc[p * R + r]);
    }
}
FLOAT_KERNELS(f32)

ALWAYS_INLINE void f16(__m512 *acc, const uint8_t *panel, size_t stride, const uint8_t *x,
                       size_t i, const unsigned R, const unsigned P)
{
    __m512 w[2];

    EACH_PANEL(P)
        w[p] = half_scale(panel + p * stride + 32 * i);
    EACH_ROW(R) {
        const __m512 v = bcast_f32(x + 4 * r);

        EACH_PANEL(P)
            acc[p * R + r] = _mm512_fmadd_ps(w[p], v, acc[p * R + r]);
    }
}
FLOAT_KERNELS(f16)

/* Where there is no BF16 instruction: the pair as two f32, the even input first. */
ALWAYS_INLINE void bf16_pair(__m512 *acc, const uint8_t *panel, size_t stride, const uint8_t *x,
                             size_t i, const unsigned R, const unsigned P)
{
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000u);
    __m512 even[2], odd[2];

    EACH_PANEL(P) {
        const __m512i v = load512(panel + p * stride + 64 * i);

        even[p] = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
        odd[p] = _mm512_castsi512_ps(_mm512_and_si512(v, upper));
    }
    EACH_ROW(R) {
        const __m512i v = bcast32(x + 4 * r);
        const __m512 x0 = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
        const __m512 x1 = _mm512_castsi512_ps(_mm512_and_si512(v, upper));

        EACH_PANEL(P) {
            acc[p * R + r] = _mm512_fmadd_ps(even[p], x0, acc[p * R + r]);
            acc[p * R + r] = _mm512_fmadd_ps(odd[p], x1, acc[p * R + r]);
        }
    }
}
FLOAT_KERNELS(bf16_pair)

void matmul_f32_avx512(const struct matmul_args *a) { matmul_blocked(a, &f32_blocking); }
void matmul_f16_avx512(const struct matmul_args *a) { matmul_blocked(a, &f16_blocking); }
void matmul_bf16_avx512(const struct matmul_args *a) { matmul_blocked(a, &bf16_pair_blocking); }
void matmul_raw_avx512(const struct matmul_args *a) { matmul_raw(a, &f32_blocking); }
