/* act_row.h: writing a row of activations in 8 bits, ACTF_Q8, whose parts layout.h says. For the act.c of
 * every instruction set. */
#ifndef CHIPS_CPU_ACT_ROW_H
#define CHIPS_CPU_ACT_ROW_H

#include <string.h>

#include "chips/cpu/layout.h"

/* What stands beside a row's q. */
struct act_beside { float *d, *ds; int32_t *b32, *b16; };

static inline struct act_beside act_beside(uint8_t *row, uint32_t n_in)
{
    const struct act_parts at = act_parts(n_in);

    return (struct act_beside){ (float *)(void *)(row + at.d), (float *)(void *)(row + at.ds),
                                (int32_t *)(void *)(row + at.b32), (int32_t *)(void *)(row + at.b16) };
}

/* Block b has scale d, and its halves these sums of q. */
static inline void act_put(const struct act_beside *to, size_t b, float d, int32_t sum0, int32_t sum1)
{
    to->d[b] = d;
    to->ds[b] = d * (float)(sum0 + sum1);
    to->b32[b] = -128 * (sum0 + sum1);
    to->b16[2 * b] = -128 * sum0;
    to->b16[2 * b + 1] = -128 * sum1;
}

/* The gaps between the parts are zeros, so that rows compare as bytes. */
static inline void act_zero_gaps(uint8_t *row, uint32_t n_in)
{
    const struct act_parts at = act_parts(n_in);
    const size_t n = act_blocks(n_in);

    memset(row + ACT_BLOCK * n, 0, at.d - ACT_BLOCK * n);
    memset(row + at.d + 4 * n, 0, at.ds - at.d - 4 * n);
    memset(row + at.ds + 4 * n, 0, at.b32 - at.ds - 4 * n);
    memset(row + at.b32 + 4 * n, 0, at.b16 - at.b32 - 4 * n);
    memset(row + at.b16 + 8 * n, 0, at.size - at.b16 - 8 * n);
}

#endif
