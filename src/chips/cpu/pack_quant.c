/* pack_quant.c: panels of quantised types; layouts in layout.h. */
#include "chips/cpu/pack_words.h"

/* ---- Q4_0: blocks of 32: f16 d, 16 bytes of nibbles ---- */

void pack_q4_0(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    for (size_t g = 0; g < n; g++, dst += Q4_0_BYTES, src += 36) {
        for (unsigned b = 0; b < 2; b++) {
            pack_halves(dst + Q4_0_D + 32 * b, src + 18 * b, stride);
            pack_words(dst + Q4_0_Q + 256 * b, src + 18 * b + 2, stride, 4);
        }
    }
}

void read_q4_0(float *out, const uint8_t *group, unsigned lane)
{
    for (unsigned b = 0; b < 2; b++) {
        const float d = half_at(group + Q4_0_D + 32 * b + 2 * lane);
        const uint8_t *q = group + Q4_0_Q + 256 * b + 4 * lane;

        for (unsigned i = 0; i < 16; i++) {
            const uint8_t v = q[i / 4 * 64 + i % 4];

            out[32 * b + i] = (float)((v & 15) - 8) * d;
            out[32 * b + 16 + i] = (float)((v >> 4) - 8) * d;
        }
    }
}

/* ---- Q8_0: blocks of 32: f16 d, 32 signed bytes ---- */

void pack_q8_0(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    for (size_t g = 0; g < n; g++, dst += Q8_0_BYTES, src += 68) {
        for (unsigned b = 0; b < 2; b++) {
            pack_halves(dst + Q8_0_D + 32 * b, src + 34 * b, stride);
            pack_words(dst + Q8_0_Q + 512 * b, src + 34 * b + 2, stride, 8);
        }
        for (unsigned i = 0; i < 1024; i++)
            dst[Q8_0_Q + i] ^= 0x80;
    }
}

void read_q8_0(float *out, const uint8_t *group, unsigned lane)
{
    for (unsigned b = 0; b < 2; b++) {
        const float d = half_at(group + Q8_0_D + 32 * b + 2 * lane);
        const uint8_t *q = group + Q8_0_Q + 512 * b + 4 * lane;

        for (unsigned i = 0; i < 32; i++)
            out[32 * b + i] = (float)((int)q[i / 4 * 64 + i % 4] - 128) * d;
    }
}
