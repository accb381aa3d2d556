/* matmul_q8.c: Q4_0 and Q8_0 times ACTF_Q8, NEON with and without the dot product; see
 * q8_tile.h. */
#include "chips/cpu/neon/matmul.h"
#include "chips/cpu/neon/q8_tile.h"

/* ---- Q4_0: q of 0..15, offset 8 ---- */

ALWAYS_INLINE void q4_0_block(float32x4_t acc[QUADS][R_MAX], struct cursor *c, const uint8_t *g,
                              const unsigned block, const unsigned R)
{
    EACH_QUAD {
        const uint8_t *q = g + Q4_0_Q + 256 * block + 16 * j;
        int8x16_t lo[4], hi[4];
        isum s[R_MAX];

        start(s, c->b32, 4, R);
#pragma GCC unroll 4
        for (unsigned k = 0; k < 4; k++) {
            const uint8x16_t v = vld1q_u8(q + 64 * k);

            lo[k] = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
            hi[k] = vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
        }
        dot(s, lo, c->q, 0, 4, R);
        dot(s, hi, c->q, 4, 4, R);
        finish(acc[j], s, half_scale(g + Q4_0_D + 32 * block + 8 * j), c->d, R);
    }
    cursor_next(c, R);
}

ALWAYS_INLINE void q4_0(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    float32x4_t acc[QUADS][R_MAX];

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

/* ---- Q8_0: bytes q + 128 ---- */

ALWAYS_INLINE void q8_0_block(float32x4_t acc[QUADS][R_MAX], struct cursor *c, const uint8_t *g,
                              const unsigned block, const unsigned R)
{
    EACH_QUAD {
        const uint8_t *q = g + Q8_0_Q + 512 * block + 16 * j;
        isum s[R_MAX];

        start_zero(s, R);
        dot8(s, q, c->q, 0, 1, R);
        dot8(s, q, c->q, 4, 1, R);
        finish(acc[j], s, half_scale(g + Q8_0_D + 32 * block + 8 * j), c->d, R);
    }
    cursor_next(c, R);
}

ALWAYS_INLINE void q8_0(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    float32x4_t acc[QUADS][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n / 2; i++, g += Q8_0_BYTES) {
        q8_0_block(acc, &c, g, 0, R);
        q8_0_block(acc, &c, g, 1, R);
    }
    if (n % 2)
        q8_0_block(acc, &c, g, 0, R);
    sums_store(sum, acc, R);
}
Q8_KERNELS(q8_0, TILE_D)
