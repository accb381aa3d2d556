/* pack_words.h: what packers of quantised types share. */
#ifndef CHIPS_CPU_PACK_WORDS_H
#define CHIPS_CPU_PACK_WORDS_H

#include <string.h>

#include "chips/cpu/layout.h"
#include "chips/cpu/pack_types.h"

typedef uint32_t pack_v4 __attribute__((vector_size(16)));

static inline pack_v4 pack_load4(const uint8_t *p)
{
    pack_v4 v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* Four words of four rows, transposed: every processor we run on has vectors of 16 bytes, and
 * the compiler their shuffles. */
static inline void pack_4x4(uint8_t *dst, const uint8_t *src, size_t stride)
{
    const pack_v4 a = pack_load4(src), b = pack_load4(src + stride);
    const pack_v4 c = pack_load4(src + 2 * stride), d = pack_load4(src + 3 * stride);
    const pack_v4 ab_lo = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const pack_v4 ab_hi = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const pack_v4 cd_lo = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const pack_v4 cd_hi = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const pack_v4 out[4] = { __builtin_shufflevector(ab_lo, cd_lo, 0, 1, 4, 5),
                             __builtin_shufflevector(ab_lo, cd_lo, 2, 3, 6, 7),
                             __builtin_shufflevector(ab_hi, cd_hi, 0, 1, 4, 5),
                             __builtin_shufflevector(ab_hi, cd_hi, 2, 3, 6, 7) };

    for (unsigned t = 0; t < 4; t++)
        memcpy(dst + 64 * t, &out[t], 16);
}

/* n_words words of sixteen rows, transposed: dst is [n_words][16] words. */
static inline void pack_words(uint8_t *dst, const uint8_t *src, size_t stride, unsigned n_words)
{
    unsigned t = 0;

    for (; t + 4 <= n_words; t += 4)
        for (unsigned r = 0; r < PACK_ROWS; r += 4)
            pack_4x4(dst + 64 * t + 4 * r, src + r * stride + 4 * t, stride);
    for (; t < n_words; t++)
        for (unsigned r = 0; r < PACK_ROWS; r++)
            memcpy(dst + 64 * t + 4 * r, src + r * stride + 4 * t, 4);
}

typedef uint8_t pack_v16 __attribute__((vector_size(16)));

/* Sixteen bytes of sixteen rows, transposed: out[i] is byte i of every row. Each round moves one
 * bit of an element's place; after four, row and column have changed places. */
static inline void pack_16x16(pack_v16 out[16], const uint8_t *src, size_t stride)
{
    pack_v16 a[16], b[16];

    for (unsigned r = 0; r < 16; r++)
        memcpy(&a[r], src + r * stride, 16);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 8; i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                               21, 6, 22, 7, 23);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                                   28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(a, b, sizeof a);
    }
    memcpy(out, a, sizeof a);
}

/* The same of one half: dst is [16] halves. */
static inline void pack_halves(uint8_t *dst, const uint8_t *src, size_t stride)
{
    for (unsigned r = 0; r < PACK_ROWS; r++)
        memcpy(dst + 2 * r, src + r * stride, 2);
}

static inline float half_at(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return f16_to_f32(h);
}

#endif
