/* matmul_q8.c: Q4_0 and Q8_0 times ACTF_Q8, AVX2 and AVX-VNNI; see q8_tile.h. */
#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/avx2/q8_tile.h"

/* ---- Q4_0: q of 0..15, offset 8 ---- */

ALWAYS_INLINE void q4_0_block(__m256 acc[2][R_MAX], struct cursor *c, const uint8_t *g,
                              const unsigned block, const unsigned R)
{
    const __m256i low = _mm256_set1_epi8(15);

#pragma GCC unroll 2
    for (unsigned h = 0; h < 2; h++) {
        const uint8_t *q = g + Q4_0_Q + 256 * block + 32 * h;
        __m256i s[R_MAX], w[8];

        start(s, c->b32, 4, R);
#pragma GCC unroll 4
        for (unsigned k = 0; k < 4; k++) {
            const __m256i v = load256(q + 64 * k);

            w[k] = _mm256_and_si256(v, low);
            w[k + 4] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
        }
        dot(s, w, c->q, 0, 8, R);
        finish(acc[h], s, half_scale(g + Q4_0_D + 32 * block + 16 * h), c->d, R);
    }
    cursor_next(c, R);
}

ALWAYS_INLINE void q4_0(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    __m256 acc[2][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n / 2; i++, g += Q4_0_BYTES) {
        q4_0_block(acc, &c, g, 0, R);
        q4_0_block(acc, &c, g, 1, R);
    }
    if (n % 2)
        q4_0_block(acc, &c, g, 0, R);
    sums_store(sum, acc, R);
}
Q8_KERNELS(q4_0, TILE_D | TILE_B32)

void ISA(matmul_q4_0)(const struct matmul_args *a)
{
    matmul_blocked(a, &q4_0_blocking);
}

/* ---- Q8_0: bytes q + 128 ---- */

ALWAYS_INLINE void q8_0_dots(__m256i *s, const uint8_t *words, const struct cursor *c,
                             const unsigned R)
{
#pragma GCC unroll 8
    for (unsigned k = 0; k < 8; k++) {
        const __m256i v = load256(words + 64 * k);
#ifdef __AVXVNNI__
        dot(s, &v, c->q, k, 1, R);
#else
        const __m256i w = _mm256_xor_si256(v, _mm256_set1_epi8((char)0x80));
        const __m256i magnitude = _mm256_abs_epi8(w), ones = _mm256_set1_epi16(1);

        EACH_ROW(R) {
            const __m256i x = _mm256_sign_epi8(bcast32(c->q + ACT_BLOCK * r + 4 * k), w);

            s[r] = _mm256_add_epi32(s[r], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, x),
                                                            ones));
        }
#endif
    }
}

ALWAYS_INLINE void q8_0_block(__m256 acc[2][R_MAX], struct cursor *c, const uint8_t *g,
                              const unsigned block, const unsigned R)
{
#pragma GCC unroll 2
    for (unsigned h = 0; h < 2; h++) {
        __m256i s[R_MAX];

#ifdef __AVXVNNI__
        start(s, c->b32, 0, R);
#else
        start_zero(s, R);
#endif
        q8_0_dots(s, g + Q8_0_Q + 512 * block + 32 * h, c, R);
        finish(acc[h], s, half_scale(g + Q8_0_D + 32 * block + 16 * h), c->d, R);
    }
    cursor_next(c, R);
}

ALWAYS_INLINE void q8_0(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    __m256 acc[2][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n / 2; i++, g += Q8_0_BYTES) {
        q8_0_block(acc, &c, g, 0, R);
        q8_0_block(acc, &c, g, 1, R);
    }
    if (n % 2)
        q8_0_block(acc, &c, g, 0, R);
    sums_store(sum, acc, R);
}
Q8_KERNELS(q8_0, TILE_D | TILE_B32)

void ISA(matmul_q8_0)(const struct matmul_args *a)
{
    matmul_blocked(a, &q8_0_blocking);
}
