/* dequant_iq.c: dequantisation of the codebook types IQ1, IQ2 and IQ3. Reference
 * code: the order of operations defines the value, bit for bit. */
#include <string.h>

#include "chips/dequant.h"
#include "chips/quant_blocks.h"
#include "chips/quant_tables.h"

static uint32_t load32(const void *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* Eight elements of one IQ2 grid entry. */
static void put_iq2(float *out, uint16_t entry, unsigned signs, float scale)
{
    for (unsigned j = 0; j < 8; j++) {
        const float v = scale * (float)iq2_level[entry >> 2 * j & 3];

        out[j] = signs >> j & 1 ? -v : v;
    }
}

/* Four elements of one IQ3 grid entry; signs in the lowest bits. */
static void put_iq3(float *out, uint16_t entry, const uint8_t *level, unsigned signs, float scale)
{
    for (unsigned j = 0; j < 4; j++) {
        const float v = scale * (float)level[entry >> 4 * j & 7];

        out[j] = signs >> j & 1 ? -v : v;
    }
}

void dequant_iq2_xxs(float *out, const void *blocks, size_t n)
{
    const struct block_iq2_xxs *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d);
        const uint8_t *q = (const uint8_t *)blocks + i * sizeof *b + 2;

        for (unsigned g = 0; g < 8; g++, q += 8) {
            const uint32_t tail = load32(q + 4);
            const float scale = d * (0.5f + (float)(tail >> 28)) * 0.25f;

            for (unsigned l = 0; l < 4; l++, out += 8)
                put_iq2(out, iq2_xxs_grid[q[l]], iq_signs(tail >> 7 * l & 127), scale);
        }
    }
}

void dequant_iq2_xs(float *out, const void *blocks, size_t n)
{
    const struct block_iq2_xs *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d);

        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned q = b[i].qs[l];
            const unsigned s = (unsigned)b[i].scales[l / 4] >> l % 4 / 2 * 4 & 15;

            put_iq2(out, iq2_xs_grid[q & 511], iq_signs(q >> 9),
                    d * (0.5f + (float)s) * 0.25f);
        }
    }
}

void dequant_iq2_s(float *out, const void *blocks, size_t n)
{
    const struct block_iq2_s *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d);

        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned high = (unsigned)b[i].qh[l / 4] >> l % 4 * 2 & 3;
            const unsigned s = (unsigned)b[i].scales[l / 4] >> l % 4 / 2 * 4 & 15;

            put_iq2(out, iq2_s_grid[b[i].qs[l] | high << 8], b[i].signs[l],
                    d * (0.5f + (float)s) * 0.25f);
        }
    }
}

void dequant_iq3_xxs(float *out, const void *blocks, size_t n)
{
    const struct block_iq3_xxs *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d);

        for (unsigned l = 0; l < 32; l++, out += 8) {
            const uint32_t tail = load32(b[i].gas + l / 4 * 4);
            const float scale = d * (0.5f + (float)(tail >> 28)) * 0.5f;
            const unsigned signs = iq_signs(tail >> l % 4 * 7 & 127);

            put_iq3(out, iq3_xxs_grid[b[i].qs[2 * l]], iq3_xxs_level, signs, scale);
            put_iq3(out + 4, iq3_xxs_grid[b[i].qs[2 * l + 1]], iq3_xxs_level, signs >> 4, scale);
        }
    }
}

void dequant_iq3_s(float *out, const void *blocks, size_t n)
{
    const struct block_iq3_s *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d);

        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned s = (unsigned)b[i].scales[l / 8] >> l / 4 % 2 * 4 & 15;
            const float scale = d * (float)(1 + 2 * s);
            const unsigned high = (unsigned)b[i].qh[l / 4] >> l % 4 * 2 & 3;
            const unsigned q0 = b[i].qs[2 * l] | (high & 1) << 8;
            const unsigned q1 = b[i].qs[2 * l + 1] | (high >> 1) << 8;
            const unsigned signs = b[i].signs[l];

            put_iq3(out, iq3_s_grid[q0], iq3_s_level, signs, scale);
            put_iq3(out + 4, iq3_s_grid[q1], iq3_s_level, signs >> 4, scale);
        }
    }
}

/* Eight elements of one IQ1 grid entry: -1, 0 or 1, moved by an eighth. */
static void put_iq1(float *out, uint16_t entry, bool down, float scale)
{
    const float delta = down ? -0.125f : 0.125f;

    for (unsigned j = 0; j < 8; j++)
        out[j] = scale * ((float)((entry >> 2 * j & 3) - 1) + delta);
}

void dequant_iq1_s(float *out, const void *blocks, size_t n)
{
    const struct block_iq1_s *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const float d = f16_to_f32(b[i].d);

        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned h = b[i].qh[l / 4];
            const float scale = d * (float)(2 * (h >> 12 & 7) + 1);

            put_iq1(out, iq1_grid[b[i].qs[l] | (h >> l % 4 * 3 & 7) << 8], h >> 15, scale);
        }
    }
}

void dequant_iq1_m(float *out, const void *blocks, size_t n)
{
    const struct block_iq1_m *b = blocks;

    for (size_t i = 0; i < n / 256; i++) {
        const uint16_t s[4] = { b[i].scales[0], b[i].scales[1], b[i].scales[2], b[i].scales[3] };
        const float d = f16_to_f32((uint16_t)(s[0] >> 12 | (s[1] >> 12) << 4 | (s[2] >> 12) << 8 |
                                              (s[3] >> 12) << 12));

        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned h = (unsigned)b[i].qh[l / 2] >> l % 2 * 4 & 15;
            const unsigned g = l / 2;   /* a scale for each 16 */
            const float scale = d * (float)(2 * (s[g / 4] >> g % 4 * 3 & 7) + 1);

            put_iq1(out, iq1_grid[b[i].qs[l] | (h & 7) << 8], h >> 3, scale);
        }
    }
}
