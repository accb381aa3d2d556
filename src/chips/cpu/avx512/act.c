/* act.c: activations prepared for the matrix products, AVX-512; the bits of ref/act.c. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "chips/cpu/act_row.h"
#include "chips/cpu/avx512/matmul.h"

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

/* Sixteen blocks together: a block alone is a chain of reductions that the core waits for. */
#define MANY 16

/* Element 4l + i: OP over the four elements of lane l of v[i]. */
#define DEFINE_LANES(NAME, OP)                                                         \
    static inline __m512i NAME(const __m512i *v)                                       \
    {                                                                                  \
        const __m512i a = OP(_mm512_unpacklo_epi32(v[0], v[1]),                        \
                             _mm512_unpackhi_epi32(v[0], v[1]));                       \
        const __m512i b = OP(_mm512_unpacklo_epi32(v[2], v[3]),                        \
                             _mm512_unpackhi_epi32(v[2], v[3]));                       \
                                                                                       \
        return OP(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));           \
    }
DEFINE_LANES(lanes_max, _mm512_max_epu32)
DEFINE_LANES(lanes_add, _mm512_add_epi32)

/* Of two results of lanes_max(): lanes 0 with 1 and 2 with 3, then those of the other. */
static inline __m512i halves_max(__m512i a, __m512i b)
{
    return _mm512_max_epu32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}

/* The scales of sixteen blocks; NaN where a number is none. */
static inline __m512 scales_of(const float *x)
{
    const __m512i abs_bits = _mm512_set1_epi32(0x7FFFFFFF), inf = _mm512_set1_epi32(0x7F800000);
    __m512i m[4], a;

#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        __m512i v[4];

#pragma GCC unroll 4
        for (unsigned j = 0; j < 4; j++) {
            const float *p = x + ACT_BLOCK * (4 * i + j);

            v[j] = _mm512_max_epu32(_mm512_and_si512(_mm512_loadu_si512(p), abs_bits),
                                    _mm512_and_si512(_mm512_loadu_si512(p + 16), abs_bits));
        }
        m[i] = lanes_max(v);
    }
    a = halves_max(halves_max(m[0], m[1]), halves_max(m[2], m[3]));
    return _mm512_mask_mov_ps(_mm512_div_ps(_mm512_castsi512_ps(a), _mm512_set1_ps(127.0f)),
                              _mm512_cmpge_epu32_mask(a, inf), _mm512_set1_ps(NAN));
}

/* Sixteen values over d, rounded; zeros unless d is above zero. */
static inline __m128i sixteen_q8(const float *x, __m512 d)
{
    const __m512i lo = _mm512_set1_epi32(-127), hi = _mm512_set1_epi32(127);
    const __mmask16 some = _mm512_cmp_ps_mask(d, _mm512_setzero_ps(), _CMP_GT_OQ);
    const __m512i v = _mm512_maskz_cvtps_epi32(some, _mm512_div_ps(_mm512_loadu_ps(x), d));

    return _mm512_cvtepi32_epi8(_mm512_max_epi32(_mm512_min_epi32(v, hi), lo));
}

/* Sums of the sixteen runs of 16 bytes at q, in order. */
static inline __m512i sums16(const int8_t *q)
{
    const __m512i turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i v[4];

#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++)
        v[i] = _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_set1_epi8(1),
                                                      _mm512_loadu_si512(q + 64 * i)),
                                 _mm512_set1_epi16(1));
    return _mm512_permutexvar_epi32(turn, lanes_add(v));
}

/* at: from some block on. */
static inline void many_q8(int8_t *q, struct act_beside at, const float *x)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                                           30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    const __m512i zero = _mm512_setzero_si512();
    const __m512 d = scales_of(x);
    __m512i s0, s1, s;

    _mm512_storeu_ps(at.d, d);
#pragma GCC unroll 4
    for (unsigned b = 0; b < MANY; b++) {
        const __m512 db = _mm512_permutexvar_ps(_mm512_set1_epi32((int)b), d);

        _mm_storeu_si128((__m128i *)(void *)(q + ACT_BLOCK * b), sixteen_q8(x + ACT_BLOCK * b, db));
        _mm_storeu_si128((__m128i *)(void *)(q + ACT_BLOCK * b + 16),
                         sixteen_q8(x + ACT_BLOCK * b + 16, db));
    }
    s0 = sums16(q);
    s1 = sums16(q + 256);
    s = _mm512_add_epi32(_mm512_permutex2var_epi32(s0, even, s1),
                         _mm512_permutex2var_epi32(s0, odd, s1));
    _mm512_storeu_ps(at.ds, _mm512_mul_ps(d, _mm512_cvtepi32_ps(s)));
    _mm512_storeu_si512(at.b32, _mm512_slli_epi32(_mm512_sub_epi32(zero, s), 7));
    _mm512_storeu_si512(at.b16, _mm512_slli_epi32(_mm512_sub_epi32(zero, s0), 7));
    _mm512_storeu_si512(at.b16 + 16, _mm512_slli_epi32(_mm512_sub_epi32(zero, s1), 7));
}

void act_q8_avx512(void *out, const float *x, uint32_t n_in)
{
    const struct act_beside at = act_beside(out, n_in);
    const size_t n_blocks = act_blocks(n_in);
    int8_t *q = out;
    size_t b = 0;

    for (; (b + MANY) * ACT_BLOCK <= n_in; b += MANY, q += MANY * ACT_BLOCK, x += MANY * ACT_BLOCK)
        many_q8(q, (struct act_beside){ at.d + b, at.ds + b, at.b32 + b, at.b16 + 2 * b }, x);
    for (; b < n_blocks; b++, q += ACT_BLOCK, x += ACT_BLOCK) {
        const size_t left = n_in - b * ACT_BLOCK;
        struct block r;

        if (left >= ACT_BLOCK) {
            r = block_q8(q, _mm512_loadu_ps(x), _mm512_loadu_ps(x + 16));
        } else {
            const uint32_t have = (1u << left) - 1;

            r = block_q8(q, _mm512_maskz_loadu_ps((__mmask16)have, x),
                         _mm512_maskz_loadu_ps((__mmask16)(have >> 16), x + 16));
        }
        act_put(&at, b, r.d, r.sum[0], r.sum[1]);
    }
    act_zero_gaps(out, n_in);
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
