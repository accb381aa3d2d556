/* wide_body.h: the expanders of wide.h. Included by one file per instruction set,
 * which defines before:
 *   WIDE_FLIP                                           0 or 0x80
 *   wide_halves(float *dst, const uint8_t *src)         sixteen f16 to f32
 *   wide_levels(uint8_t *dst, const uint8_t *codes, const int8_t *levels)
 *       64 codes of 0..15 to levels, stored as weights; dst may be codes
 *   WIDE_MANY, if types with kernels of their own for few rows are wanted too
 *   WIDE_ALL, if all other types are
 * All of an expander's groups are whole. Minima: what is added, per unit of the sum of
 * the activations; with two scales it is divided by -128, since those kernels
 * read the sums as b16. */
#include "chips/cpu/wide.h"
#include "chips/quant_tables.h"

/* Sixteen lanes, in as many registers as the instruction set needs. */
typedef uint32_t words16 __attribute__((vector_size(64), may_alias));
typedef int32_t  ints16 __attribute__((vector_size(64), may_alias));
typedef float    floats16 __attribute__((vector_size(64), may_alias));
typedef uint8_t  bytes16 __attribute__((vector_size(16), may_alias));
typedef int8_t   signed16 __attribute__((vector_size(16), may_alias));
typedef uint16_t halves16 __attribute__((vector_size(32), may_alias));

#define AT(type, p) (*(type *)(void *)(p))
#define FROM(type, p) (*(const type *)(const void *)(p))
#define FLOATS(x) __builtin_convertvector((ints16)(x), floats16)
#define BYTES(x) (0x01010101u * (x))
#define FLIP BYTES((uint32_t)WIDE_FLIP)
#define INLINE static inline __attribute__((always_inline))

INLINE uint8_t *scales_at(uint8_t *dst, unsigned i) { return dst + WIDE_W + WIDE_F * i; }

/* Words of nibbles: word t gives word t of the low ones and word t + high of the high ones.
 * plus: 128 minus the type's offset. */
INLINE void nibbles(uint8_t *dst, const uint8_t *q, unsigned n, unsigned high, uint32_t plus)
{
    for (unsigned t = 0; t < n; t++) {
        const words16 x = FROM(words16, q + 64 * t);

        AT(words16, dst + 64 * t) = ((x & BYTES(15)) + BYTES(plus)) ^ FLIP;
        AT(words16, dst + 64 * (t + high)) = ((x >> 4 & BYTES(15)) + BYTES(plus)) ^ FLIP;
    }
}

INLINE void levels_of_nibbles(uint8_t *dst, const uint8_t *q, unsigned n, unsigned high,
                              const int8_t *levels)
{
    for (unsigned t = 0; t < n; t++) {
        const words16 x = FROM(words16, q + 64 * t), lo = x & BYTES(15), hi = x >> 4 & BYTES(15);

        wide_levels(dst + 64 * t, (const uint8_t *)&lo, levels);
        wide_levels(dst + 64 * (t + high), (const uint8_t *)&hi, levels);
    }
}

/* Nibbles with the fifth bits of a block, bit i of input i; the product spreads four bits to
 * four bytes. */
INLINE void five_bits(uint8_t *dst, const uint8_t *q, const uint8_t *h, uint32_t plus)
{
    const words16 bits = FROM(words16, h);

    for (unsigned t = 0; t < 4; t++) {
        const words16 x = FROM(words16, q + 64 * t);
        const words16 b0 = (bits >> 4 * t & 15) * 0x00204081u & BYTES(1);
        const words16 b1 = (bits >> (16 + 4 * t) & 15) * 0x00204081u & BYTES(1);

        AT(words16, dst + 64 * t) = ((x & BYTES(15)) + (b0 << 4) + BYTES(plus)) ^ FLIP;
        AT(words16, dst + 64 * (t + 4)) = ((x >> 4 & BYTES(15)) + (b1 << 4) + BYTES(plus)) ^ FLIP;
    }
}

INLINE void halves(uint8_t *dst, const uint8_t *src)
{
    wide_halves((float *)(void *)dst, src);
}

static void expand_q4_1(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 1);

    for (; n > 0; n--, g += Q4_1_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            nibbles(dst, g + Q4_1_Q + 256 * b, 4, 4, 128);
            halves(scales_at(dst, 0), g + Q4_1_D + 32 * b);
            halves(scales_at(dst, 1), g + Q4_1_M + 32 * b);
        }
    }
}

static void expand_q5_0(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += Q5_0_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            five_bits(dst, g + Q5_0_Q + 256 * b, g + Q5_0_H + 64 * b, 128 - 16);
            halves(scales_at(dst, 0), g + Q5_0_D + 32 * b);
        }
    }
}

static void expand_q5_1(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 1);

    for (; n > 0; n--, g += Q5_1_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            five_bits(dst, g + Q5_1_Q + 256 * b, g + Q5_1_H + 64 * b, 128);
            halves(scales_at(dst, 0), g + Q5_1_D + 32 * b);
            halves(scales_at(dst, 1), g + Q5_1_M + 32 * b);
        }
    }
}

static void expand_iq4_nl(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += Q4_0_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            levels_of_nibbles(dst, g + Q4_0_Q + 256 * b, 4, 4, iq4_levels);
            halves(scales_at(dst, 0), g + Q4_0_D + 32 * b);
        }
    }
}

static void expand_iq4_xs(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += IQ4_XS_BYTES) {
        const words16 low = FROM(words16, g + IQ4_XS_SL);
        const words16 high = __builtin_convertvector(FROM(halves16, g + IQ4_XS_SH), words16);
        floats16 d;

        halves((uint8_t *)&d, g + IQ4_XS_D);

        for (unsigned j = 0; j < 8; j++, dst += block) {
            const words16 s = (low >> 4 * j & 15) | (high >> 2 * j & 3) << 4;

            levels_of_nibbles(dst, g + IQ4_XS_Q + 256 * j, 4, 4, iq4_levels);
            AT(floats16, scales_at(dst, 0)) = d * FLOATS(s - 32);
        }
    }
}

static void expand_mxfp4(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += MXFP4_BYTES) {
        for (unsigned b = 0; b < 4; b++, dst += block) {
            const words16 e = __builtin_convertvector(FROM(bytes16, g + MXFP4_E + PACK_ROWS * b),
                                                      words16);
            const words16 tiny = (words16)(e < 2);      /* e8m0_half() */

            levels_of_nibbles(dst, g + MXFP4_Q + 256 * b, 4, 4, fp4_levels);
            AT(words16, scales_at(dst, 0)) = (tiny & (0x00200000u << (e & 1))) |
                                             (~tiny & (e - 1) << 23);
        }
    }
}

static void expand_nvfp4(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(2, 0);

    for (; n > 0; n--, g += NVFP4_BYTES) {
        const words16 d = FROM(words16, g + NVFP4_D);

        for (unsigned b = 0; b < 2; b++, dst += block) {
            for (unsigned h = 0; h < 2; h++) {      /* a group of 16: two words of nibbles */
                const unsigned part = 2 * b + h;
                const words16 x = d >> 8 * part & 255, e = x >> 3 & 15, m = x & 7;
                const words16 normal = (e + 119) << 23 | m << 20;
                const floats16 small = FLOATS(m) * 0x1p-10f;    /* ue4m3_half() */
                const words16 is_small = (words16)(e == 0), is_nan = (words16)(x == 0x7F);

                levels_of_nibbles(dst + 256 * h, g + NVFP4_Q + 128 * part, 2, 2, fp4_levels);
                AT(words16, scales_at(dst, h)) = ((is_small & (words16)small) |
                                                  (~is_small & normal)) & ~is_nan;
            }
        }
    }
}

/* Plane j of words of four 2-bit planes. */
INLINE void plane(uint8_t *dst, const uint8_t *q, unsigned j, uint32_t plus)
{
    for (unsigned t = 0; t < 8; t++)
        AT(words16, dst + 64 * t) =
            ((FROM(words16, q + 64 * t) >> 2 * j & BYTES(3)) + BYTES(plus)) ^ FLIP;
}

static void expand_q2_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(2, 1);

    for (; n > 0; n--, g += Q2_K_BYTES) {
        floats16 d, dmin;

        halves((uint8_t *)&d, g + Q2_K_D);
        halves((uint8_t *)&dmin, g + Q2_K_D + 32);

        for (unsigned b = 0; b < 8; b++, dst += block) {
            plane(dst, g + Q2_K_Q + 512 * (b / 4), b % 4, 128);
            for (unsigned h = 0; h < 2; h++) {
                const unsigned part = 2 * b + h;
                const words16 x = FROM(words16, g + Q2_K_SC + 64 * (part / 4)) >> 8 * (part % 4);

                AT(floats16, scales_at(dst, h)) = d * FLOATS(x & 15);
                AT(floats16, scales_at(dst, 2 + h)) = dmin * FLOATS(x >> 4 & 15) * (1.0f / 128.0f);
            }
        }
    }
}

static void expand_q3_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(2, 0);

    for (; n > 0; n--, g += Q3_K_BYTES) {
        const words16 high = FROM(words16, g + Q3_K_SC + 128);
        floats16 d;

        halves((uint8_t *)&d, g + Q3_K_D);

        for (unsigned b = 0; b < 8; b++, dst += block) {
            for (unsigned t = 0; t < 8; t++) {
                const words16 x = FROM(words16, g + Q3_K_Q + 512 * (b / 4) + 64 * t);
                const words16 h = FROM(words16, g + Q3_K_H + 64 * t);

                AT(words16, dst + 64 * t) = ((x >> 2 * (b % 4) & BYTES(3)) +
                                             ((h >> b & BYTES(1)) << 2) + BYTES(124)) ^ FLIP;
            }
            for (unsigned h = 0; h < 2; h++) {
                const unsigned j = 2 * b + h;       /* q3k_scale() */
                const words16 low = FROM(words16, g + Q3_K_SC + 64 * (j / 4 % 2));
                const words16 s = (low >> (8 * (j % 4) + 4 * (j / 8)) & 15) |
                                  (high >> (8 * (j % 4) + 2 * (j / 4)) & 3) << 4;

                AT(floats16, scales_at(dst, h)) = d * FLOATS(s - 32);
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
            halves(scales_at(dst, 0), g + TQ2_0_D);
        }
    }
}

#ifdef WIDE_ALL      /* types with kernels of their own for any rows, where there is a matrix product */

static void expand_q4_0(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += Q4_0_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            nibbles(dst, g + Q4_0_Q + 256 * b, 4, 4, 128 - 8);
            halves(scales_at(dst, 0), g + Q4_0_D + 32 * b);
        }
    }
}

static void expand_q8_0(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 0);

    for (; n > 0; n--, g += Q8_0_BYTES) {
        for (unsigned b = 0; b < 2; b++, dst += block) {
            for (unsigned t = 0; t < 8; t++)
                AT(words16, dst + 64 * t) = FROM(words16, g + Q8_0_Q + 512 * b + 64 * t) ^ FLIP;
            halves(scales_at(dst, 0), g + Q8_0_D + 32 * b);
        }
    }
}

static void expand_q4_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 1);

    for (; n > 0; n--, g += Q4_K_BYTES) {
        floats16 d, dmin;

        halves((uint8_t *)&d, g + Q4_K_D);
        halves((uint8_t *)&dmin, g + Q4_K_D + 32);

        for (unsigned b = 0; b < 8; b++, dst += block) {
            const bytes16 sc = FROM(bytes16, g + Q4_K_SC + PACK_ROWS * b);
            const bytes16 m = FROM(bytes16, g + Q4_K_M + PACK_ROWS * b);

            for (unsigned t = 0; t < 8; t++) {
                const words16 x = FROM(words16, g + Q4_K_Q + 512 * (b / 2) + 64 * t);

                AT(words16, dst + 64 * t) = ((x >> 4 * (b % 2) & BYTES(15)) + BYTES(128)) ^ FLIP;
            }
            AT(floats16, scales_at(dst, 0)) = d * FLOATS(__builtin_convertvector(sc, ints16));
            AT(floats16, scales_at(dst, 1)) = -(dmin * FLOATS(__builtin_convertvector(m, ints16)));
        }
    }
}

#endif

#ifdef WIDE_MANY     /* types with kernels of their own for few rows */

static void expand_q5_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(1, 1);

    for (; n > 0; n--, g += Q5_K_BYTES) {
        floats16 d, dmin;

        halves((uint8_t *)&d, g + Q4_K_D);
        halves((uint8_t *)&dmin, g + Q4_K_D + 32);

        for (unsigned b = 0; b < 8; b++, dst += block) {
            const bytes16 sc = FROM(bytes16, g + Q4_K_SC + PACK_ROWS * b);
            const bytes16 m = FROM(bytes16, g + Q4_K_M + PACK_ROWS * b);

            for (unsigned t = 0; t < 8; t++) {
                const words16 x = FROM(words16, g + Q5_K_Q + 512 * (b / 2) + 64 * t);
                const words16 h = FROM(words16, g + Q5_K_H + 64 * t);

                AT(words16, dst + 64 * t) = ((x >> 4 * (b % 2) & BYTES(15)) +
                                             ((h >> b & BYTES(1)) << 4) + BYTES(128)) ^ FLIP;
            }
            AT(floats16, scales_at(dst, 0)) = d * FLOATS(__builtin_convertvector(sc, ints16));
            AT(floats16, scales_at(dst, 1)) = -(dmin * FLOATS(__builtin_convertvector(m, ints16)));
        }
    }
}

static void expand_q6_k(uint8_t *dst, const uint8_t *g, size_t n)
{
    const size_t block = wide_block_bytes(2, 0);

    for (; n > 0; n--, g += Q6_K_BYTES) {
        const floats16 d = FROM(floats16, g + Q6_K_D);

        for (unsigned b = 0; b < 8; b++, dst += block) {
            const uint8_t *half = g + Q6_K_Q + Q6_K_HALF * (b / 4);
            const unsigned j = b % 4;

            for (unsigned t = 0; t < 8; t++) {
                const words16 x = FROM(words16, half + Q6_K_L + 512 * (j % 2) + 64 * t);
                const words16 h = FROM(words16, half + Q6_K_H + 64 * t);

                AT(words16, dst + 64 * t) = ((x >> 4 * (j / 2) & BYTES(15)) +
                                             ((h >> 2 * j & BYTES(3)) << 4) + BYTES(96)) ^ FLIP;
            }
            for (unsigned k = 0; k < 2; k++) {
                const signed16 sc = FROM(signed16, g + Q6_K_SC + PACK_ROWS * (2 * b + k));

                AT(floats16, scales_at(dst, k)) = d * FLOATS(__builtin_convertvector(sc, ints16));
            }
        }
    }
}

#endif
