/* act.c: activations prepared for the matrix products, AVX-512; the bits of ref/act.c. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "chips/cpu/avx512/matmul.h"
#include "chips/cpu/layout.h"

struct block { float d; int32_t sum[2]; };

/* x: 32 floats in two registers. */
static inline struct block block_q8(int8_t *q, __m512 x0, __m512 x1)
{
    const __m512i abs_bits = _mm512_set1_epi32(0x7FFFFFFF);
    const __m512i a = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x0), abs_bits),
                                       _mm512_and_si512(_mm512_castps_si512(x1), abs_bits));
    const uint32_t bits = _mm512_reduce_max_epu32(a);   /* orders as the numbers do */
    const __m512i lo = _mm512_set1_epi32(-127), hi = _mm512_set1_epi32(127);
    __m512i q0, q1;
    struct block b = { 0.0f, { 0, 0 } };
    __m512 d;
    float amax;

    if (bits >= 0x7F800000u)
        b.d = NAN;
    memcpy(&amax, &bits, sizeof amax);
    if (bits < 0x7F800000u)
        b.d = amax / 127.0f;
    if (!(b.d > 0.0f)) {
        memset(q, 0, ACT_BLOCK);
        return b;
    }
    d = _mm512_set1_ps(b.d);
    q0 = _mm512_cvtps_epi32(_mm512_div_ps(x0, d));
    q1 = _mm512_cvtps_epi32(_mm512_div_ps(x1, d));
    q0 = _mm512_max_epi32(_mm512_min_epi32(q0, hi), lo);
    q1 = _mm512_max_epi32(_mm512_min_epi32(q1, hi), lo);
    _mm_storeu_si128((__m128i *)(void *)q, _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128((__m128i *)(void *)(q + 16), _mm512_cvtepi32_epi8(q1));
    b.sum[0] = _mm512_reduce_add_epi32(q0);
    b.sum[1] = _mm512_reduce_add_epi32(q1);
    return b;
}

void act_q8_avx512(void *out, const float *x, uint32_t n_in)
{
    const struct act_parts at = act_parts(n_in);
    const size_t n_blocks = act_blocks(n_in);
    uint8_t *row = out;
    int8_t *q = out;
    float *d = (void *)(row + at.d), *ds = (void *)(row + at.ds);
    int32_t *b32 = (void *)(row + at.b32), *b16 = (void *)(row + at.b16);

    memset(row + ACT_BLOCK * n_blocks, 0, at.d - ACT_BLOCK * n_blocks);
    for (size_t b = 0; b < n_blocks; b++, q += ACT_BLOCK, x += ACT_BLOCK) {
        const size_t left = n_in - b * ACT_BLOCK;
        struct block r;

        if (left >= ACT_BLOCK) {
            r = block_q8(q, _mm512_loadu_ps(x), _mm512_loadu_ps(x + 16));
        } else {
            const uint32_t have = (1u << left) - 1;

            r = block_q8(q, _mm512_maskz_loadu_ps((__mmask16)have, x),
                         _mm512_maskz_loadu_ps((__mmask16)(have >> 16), x + 16));
        }
        d[b] = r.d;
        ds[b] = r.d * (float)(r.sum[0] + r.sum[1]);
        b32[b] = -128 * (r.sum[0] + r.sum[1]);
        b16[2 * b] = -128 * r.sum[0];
        b16[2 * b + 1] = -128 * r.sum[1];
    }
    memset(d + n_blocks, 0, at.ds - at.d - 4 * n_blocks);
    memset(ds + n_blocks, 0, at.b32 - at.ds - 4 * n_blocks);
    memset(b32 + n_blocks, 0, at.b16 - at.b32 - 4 * n_blocks);
    memset(b16 + 2 * n_blocks, 0, at.size - at.b16 - 8 * n_blocks);
}

/* Round to nearest even by integers, as f32_to_bf16() does: NaN stays NaN and quiet, and
 * denormals are kept, which vcvtneps2bf16 would not do. */
static inline __m256i to_bf16(__m512 x)
{
    const __m512i bits = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(up, nan, quiet), 16));
}

void act_bf16_avx512(void *out, const float *x, uint32_t n_in)
{
    uint16_t *y = out;
    const size_t all = act_row_bytes(ACTF_BF16, n_in) / 2;
    size_t i = 0;

    for (; i + 16 <= n_in; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(y + i), to_bf16(_mm512_loadu_ps(x + i)));
    for (; i < all; i += 16) {
        const size_t left = i < n_in ? n_in - i : 0;
        const __mmask16 have = (__mmask16)((1u << left) - 1);

        _mm256_storeu_si256((__m256i *)(void *)(y + i),
                            to_bf16(_mm512_maskz_loadu_ps(have, x + i)));
    }
}
