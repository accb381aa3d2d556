/* query8.h (AVX-512 VNNI): scores against keys of 8 bits as integer products. A query is rounded to
 * 16 bits, q = d (256 high + low) with d = amax / 32512, so two 8-bit products do what four
 * conversions and sixteen multiplications did; its rounding is a hundredth of that of the keys.
 * A block's sum is exact, so the bits depend neither on the queries nor on the tiles beside it.
 *
 * attention_body.h uses these functions where QUERY8 is defined. A query takes the place of its
 * floats: per block of 32 columns [32] high, [32] low; [n_blocks] i32 of -128 times the block's sum
 * (keys are multiplied as q + 128); d. */
#ifndef CHIPS_CPU_AVX512_QUERY8_H
#define CHIPS_CPU_AVX512_QUERY8_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "chips/cpu/avx512/simd.h"

#define QUERY8 1
#define QUERY8_STEPS 32512.0f       /* 127 * 256: the high byte stays within -127 .. 127 */

static inline size_t query8_sums_at(uint32_t pad) { return (size_t)pad * 2; }
static inline size_t query8_scale_at(uint32_t pad) { return (size_t)pad * 2 + pad / 8; }

/* q: [dim] floats; to: pad * 4 bytes, pad a multiple of 32. A query that is not finite gets d = NaN. */
static inline void query8_prepare(uint8_t *to, const float *q, uint32_t dim, uint32_t pad)
{
    __m512 top = _mm512_setzero_ps();
    __mmask16 bad = 0;
    float amax, d, inverse;

    for (uint32_t i = 0; i < dim; i += 16) {
        const vf x = v_abs(v_loadn(q + i, dim - i < 16 ? dim - i : 16));

        bad |= _mm512_cmp_ps_mask(x, _mm512_set1_ps(INFINITY), _CMP_NLT_UQ);
        top = v_max(top, x);
    }
    amax = v_hmax(top);
    d = bad ? NAN : amax / QUERY8_STEPS;
    inverse = bad || d == 0.0f ? 0.0f : 1.0f / d;
    if (isinf(inverse))             /* a denormal query is no query */
        inverse = 0.0f;
    for (uint32_t b = 0; b < pad; b += 32) {
        __m512i sum = _mm512_setzero_si512();
        int32_t total;

        for (uint32_t i = b; i < b + 32; i += 16) {
            const size_t n = i >= dim ? 0 : dim - i < 16 ? dim - i : 16;
            const vf x = bad ? v_zero() : v_mul(v_loadn(q + (n ? i : 0), n), v_set1(inverse));
            const __m512i both = _mm512_cvtps_epi32(x);
            const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(both, 24), 24);
            const __m512i high = _mm512_srai_epi32(_mm512_sub_epi32(both, low), 8);

            sum = _mm512_add_epi32(sum, both);
            _mm_storeu_si128((__m128i *)(void *)(to + b * 2 + (i - b)), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128((__m128i *)(void *)(to + b * 2 + 32 + (i - b)),
                             _mm512_cvtepi32_epi8(low));
        }
        total = -128 * _mm512_reduce_add_epi32(sum);
        memcpy(to + query8_sums_at(pad) + b / 8, &total, sizeof total);
    }
    memcpy(to + query8_scale_at(pad), &d, sizeof d);
}

/* The operations of the products: sums of sixteen keys. */
typedef __m512i q8_sums;

static inline q8_sums q8_zero(void) { return _mm512_setzero_si512(); }
static inline q8_sums q8_word(const uint8_t *p)
{
    int32_t w;

    memcpy(&w, p, sizeof w);
    return _mm512_set1_epi32(w);
}
/* Four columns of sixteen keys, + 128 */
static inline q8_sums q8_keys(const int8_t *p)
{
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8((char)0x80));
}
static inline q8_sums q8_dot(q8_sums sum, q8_sums keys, q8_sums word)
{
    return _mm512_dpbusd_epi32(sum, keys, word);
}
static inline vf q8_total(q8_sums high, q8_sums low)
{
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 8), low));
}

#endif
