/* pack_k.c: panels of the K types, superblocks of 256; layouts in layout.h. */
#include "chips/cpu/pack_words.h"

/* The first 16 bytes of a block of Q4_K and Q5_K: d, dmin, and 12 bytes with eight 6-bit scales and
 * minima, each of which gets a byte of its lane. */
static inline void head(uint8_t *dst, const uint8_t *src, size_t stride)
{
    pack_v16 column[16], sc[8], m[8];
    const pack_v16 *s = column + 4;

    pack_halves(dst + Q4_K_D, src, stride);
    pack_halves(dst + Q4_K_D + 32, src + 2, stride);
    pack_16x16(column, src, stride);
    for (unsigned j = 0; j < 4; j++) {
        sc[j] = s[j] & 63;
        m[j] = s[j + 4] & 63;
        sc[j + 4] = (s[j + 8] & 15) | (s[j] >> 6 << 4);
        m[j + 4] = s[j + 8] >> 4 | (s[j + 4] >> 6 << 4);
    }
    memcpy(dst + Q4_K_SC, sc, sizeof sc);
    memcpy(dst + Q4_K_M, m, sizeof m);
}

void pack_q4_k(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    for (size_t g = 0; g < n; g++, dst += Q4_K_BYTES, src += 144) {
        head(dst, src, stride);
        pack_words(dst + Q4_K_Q, src + 16, stride, 32);
    }
}

void pack_q5_k(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    for (size_t g = 0; g < n; g++, dst += Q5_K_BYTES, src += 176) {
        head(dst, src, stride);
        pack_words(dst + Q5_K_H, src + 16, stride, 8);
        pack_words(dst + Q5_K_Q, src + 48, stride, 32);
    }
}

/* Sub-block j of Q4_K or Q5_K; h: bytes of fifth bits, NULL for Q4_K. */
static void read_sub(float *out, const uint8_t *group, const uint8_t *q, const uint8_t *h,
                     unsigned lane, unsigned j)
{
    const float d = half_at(group + Q4_K_D + 2 * lane), dmin = half_at(group + Q4_K_D + 32 + 2 * lane);
    const float scale = d * (float)group[Q4_K_SC + PACK_ROWS * j + lane];
    const float min = dmin * (float)group[Q4_K_M + PACK_ROWS * j + lane];

    q += 512 * (j / 2) + 4 * lane;
    for (unsigned i = 0; i < 32; i++) {
        const unsigned at = 64 * (i / 4) + i % 4;
        unsigned v = q[at] >> 4 * (j % 2) & 15;

        if (h)
            v |= (unsigned)(h[4 * lane + at] >> j & 1) << 4;
        out[i] = scale * (float)v - min;
    }
}

void read_q4_k(float *out, const uint8_t *group, unsigned lane)
{
    for (unsigned j = 0; j < 8; j++)
        read_sub(out + 32 * j, group, group + Q4_K_Q, NULL, lane, j);
}

void read_q5_k(float *out, const uint8_t *group, unsigned lane)
{
    for (unsigned j = 0; j < 8; j++)
        read_sub(out + 32 * j, group, group + Q5_K_Q, group + Q5_K_H, lane, j);
}

/* ---- Q6_K: 128 bytes of low nibbles, 64 of high pairs, 16 scales, f16 d ---- */

void pack_q6_k(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    for (size_t g = 0; g < n; g++, dst += Q6_K_BYTES, src += 210) {
        pack_v16 scales[16];

        for (unsigned r = 0; r < PACK_ROWS; r++) {
            const float d = half_at(src + r * stride + 208);

            memcpy(dst + Q6_K_D + 4 * r, &d, 4);
        }
        pack_16x16(scales, src + 192, stride);
        memcpy(dst + Q6_K_SC, scales, sizeof scales);
        for (unsigned h = 0; h < 2; h++) {
            uint8_t *half = dst + Q6_K_Q + Q6_K_HALF * h;

            pack_words(half + Q6_K_H, src + 128 + 32 * h, stride, 8);
            pack_words(half + Q6_K_L, src + 64 * h, stride, 16);
        }
    }
}

void read_q6_k(float *out, const uint8_t *group, unsigned lane)
{
    float d;

    memcpy(&d, group + Q6_K_D + 4 * lane, 4);
    for (unsigned i = 0; i < 256; i++) {
        const unsigned h = i / 128, j = i / 32 % 4, at = 64 * (i % 32 / 4) + i % 4 + 4 * lane;
        const uint8_t *half = group + Q6_K_Q + Q6_K_HALF * h;
        const unsigned lo = half[Q6_K_L + 512 * (j % 2) + at] >> 4 * (j / 2) & 15;
        const unsigned hi = half[Q6_K_H + at] >> 2 * j & 3;
        const int8_t sc = (int8_t)group[Q6_K_SC + PACK_ROWS * (i / 16) + lane];

        out[i] = d * (float)sc * (float)((int)(lo | hi << 4) - 32);
    }
}
