/* dequant_256.c: dequantisation of the K, ternary and IQ4_XS super-blocks of 256
 * elements. Reference code: the order of operations defines the value, bit for bit. */
#include "chips/dequant.h"
#include "chips/quant_blocks.h"
#include "chips/quant_tables.h"

/* Element i < 256 of the 2-bit planes that quant_blocks.h describes. */
static unsigned plane2(const uint8_t *qs, size_t i)
{
    return (unsigned)qs[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3u;
}

void dequant_q2_k(float *out, const void *blocks, size_t n)
{
    const struct block_q2_k *b = blocks;

    for (size_t i = 0; i < n / 256; i++, out += 256) {
        const float d = f16_to_f32(b[i].d), dmin = f16_to_f32(b[i].dmin);

        for (size_t g = 0; g < 16; g++) {
            const float scale = d * (float)(b[i].scales[g] & 15);
            const float min = dmin * (float)(b[i].scales[g] >> 4);

            for (size_t j = 16 * g; j < 16 * g + 16; j++)
                out[j] = scale * (float)plane2(b[i].qs, j) - min;
        }
    }
}

void dequant_q3_k(float *out, const void *blocks, size_t n)
{
    const struct block_q3_k *b = blocks;

    for (size_t i = 0; i < n / 256; i++, out += 256) {
        const float d = f16_to_f32(b[i].d);

        for (unsigned g = 0; g < 16; g++) {
            const float scale = d * (float)q3k_scale(b[i].scales, g);

            for (size_t j = 16 * g; j < 16 * g + 16; j++) {
                const int high = b[i].hmask[j % 32] >> j / 32 & 1;

                out[j] = scale * (float)((int)plane2(b[i].qs, j) + 4 * high - 4);
            }
        }
    }
}

void dequant_q4_k(float *out, const void *blocks, size_t n)
{
    const struct block_q4_k *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d), dmin = f16_to_f32(b[i].dmin);

        for (unsigned g = 0; g < 8; g++, out += 32) {
            const uint8_t *q = b[i].qs + g / 2 * 32;
            unsigned sc, m;

            q4k_scale_min(b[i].scales, g, &sc, &m);
            for (size_t j = 0; j < 32; j++)
                out[j] = d * (float)sc * (float)(q[j] >> g % 2 * 4 & 15) - dmin * (float)m;
        }
    }
}

void dequant_q5_k(float *out, const void *blocks, size_t n)
{
    const struct block_q5_k *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d), dmin = f16_to_f32(b[i].dmin);

        for (unsigned g = 0; g < 8; g++, out += 32) {
            const uint8_t *q = b[i].qs + g / 2 * 32;
            unsigned sc, m;

            q4k_scale_min(b[i].scales, g, &sc, &m);
            for (size_t j = 0; j < 32; j++) {
                const int level = (q[j] >> g % 2 * 4 & 15) + (b[i].qh[j] >> g & 1) * 16;

                out[j] = d * (float)sc * (float)level - dmin * (float)m;
            }
        }
    }
}

void dequant_q6_k(float *out, const void *blocks, size_t n)
{
    const struct block_q6_k *b = blocks;

    for (size_t i = 0; i < n / 256; i++, out += 256) {
        const float d = f16_to_f32(b[i].d);

        for (size_t g = 0; g < 16; g++) {
            const float scale = d * (float)b[i].scales[g];

            for (size_t j = 16 * g; j < 16 * g + 16; j++) {
                const int low = b[i].ql[j / 128 * 64 + j % 64] >> j % 128 / 64 * 4 & 15;
                const int high = (int)plane2(b[i].qh, j);

                out[j] = scale * (float)(low + 16 * high - 32);
            }
        }
    }
}

void dequant_q8_k(float *out, const void *blocks, size_t n)
{
    const struct block_q8_k *b = blocks;

    for (size_t i = 0; i < n / 256; i++, out += 256)
        for (size_t j = 0; j < 256; j++)
            out[j] = b[i].d * (float)b[i].qs[j];
}

void dequant_iq4_xs(float *out, const void *blocks, size_t n)
{
    const struct block_iq4_xs *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d);

        for (unsigned g = 0; g < 8; g++, out += 32) {
            const float scale = d * (float)iq4xs_scale(&b[i], g);
            const uint8_t *q = b[i].qs + 16 * g;

            for (size_t j = 0; j < 16; j++) {
                out[j] = scale * (float)iq4_levels[q[j] & 15];
                out[j + 16] = scale * (float)iq4_levels[q[j] >> 4];
            }
        }
    }
}

/* Digits of n_digits elements from each of n_bytes bytes; element k n_bytes + j is
 * digit k of byte j. Multiplying by 3^k moves digit k to the top of the byte. */
static void ternary_digits(float *out, const uint8_t *q, size_t n_bytes, unsigned n_digits, float d)
{
    static const uint8_t power3[5] = { 1, 3, 9, 27, 81 };

    for (unsigned k = 0; k < n_digits; k++)
        for (size_t j = 0; j < n_bytes; j++) {
            const uint8_t top = (uint8_t)(q[j] * power3[k]);

            *out++ = d * (float)((top * 3 >> 8) - 1);
        }
}

void dequant_tq1_0(float *out, const void *blocks, size_t n)
{
    const struct block_tq1_0 *b = blocks;

    for (size_t i = 0; i < n / 256; i++, out += 256) {
        const float d = f16_to_f32(b[i].d);

        ternary_digits(out, b[i].qs, 32, 5, d);
        ternary_digits(out + 160, b[i].qs + 32, 16, 5, d);
        ternary_digits(out + 240, b[i].qh, 4, 4, d);
    }
}

void dequant_tq2_0(float *out, const void *blocks, size_t n)
{
    const struct block_tq2_0 *b = blocks;

    for (size_t i = 0; i < n / 256; i++, out += 256) {
        const float d = f16_to_f32(b[i].d);

        for (size_t j = 0; j < 256; j++)
            out[j] = d * (float)((int)plane2(b[i].qs, j) - 1);
    }
}
