/* wide.h: what wide_body.h asks of an instruction set, NEON: weights stand signed. */
#ifndef CHIPS_CPU_NEON_WIDE_H
#define CHIPS_CPU_NEON_WIDE_H

#include "chips/cpu/neon/vec.h"

#define WIDE_FLIP 0x80

static inline void wide_halves(float *dst, const uint8_t *src)
{
    EACH_QUAD
        vst1q_f32(dst + 4 * j, half_scale(src + 8 * j));
}

static inline void wide_levels(uint8_t *dst, const uint8_t *codes, const int8_t *levels)
{
    const int8x16_t table = vld1q_s8(levels);

    EACH_QUAD
        vst1q_s8((int8_t *)(dst + 16 * j), vqtbl1q_s8(table, vld1q_u8(codes + 16 * j)));
}

#endif
