/* matmul_k.c: Q4_K, Q5_K and Q6_K times ACTF_Q8, NEON with and without the dot product;
 * see q8_tile.h. */
#include "chips/cpu/neon/matmul.h"
#include "chips/cpu/neon/q8_tile.h"

/* ---- Q4_K and Q5_K: unsigned, with a minimum per sub-block ---- */

/* Words k … k + 3 of sub-block b = 2c + odd; h: words of fifth bits or NULL. */
ALWAYS_INLINE void k_weights(int8x16_t *w, const uint8_t *q, const uint8_t *h, size_t b,
                             const unsigned odd, const unsigned k)
{
    const int8x16_t shift = vdupq_n_s8((int8_t)(4 - (int)b));      /* bit b to bit 4 */

#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        const uint8x16_t v = vld1q_u8(q + 64 * (k + i));
        uint8x16_t u = odd ? vshrq_n_u8(v, 4) : vandq_u8(v, vdupq_n_u8(15));

        if (h) {
            const uint8x16_t f = vshlq_u8(vld1q_u8(h + 64 * (k + i)), shift);

            u = vorrq_u8(u, vandq_u8(f, vdupq_n_u8(16)));
        }
        w[i] = vreinterpretq_s8_u8(u);
    }
}

ALWAYS_INLINE void k_block(float32x4_t acc[QUADS][R_MAX], struct cursor *c, const uint8_t *g,
                           const uint8_t *q, const uint8_t *h, size_t b, const unsigned odd,
                           const unsigned R)
{
    EACH_QUAD {
        const float32x4_t scale = vmulq_f32(half_scale(g + Q4_K_D + 8 * j),
                                            bytes_scale(g + Q4_K_SC + PACK_ROWS * b + 4 * j));
        const float32x4_t min = vmulq_f32(half_scale(g + Q4_K_D + 32 + 8 * j),
                                          bytes_scale(g + Q4_K_M + PACK_ROWS * b + 4 * j));
        const uint8_t *h5 = h ? h + 16 * j : NULL;
        int8x16_t w[4];
        isum s[R_MAX];

        start_zero(s, R);
        k_weights(w, q + 16 * j, h5, b, odd, 0);
        dot(s, w, c->q, 0, 4, R);
        k_weights(w, q + 16 * j, h5, b, odd, 4);
        dot(s, w, c->q, 4, 4, R);
        finish(acc[j], s, scale, c->d, R);
        EACH_ROW(R)
            acc[j][r] = vfmsq_f32(acc[j][r], min, vdupq_n_f32(c->ds[r]));
    }
    cursor_next(c, R);
}

ALWAYS_INLINE void k_product(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                             const unsigned R, const unsigned bits)
{
    struct cursor c = cursor_of(t);
    float32x4_t acc[QUADS][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n / 8; i++, g += bits == 5 ? Q5_K_BYTES : Q4_K_BYTES) {
        const uint8_t *q = g + (bits == 5 ? Q5_K_Q : Q4_K_Q), *h = bits == 5 ? g + Q5_K_H : NULL;

        for (size_t b = 0; b < 8; b += 2, q += 512) {
            k_block(acc, &c, g, q, h, b, 0, R);
            k_block(acc, &c, g, q, h, b + 1, 1, R);
        }
    }
    sums_store(sum, acc, R);
}

ALWAYS_INLINE void q4_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    k_product(sum, t, g, n, R, 4);
}
Q8_KERNELS(q4_k, TILE_D | TILE_DS)

ALWAYS_INLINE void q5_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    k_product(sum, t, g, n, R, 5);
}
Q8_KERNELS(q5_k, TILE_D | TILE_DS)

/* ---- Q6_K: q of 0..63, offset 32, a scale per 16 ---- */

/* Four words from k on of sub-block b of a half superblock. */
ALWAYS_INLINE void q6_weights(int8x16_t *w, const uint8_t *l, const uint8_t *h, const unsigned b,
                              const unsigned k)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        const uint8x16_t v = vld1q_u8(l + 64 * (k + i)), u = vld1q_u8(h + 64 * (k + i));
        const uint8x16_t lo = b < 2 ? vandq_u8(v, vdupq_n_u8(15)) : vshrq_n_u8(v, 4);
        const uint8x16_t hi = b == 0 ? vshlq_n_u8(u, 4) : b == 1 ? vshlq_n_u8(u, 2)
                            : b == 2 ? u : vshrq_n_u8(u, 2);

        w[i] = vreinterpretq_s8_u8(vorrq_u8(lo, vandq_u8(hi, vdupq_n_u8(0x30))));
    }
}

ALWAYS_INLINE void q6_block(float32x4_t acc[QUADS][R_MAX], struct cursor *c, const uint8_t *g,
                            const uint8_t *words, const uint8_t *sc, const unsigned b,
                            const unsigned R)
{
    EACH_QUAD {
        const uint8_t *l = words + Q6_K_L + 512 * (b % 2) + 16 * j, *h = words + Q6_K_H + 16 * j;
        const float32x4_t d = load_f32(g + Q6_K_D + 16 * j);
        const float32x4_t s0 = vmulq_f32(d, signed_scale(sc + PACK_ROWS * (2 * b) + 4 * j));
        const float32x4_t s1 = vmulq_f32(d, signed_scale(sc + PACK_ROWS * (2 * b + 1) + 4 * j));
        float32x4_t u[R_MAX];
        int8x16_t w[4];
        isum s[R_MAX];

        start(s, c->b16, 2, R);
        q6_weights(w, l, h, b, 0);
        dot(s, w, c->q, 0, 4, R);
        EACH_ROW(R)
            u[r] = vmulq_f32(isum_float(s[r]), s0);
        start(s, c->b16 + R, 2, R);
        q6_weights(w, l, h, b, 4);
        dot(s, w, c->q, 4, 4, R);
        EACH_ROW(R)
            u[r] = vfmaq_f32(u[r], isum_float(s[r]), s1);
        EACH_ROW(R)
            acc[j][r] = vfmaq_f32(acc[j][r], u[r], vdupq_n_f32(c->d[r]));
    }
    cursor_next(c, R);
}

ALWAYS_INLINE void q6_k(float *sum, const struct tile *t, const uint8_t *g, size_t n,
                        const unsigned R)
{
    struct cursor c = cursor_of(t);
    float32x4_t acc[QUADS][R_MAX];

    sums_load(acc, sum, R);
    for (size_t i = 0; i < n / 8; i++, g += Q6_K_BYTES) {
        for (size_t half = 0; half < 2; half++) {
            const uint8_t *words = g + Q6_K_Q + Q6_K_HALF * half;
            const uint8_t *sc = g + Q6_K_SC + 8 * PACK_ROWS * half;

            q6_block(acc, &c, g, words, sc, 0, R);
            q6_block(acc, &c, g, words, sc, 1, R);
            q6_block(acc, &c, g, words, sc, 2, R);
            q6_block(acc, &c, g, words, sc, 3, R);
        }
    }
    sums_store(sum, acc, R);
}
Q8_KERNELS(q6_k, TILE_D | TILE_B16)
