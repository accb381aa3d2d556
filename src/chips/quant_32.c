/* quant_32.c: quantisers of the blocks of 32 and 64 elements; see quant.h. */
#include <math.h>
#include <string.h>

#include "chips/quant.h"
#include "chips/quant_blocks.h"
#include "chips/quant_fit.h"
#include "chips/quant_tables.h"

#define HALF_MAX 65504.0f

/* Half precision that is never infinite. */
static uint16_t to_half(float f)
{
    return f32_to_f16(f > HALF_MAX ? HALF_MAX : f < -HALF_MAX ? -HALF_MAX : f);
}

/* Scale and levels of one block of x about d q. */
static uint16_t fit_block(int8_t q[32], const float *in, const float *importance,
                          const struct fit_levels *l)
{
    float x[32], w[32];
    uint16_t d;

    fit_prepare(x, w, in, importance, 32);
    d = to_half(fit_scale(x, w, 32, l, NULL));
    fit_round(q, x, 32, l, f16_to_f32(d), 0);
    return d;
}

static const float *block_weights(const float *importance, size_t i)
{
    return importance ? importance + 32 * i : NULL;
}

static void pack_nibbles(uint8_t qs[16], const int8_t q[32], int offset)
{
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)(((q[j] + offset) & 15) | ((q[j + 16] + offset) & 15) << 4);
}

static void pack_fifth_bits(uint8_t qh[4], const int8_t q[32], int offset)
{
    memset(qh, 0, 4);
    for (int j = 0; j < 32; j++)
        qh[j / 8] |= (uint8_t)(((q[j] + offset) >> 4 & 1) << j % 8);
}

void quant_q4_0(void *blocks, const float *in, size_t n, const float *importance)
{
    static const struct fit_levels levels = { FIT_WHOLE, -8, 7 };
    struct block_q4_0 *b = blocks;
    int8_t q[32];

    for (size_t i = 0; i < n / 32; i++) {
        b[i].d = fit_block(q, in + 32 * i, block_weights(importance, i), &levels);
        pack_nibbles(b[i].qs, q, 8);
    }
}

void quant_q5_0(void *blocks, const float *in, size_t n, const float *importance)
{
    static const struct fit_levels levels = { FIT_WHOLE, -16, 15 };
    struct block_q5_0 *b = blocks;
    int8_t q[32];

    for (size_t i = 0; i < n / 32; i++) {
        b[i].d = fit_block(q, in + 32 * i, block_weights(importance, i), &levels);
        pack_nibbles(b[i].qs, q, 16);
        pack_fifth_bits(b[i].qh, q, 16);
    }
}

void quant_iq4_nl(void *blocks, const float *in, size_t n, const float *importance)
{
    static const struct fit_levels levels = { FIT_IQ4, -127, 113 };
    struct block_iq4_nl *b = blocks;
    int8_t q[32];

    for (size_t i = 0; i < n / 32; i++) {
        b[i].d = fit_block(q, in + 32 * i, block_weights(importance, i), &levels);
        pack_nibbles(b[i].qs, q, 0);
    }
}

/* Scale, minimum and levels of one block of x about d q + m. Both are rounded to half
 * precision first; the minimum is refitted to the scale that is stored. */
static void fit_block_min(int8_t q[32], uint16_t *d, uint16_t *m, const float *in,
                          const float *importance, float hi)
{
    const struct fit_levels levels = { FIT_WHOLE, 0, hi };
    float x[32], w[32];
    struct fit_affine fit;

    fit_prepare(x, w, in, importance, 32);
    fit = fit_affine(x, w, 32, hi, false);
    *d = to_half(fit.d);
    *m = to_half(fit.m);
    fit_round(q, x, 32, &levels, f16_to_f32(*d), f16_to_f32(*m));
}

void quant_q4_1(void *blocks, const float *in, size_t n, const float *importance)
{
    struct block_q4_1 *b = blocks;
    int8_t q[32];

    for (size_t i = 0; i < n / 32; i++) {
        uint16_t d, m;

        fit_block_min(q, &d, &m, in + 32 * i, block_weights(importance, i), 15);
        b[i].d = d;
        b[i].m = m;
        pack_nibbles(b[i].qs, q, 0);
    }
}

void quant_q5_1(void *blocks, const float *in, size_t n, const float *importance)
{
    struct block_q5_1 *b = blocks;
    int8_t q[32];

    for (size_t i = 0; i < n / 32; i++) {
        uint16_t d, m;

        fit_block_min(q, &d, &m, in + 32 * i, block_weights(importance, i), 31);
        b[i].d = d;
        b[i].m = m;
        pack_nibbles(b[i].qs, q, 0);
        pack_fifth_bits(b[i].qh, q, 0);
    }
}

/* With 255 levels clipping never pays: the choice is among the half-precision numbers
 * just around the largest magnitude / 127, by their errors. */
void quant_q8_0(void *blocks, const float *in, size_t n, const float *importance)
{
    static const struct fit_levels levels = { FIT_WHOLE, -127, 127 };
    static const float zero[FIT_LANES] = { 0 };
    struct block_q8_0 *b = blocks;

    for (size_t i = 0; i < n / 32; i++) {
        float x[32], w[32], d[FIT_LANES], error[FIT_LANES];
        int8_t q[32];
        const float max = fit_prepare(x, w, in + 32 * i, block_weights(importance, i), 32);
        int best = 0;

        for (int c = 0; c < FIT_LANES; c++)
            d[c] = f16_to_f32(to_half(max / (126.65f + 0.1f * (float)c)));
        fit_errors(error, x, w, 32, &levels, d, zero);
        for (int c = 1; c < FIT_LANES; c++)
            best = error[c] < error[best] ? c : best;
        b[i].d = f32_to_f16(d[best]);
        fit_round(q, x, 32, &levels, d[best], 0);
        memcpy(b[i].qs, q, 32);
    }
}

/* ---- FP4 ---- */

static const struct fit_levels fp4_grid = { FIT_FP4, -12, 12 };

void quant_mxfp4(void *blocks, const float *in, size_t n, const float *importance)
{
    static const float zero[FIT_LANES] = { 0 };
    struct block_mxfp4 *b = blocks;

    for (size_t i = 0; i < n / 32; i++) {
        float x[32], w[32], d[FIT_LANES], error[FIT_LANES];
        int8_t q[32];
        int e, best = 0;
        const float max = fit_prepare(x, w, in + 32 * i, block_weights(importance, i), 32);

        /* E2M1 ends at 6: a scale of 2^(e - 3) puts the largest element at 4 to 8, the
         * next at 2 to 4 */
        (void)frexpf(max, &e);
        e = max > 0 ? e + 124 : 0;
        for (int c = 0; c < FIT_LANES; c++)
            d[c] = e8m0_half((uint8_t)(e - 1 + c % 3 < 0 ? 0 : e - 1 + c % 3));
        fit_errors(error, x, w, 32, &fp4_grid, d, zero);
        for (int c = 1; c < 3; c++)
            best = error[c] < error[best] ? c : best;
        b[i].e = (uint8_t)(e - 1 + best < 0 ? 0 : e - 1 + best);
        fit_round(q, x, 32, &fp4_grid, e8m0_half(b[i].e), 0);
        pack_nibbles(b[i].qs, q, 0);
    }
}

/* The greatest scale code whose value is not above d; 0 when none is. */
static int ue4m3_floor(float d)
{
    int lo = 0, hi = 0x7E;

    while (lo < hi) {
        const int mid = (lo + hi + 1) / 2;

        if (ue4m3_half((uint8_t)mid) <= d)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

/* One group of 16: the scale code with the least error, from half an octave below the
 * one that puts the largest element on the last level to more than one above. */
static uint8_t fit_nvfp4(int8_t q[16], const float *x, const float *w)
{
    static const float zero[FIT_LANES] = { 0 };
    float max = 0, least = 0;
    int base, best = -1;

    for (int j = 0; j < 16; j++)
        max = fabsf(x[j]) > max ? fabsf(x[j]) : max;
    base = ue4m3_floor(max / 12) - 4;
    for (int batch = 0; batch < 2; batch++, base += FIT_LANES) {
        float d[FIT_LANES], error[FIT_LANES];

        for (int c = 0; c < FIT_LANES; c++) {
            const int code = base + c < 0 ? 0 : base + c > 0x7E ? 0x7E : base + c;

            d[c] = ue4m3_half((uint8_t)code);
        }
        fit_errors(error, x, w, 16, &fp4_grid, d, zero);
        for (int c = 0; c < FIT_LANES; c++)
            if (best < 0 || error[c] < least) {
                least = error[c];
                best = base + c < 0 ? 0 : base + c > 0x7E ? 0x7E : base + c;
            }
    }
    fit_round(q, x, 16, &fp4_grid, ue4m3_half((uint8_t)best), 0);
    return (uint8_t)best;
}

void quant_nvfp4(void *blocks, const float *in, size_t n, const float *importance)
{
    struct block_nvfp4 *b = blocks;

    for (size_t i = 0; i < n / 64; i++) {
        float x[64], w[64];
        int8_t q[16];

        fit_prepare(x, w, in + 64 * i, importance ? importance + 64 * i : NULL, 64);
        for (int g = 0; g < 4; g++) {
            b[i].d[g] = fit_nvfp4(q, x + 16 * g, w + 16 * g);
            for (int j = 0; j < 8; j++)
                b[i].qs[8 * g + j] = (uint8_t)(q[j] | q[j + 8] << 4);
        }
    }
}
