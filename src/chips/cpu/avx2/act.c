/* act.c: activations prepared for the matrix products, AVX2; the bits of ref/act.c. */
#include <math.h>
#include <string.h>

#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/avx2/vec.h"

static inline uint32_t max_of(__m256i v)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static inline int32_t sum_of(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return _mm_cvtsi128_si32(s);
}

struct block { float d; int32_t sum[2]; };

/* The scale of 32 floats; NaN when one of them is no number. Bits order as magnitudes do. */
static inline float scale_of(const float *x)
{
    const __m256i abs_bits = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i a = _mm256_setzero_si256();
    uint32_t bits;
    float amax;

#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        a = _mm256_max_epu32(a, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + 8 * i)),
                                                 abs_bits));
    bits = max_of(a);
    if (bits >= 0x7F800000u)
        return NAN;
    memcpy(&amax, &bits, sizeof amax);
    return amax / 127.0f;
}

static inline struct block block_q8(int8_t *q, const float *x)
{
    const __m256i lo = _mm256_set1_epi32(-127), hi = _mm256_set1_epi32(127);
    struct block b = { scale_of(x), { 0, 0 } };
    __m256i v[4];

    if (!(b.d > 0.0f)) {
        memset(q, 0, ACT_BLOCK);
        return b;
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        v[i] = _mm256_cvtps_epi32(_mm256_div_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(b.d)));
        v[i] = _mm256_max_epi32(_mm256_min_epi32(v[i], hi), lo);
    }
    b.sum[0] = sum_of(_mm256_add_epi32(v[0], v[1]));
    b.sum[1] = sum_of(_mm256_add_epi32(v[2], v[3]));
    v[0] = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    v[0] = _mm256_permutevar8x32_epi32(v[0], _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)q, v[0]);
    return b;
}

#include "chips/cpu/act_body.h"

void act_q8_avx2(void *out, const float *x, uint32_t n_in)
{
    act_row_q8(out, x, n_in);
}

/* Round to nearest even by integers, as f32_to_bf16() does. */
static inline __m256i to_bf16(__m256 x)
{
    const __m256i bits = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));

    return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
}

void act_bf16_avx2(void *out, const float *x, uint32_t n_in)
{
    uint16_t *y = out;
    const size_t all = act_row_bytes(ACTF_BF16, n_in) / 2;
    size_t i = 0;

    for (; i + 16 <= n_in; i += 16) {
        const __m256i v = _mm256_packus_epi32(to_bf16(_mm256_loadu_ps(x + i)),
                                              to_bf16(_mm256_loadu_ps(x + i + 8)));

        _mm256_storeu_si256((__m256i *)(void *)(y + i), _mm256_permute4x64_epi64(v, 0xD8));
    }
    for (; i < n_in; i++)
        y[i] = f32_to_bf16(x[i]);
    for (; i < all; i++)
        y[i] = 0;
}
