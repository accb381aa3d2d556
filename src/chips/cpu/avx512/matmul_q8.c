/* matmul_q8.c: Q4_0 and Q8_0 times ACTF_Q8, AVX-512 VNNI; see q8_tile.h. */
#include "chips/cpu/avx512/matmul.h"
#include "chips/cpu/avx512/q8_tile.h"

/* ---- Q4_0: nibbles shifted to the upper half, 16 (q - 8) = 16 q - 128 ---- */

ALWAYS_INLINE void q4_0_block(__m512 *acc, struct cursor *c, const uint8_t *g,
                              const unsigned half, const unsigned R)
{
    const __m512i high = _mm512_set1_epi8((char)0xF0);
    const __m512 scale = _mm512_mul_ps(half_scale(g + Q4_0_D + 32 * half),
                                       _mm512_set1_ps(1.0f / 16.0f));
    __m512i s[R_MAX];

    start(s, c->b32, R);
    fetch(c, R);
#pragma GCC unroll 4
    for (unsigned k = 0; k < 4; k++) {
        const __m512i v = load512(g + Q4_0_Q + 256 * half + 64 * k);

        dot(s, _mm512_and_si512(_mm512_slli_epi16(v, 4), high), c->q, k, R);
        dot(s, _mm512_and_si512(v, high), c->q, k + 4, R);
    }
    finish(acc, s, scale, c->d, R);
    cursor_next(c, R);
}

ALWAYS_INLINE void q4_0(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    __m512 regs[R_REGS], *acc = sums_load(regs, sum, R);

    for (size_t i = 0; i < n / 2; i++, g += Q4_0_BYTES) {
        fetch_row(&c, R);
        q4_0_block(acc, &c, g, 0, R);
        q4_0_block(acc, &c, g, 1, R);
    }
    if (n % 2)
        q4_0_block(acc, &c, g, 0, R);
    sums_store(sum, acc, R);
}
Q8_KERNELS(q4_0, TILE_D | TILE_B32, NULL)

void matmul_q4_0_avx512(const struct matmul_args *a)
{
    matmul_blocked(a, &q4_0_blocking);
}

/* ---- Q8_0: bytes q + 128 ---- */

ALWAYS_INLINE void q8_0_block(__m512 *acc, struct cursor *c, const uint8_t *g,
                              const unsigned half, const unsigned R)
{
    __m512i s[R_MAX];

    start(s, c->b32, R);
    fetch(c, R);
#pragma GCC unroll 8
    for (unsigned k = 0; k < 8; k++)
        dot(s, load512(g + Q8_0_Q + 512 * half + 64 * k), c->q, k, R);
    finish(acc, s, half_scale(g + Q8_0_D + 32 * half), c->d, R);
    cursor_next(c, R);
}

ALWAYS_INLINE void q8_0(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    __m512 regs[R_REGS], *acc = sums_load(regs, sum, R);

    for (size_t i = 0; i < n / 2; i++, g += Q8_0_BYTES) {
        fetch_row(&c, R);
        q8_0_block(acc, &c, g, 0, R);
        q8_0_block(acc, &c, g, 1, R);
    }
    if (n % 2)
        q8_0_block(acc, &c, g, 0, R);
    sums_store(sum, acc, R);
}
Q8_KERNELS_16(q8_0, TILE_D | TILE_B32, NULL)

void matmul_q8_0_avx512(const struct matmul_args *a)
{
    matmul_blocked(a, &q8_0_blocking);
}
