/* wide_body.h: the expanders of wide.h. Included by one file per instruction set,
 * which defines before:
 *   WIDE_FLIP                                           0 or 0x80
 *   wide_halves(float *dst, const uint8_t *src)         sixteen f16 to f32
 *   wide_levels(uint8_t *dst, const uint8_t *codes, const int8_t *levels)
 *       64 codes of 0..15 to levels, stored as weights; dst may be codes
 *   WIDE_MANY, if types with kernels of their own are wanted too
 * All of an expander's groups are whole. Minima: what is added, per unit of the sum of
 * the activations; with two scales it is divided by -128, since those kernels
 * read the sums as b16. */
#include <string.h>

#include "chips/cpu/wide.h"
#include "chips/quant_tables.h"

typedef uint32_t __attribute__((may_alias)) word;

#define EACH_LANE for (unsigned l = 0; l < PACK_ROWS; l++)
#define BYTES(x) (0x01010101u * (x))
#define FLIP BYTES((uint32_t)WIDE_FLIP)

static inline float *scales_at(uint8_t *dst) { return (float *)(void *)(dst + WIDE_W); }

/* Words of nibbles: word t gives word t of inputs 4t… and word t + high of those of the high
 * nibbles. plus: 128 minus the type's offset. */
static inline void nibbles(uint8_t *dst, const uint8_t *q, unsigned n, unsigned high, uint32_t plus)
{
    for (unsigned t = 0; t < n; t++) {
        const word *x = (const void *)(q + 64 * t);
        word *lo = (void *)(dst + 64 * t), *hi = (void *)(dst + 64 * (t + high));

        EACH_LANE {
            lo[l] = ((x[l] & BYTES(15)) + BYTES(plus)) ^ FLIP;
            hi[l] = ((x[l] >> 4 & BYTES(15)) + BYTES(plus)) ^ FLIP;
        }
    }
}

static inline void levels_of_nibbles(uint8_t *dst, const uint8_t *q, unsigned n, unsigned high,
                                     const int8_t *levels)
{
    for (unsigned t = 0; t < n; t++) {
        const word *x = (const void *)(q + 64 * t);
        word *lo = (void *)(dst + 64 * t), *hi = (void *)(dst + 64 * (t + high));

        EACH_LANE {
            lo[l] = x[l] & BYTES(15);
            hi[l] = x[l] >> 4 & BYTES(15);
        }
        wide_levels(dst + 64 * t, dst + 64 * t, levels);
        wide_levels(dst + 64 * (t + high), dst + 64 * (t + high), levels);
    }
}

/* Nibbles with the fifth bits of a block, bit i of input i; the product spreads four bits to
 * four bytes. */
static inline void five_bits(uint8_t *dst, const uint8_t *q, const uint8_t *h, uint32_t plus)
{
    const word *bits = (const void *)h;

    for (unsigned t = 0; t < 4; t++) {
        const word *x = (const void *)(q + 64 * t);
        word *lo = (void *)(dst + 64 * t), *hi = (void *)(dst + 64 * (t + 4));

        EACH_LANE {
            const uint32_t b0 = (bits[l] >> 4 * t & 15) * 0x00204081u & BYTES(1);
            const uint32_t b1 = (bits[l] >> (16 + 4 * t) & 15) * 0x00204081u & BYTES(1);

            lo[l] = ((x[l] & BYTES(15)) + (b0 << 4) + BYTES(plus)) ^ FLIP;
            hi[l] = ((x[l] >> 4 & BYTES(15)) + (b1 << 4) + BYTES(plus)) ^ FLIP;
        }
    }
}

static void expand_q4_1(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 1);

    for (; n > 0; n--, g += Q4_1_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            nibbles(dst, g + Q4_1_Q + 256 * b, 4, 4, 128);
            wide_halves(scales_at(dst), g + Q4_1_D + 32 * b);
            wide_halves(scales_at(dst) + 16, g + Q4_1_M + 32 * b);
        }
    }
}

static void expand_q5_0(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += Q5_0_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            five_bits(dst, g + Q5_0_Q + 256 * b, g + Q5_0_H + 64 * b, 128 - 16);
            wide_halves(scales_at(dst), g + Q5_0_D + 32 * b);
        }
    }
}

static void expand_q5_1(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 1);

    for (; n > 0; n--, g += Q5_1_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            five_bits(dst, g + Q5_1_Q + 256 * b, g + Q5_1_H + 64 * b, 128);
            wide_halves(scales_at(dst), g + Q5_1_D + 32 * b);
            wide_halves(scales_at(dst) + 16, g + Q5_1_M + 32 * b);
        }
    }
}

static void expand_iq4_nl(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += Q4_0_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            levels_of_nibbles(dst, g + Q4_0_Q + 256 * b, 4, 4, iq4_levels);
            wide_halves(scales_at(dst), g + Q4_0_D + 32 * b);
        }
    }
}

static void expand_iq4_xs(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);
    float d[PACK_ROWS];

    for (; n > 0; n--, g += IQ4_XS_BYTES) {
        const word *low = (const void *)(g + IQ4_XS_SL);
        const uint16_t *high = (const void *)(g + IQ4_XS_SH);

        wide_halves(d, g + IQ4_XS_D);
        for (unsigned j = 0; j < 8; j++, dst += block) {
            float *scale = scales_at(dst);

            levels_of_nibbles(dst, g + IQ4_XS_Q + 256 * j, 4, 4, iq4_levels);
            EACH_LANE {
                const uint32_t s = (low[l] >> 4 * j & 15) | ((uint32_t)high[l] >> 2 * j & 3) << 4;

                scale[l] = d[l] * (float)((int32_t)s - 32);
            }
        }
    }
}

static void expand_mxfp4(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += MXFP4_BYTES) {
        for (unsigned b = 0; b < 4; b++, dst += block) {
            const uint8_t *e = g + MXFP4_E + PACK_ROWS * b;
            word *scale = (void *)scales_at(dst);

            levels_of_nibbles(dst, g + MXFP4_Q + 256 * b, 4, 4, fp4_levels);
            EACH_LANE       /* e8m0_half() */
                scale[l] = e[l] < 2 ? 0x00200000u << (e[l] & 1) : ((uint32_t)e[l] - 1) << 23;
        }
    }
}

static void expand_nvfp4(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(2, 0);

    for (; n > 0; n--, g += NVFP4_BYTES) {
        const word *d = (const void *)(g + NVFP4_D);

        for (unsigned b = 0; b < 2; b++, dst += block) {
            for (unsigned h = 0; h < 2; h++) {      /* a group of 16: two words of nibbles */
                const unsigned part = 2 * b + h;
                float *scale = scales_at(dst) + 16 * h;

                levels_of_nibbles(dst + 256 * h, g + NVFP4_Q + 128 * part, 2, 2, fp4_levels);
                EACH_LANE {     /* ue4m3_half() */
                    const uint32_t x = d[l] >> 8 * part & 255, e = x >> 3 & 15, m = x & 7;
                    const uint32_t bits = (e + 119) << 23 | m << 20;
                    float normal;

                    memcpy(&normal, &bits, 4);
                    normal = e == 0 ? (float)(int32_t)m * 0x1p-10f : normal;
                    scale[l] = x == 0x7F ? 0.0f : normal;
                }
            }
        }
    }
}

/* Plane j of words of four 2-bit planes. */
static inline void plane(uint8_t *dst, const uint8_t *q, unsigned j, uint32_t plus)
{
    for (unsigned t = 0; t < 8; t++) {
        const word *x = (const void *)(q + 64 * t);
        word *w = (void *)(dst + 64 * t);

        EACH_LANE
            w[l] = ((x[l] >> 2 * j & BYTES(3)) + BYTES(plus)) ^ FLIP;
    }
}

static void expand_q2_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(2, 1);
    float d[PACK_ROWS], dmin[PACK_ROWS];

    for (; n > 0; n--, g += Q2_K_BYTES) {
        wide_halves(d, g + Q2_K_D);
        wide_halves(dmin, g + Q2_K_D + 32);
        for (unsigned b = 0; b < 8; b++, dst += block) {
            plane(dst, g + Q2_K_Q + 512 * (b / 4), b % 4, 128);
            for (unsigned h = 0; h < 2; h++) {
                const unsigned part = 2 * b + h;
                const word *s = (const void *)(g + Q2_K_SC + 64 * (part / 4));
                float *scale = scales_at(dst) + 16 * h, *min = scale + 32;

                EACH_LANE {
                    const int32_t x = (int32_t)(s[l] >> 8 * (part % 4) & 255);

                    scale[l] = d[l] * (float)(x & 15);
                    min[l] = dmin[l] * (float)(x >> 4) * (1.0f / 128.0f);
                }
            }
        }
    }
}

static void expand_q3_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(2, 0);
    float d[PACK_ROWS];

    for (; n > 0; n--, g += Q3_K_BYTES) {
        const word *s = (const void *)(g + Q3_K_SC);

        wide_halves(d, g + Q3_K_D);
        for (unsigned b = 0; b < 8; b++, dst += block) {
            for (unsigned t = 0; t < 8; t++) {
                const word *x = (const void *)(g + Q3_K_Q + 512 * (b / 4) + 64 * t);
                const word *h = (const void *)(g + Q3_K_H + 64 * t);
                word *w = (void *)(dst + 64 * t);

                EACH_LANE
                    w[l] = ((x[l] >> 2 * (b % 4) & BYTES(3)) + ((h[l] >> b & BYTES(1)) << 2) +
                            BYTES(124)) ^ FLIP;
            }
            for (unsigned h = 0; h < 2; h++) {
                const unsigned j = 2 * b + h;       /* q3k_scale() */
                const word *low = s + 16 * (j / 4 % 2), *high = s + 32;
                float *scale = scales_at(dst) + 16 * h;

                EACH_LANE {
                    const uint32_t lo = low[l] >> (8 * (j % 4) + 4 * (j / 8)) & 15;
                    const uint32_t hi = high[l] >> (8 * (j % 4) + 2 * (j / 4)) & 3;

                    scale[l] = d[l] * (float)((int32_t)(lo | hi << 4) - 32);
                }
            }
        }
    }
}

static void expand_tq2_0(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += TQ2_0_BYTES) {
        for (unsigned b = 0; b < 8; b++, dst += block) {
            plane(dst, g + TQ2_0_Q + 512 * (b / 4), b % 4, 127);
            wide_halves(scales_at(dst), g + TQ2_0_D);
        }
    }
}

#ifdef WIDE_MANY     /* types with kernels of their own for few rows */

static void expand_q5_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 1);
    float d[PACK_ROWS], dmin[PACK_ROWS];

    for (; n > 0; n--, g += Q5_K_BYTES) {
        wide_halves(d, g + Q4_K_D);
        wide_halves(dmin, g + Q4_K_D + 32);
        for (unsigned b = 0; b < 8; b++, dst += block) {
            const uint8_t *sc = g + Q4_K_SC + PACK_ROWS * b, *m = g + Q4_K_M + PACK_ROWS * b;
            float *scale = scales_at(dst), *min = scale + 16;

            for (unsigned t = 0; t < 8; t++) {
                const word *x = (const void *)(g + Q5_K_Q + 512 * (b / 2) + 64 * t);
                const word *h = (const void *)(g + Q5_K_H + 64 * t);
                word *w = (void *)(dst + 64 * t);

                EACH_LANE
                    w[l] = ((x[l] >> 4 * (b % 2) & BYTES(15)) + ((h[l] >> b & BYTES(1)) << 4) +
                            BYTES(128)) ^ FLIP;
            }
            EACH_LANE {
                scale[l] = d[l] * (float)(int32_t)sc[l];
                min[l] = -(dmin[l] * (float)(int32_t)m[l]);
            }
        }
    }
}

static void expand_q6_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(2, 0);

    for (; n > 0; n--, g += Q6_K_BYTES) {
        const float *d = (const void *)(g + Q6_K_D);

        for (unsigned b = 0; b < 8; b++, dst += block) {
            const uint8_t *half = g + Q6_K_Q + Q6_K_HALF * (b / 4);
            const unsigned j = b % 4;

            for (unsigned t = 0; t < 8; t++) {
                const word *x = (const void *)(half + Q6_K_L + 512 * (j % 2) + 64 * t);
                const word *h = (const void *)(half + Q6_K_H + 64 * t);
                word *w = (void *)(dst + 64 * t);

                EACH_LANE
                    w[l] = ((x[l] >> 4 * (j / 2) & BYTES(15)) + ((h[l] >> 2 * j & BYTES(3)) << 4) +
                            BYTES(96)) ^ FLIP;
            }
            for (unsigned k = 0; k < 2; k++) {
                const int8_t *sc = (const int8_t *)(g + Q6_K_SC + PACK_ROWS * (2 * b + k));
                float *scale = scales_at(dst) + 16 * k;

                EACH_LANE
                    scale[l] = d[l] * (float)(int32_t)sc[l];
            }
        }
    }
}

#endif
