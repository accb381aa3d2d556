/* pack_words.h: what packers of quantised types share. */
#ifndef CHIPS_CPU_PACK_WORDS_H
#define CHIPS_CPU_PACK_WORDS_H

#include <string.h>

#include "chips/cpu/layout.h"
#include "chips/cpu/pack_types.h"

/* n_words words of sixteen rows, transposed: dst is [n_words][16] words. */
static inline void pack_words(uint8_t *dst, const uint8_t *src, size_t stride, unsigned n_words)
{
    for (unsigned r = 0; r < PACK_ROWS; r++) {
        for (unsigned t = 0; t < n_words; t++) {
            uint32_t word;

            memcpy(&word, src + r * stride + 4 * t, 4);
            memcpy(dst + 64 * t + 4 * r, &word, 4);
        }
    }
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
