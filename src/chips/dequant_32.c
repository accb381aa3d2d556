/* dequant_32.c: dequantisation of the blocks of 32 and 64 elements. Reference code:
 * the order of operations defines the value, bit for bit. */
#include "chips/dequant.h"
#include "chips/quant_blocks.h"
#include "chips/quant_tables.h"

void dequant_q4_0(float *out, const void *blocks, size_t n)
{
    const struct block_q4_0 *b = blocks;

    for (size_t i = 0; i < n / 32; i++, out += 32) {
        const float d = f16_to_f32(b[i].d);

        for (size_t j = 0; j < 16; j++) {
            out[j] = d * (float)((b[i].qs[j] & 15) - 8);
            out[j + 16] = d * (float)((b[i].qs[j] >> 4) - 8);
        }
    }
}

void dequant_q4_1(float *out, const void *blocks, size_t n)
{
    const struct block_q4_1 *b = blocks;

    for (size_t i = 0; i < n / 32; i++, out += 32) {
        const float d = f16_to_f32(b[i].d), m = f16_to_f32(b[i].m);

        for (size_t j = 0; j < 16; j++) {
            out[j] = d * (float)(b[i].qs[j] & 15) + m;
            out[j + 16] = d * (float)(b[i].qs[j] >> 4) + m;
        }
    }
}

void dequant_q5_0(float *out, const void *blocks, size_t n)
{
    const struct block_q5_0 *b = blocks;

    for (size_t i = 0; i < n / 32; i++, out += 32) {
        const float d = f16_to_f32(b[i].d);

        for (size_t j = 0; j < 16; j++) {
            const int low = b[i].qh[j / 8] >> j % 8 & 1;
            const int high = b[i].qh[2 + j / 8] >> j % 8 & 1;

            out[j] = d * (float)((b[i].qs[j] & 15) + 16 * low - 16);
            out[j + 16] = d * (float)((b[i].qs[j] >> 4) + 16 * high - 16);
        }
    }
}

void dequant_q5_1(float *out, const void *blocks, size_t n)
{
    const struct block_q5_1 *b = blocks;

    for (size_t i = 0; i < n / 32; i++, out += 32) {
        const float d = f16_to_f32(b[i].d), m = f16_to_f32(b[i].m);

        for (size_t j = 0; j < 16; j++) {
            const int low = b[i].qh[j / 8] >> j % 8 & 1;
            const int high = b[i].qh[2 + j / 8] >> j % 8 & 1;

            out[j] = d * (float)((b[i].qs[j] & 15) + 16 * low) + m;
            out[j + 16] = d * (float)((b[i].qs[j] >> 4) + 16 * high) + m;
        }
    }
}

void dequant_q8_0(float *out, const void *blocks, size_t n)
{
    const struct block_q8_0 *b = blocks;

    for (size_t i = 0; i < n / 32; i++, out += 32) {
        const float d = f16_to_f32(b[i].d);

        for (size_t j = 0; j < 32; j++)
            out[j] = d * (float)b[i].qs[j];
    }
}

void dequant_q8_1(float *out, const void *blocks, size_t n)
{
    const struct block_q8_1 *b = blocks;

    for (size_t i = 0; i < n / 32; i++, out += 32) {
        const float d = f16_to_f32(b[i].d);

        for (size_t j = 0; j < 32; j++)
            out[j] = d * (float)b[i].qs[j];
    }
}

void dequant_iq4_nl(float *out, const void *blocks, size_t n)
{
    const struct block_iq4_nl *b = blocks;

    for (size_t i = 0; i < n / 32; i++, out += 32) {
        const float d = f16_to_f32(b[i].d);

        for (size_t j = 0; j < 16; j++) {
            out[j] = d * (float)iq4_levels[b[i].qs[j] & 15];
            out[j + 16] = d * (float)iq4_levels[b[i].qs[j] >> 4];
        }
    }
}

void dequant_mxfp4(float *out, const void *blocks, size_t n)
{
    const struct block_mxfp4 *b = blocks;

    for (size_t i = 0; i < n / 32; i++, out += 32) {
        const float d = e8m0_half(b[i].e);

        for (size_t j = 0; j < 16; j++) {
            out[j] = d * (float)fp4_levels[b[i].qs[j] & 15];
            out[j + 16] = d * (float)fp4_levels[b[i].qs[j] >> 4];
        }
    }
}

void dequant_nvfp4(float *out, const void *blocks, size_t n)
{
    const struct block_nvfp4 *b = blocks;

    for (size_t i = 0; i < n / 64; i++) {
        for (size_t g = 0; g < 4; g++, out += 16) {
            const float d = ue4m3_half(b[i].d[g]);

            for (size_t j = 0; j < 8; j++) {
                out[j] = d * (float)fp4_levels[b[i].qs[8 * g + j] & 15];
                out[j + 8] = d * (float)fp4_levels[b[i].qs[8 * g + j] >> 4];
            }
        }
    }
}
