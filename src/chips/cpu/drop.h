/* drop.h: masks of dropout. Numbers come from a counter: whether a column falls depends on the seed of the
 * batch, the instruction, the operand, the row and the column alone, so forward, backward and a layer run
 * again agree, whichever thread or kernel asks. */
#ifndef CHIPS_CPU_DROP_H
#define CHIPS_CPU_DROP_H

#include <stdint.h>

#include "base/rng.h"

/* Of one operand in one batch; share 0: nothing is dropped. */
struct drop {
    uint64_t seed;
    float    share;             /* survivors are scaled by 1 / (1 - share) */
};

static inline struct drop drop_of(uint64_t batch_seed, uint32_t instr, uint32_t operand, float share)
{
    return (struct drop){ rng_mix(batch_seed ^ rng_mix((uint64_t)instr * 8 + operand)), share };
}

/* y[0..n) holds the columns of the row from `from` on. */
static inline void drop_cols(const struct drop *d, float *y, uint64_t row, uint32_t from, uint32_t n)
{
    const uint64_t key = d->seed + row * 0x9E3779B97F4A7C15u;
    const uint32_t below = (uint32_t)((double)d->share * 65536.0 + 0.5);
    const float scale = 1.0f / (1.0f - d->share);

    for (uint32_t i = from & ~3u; i < from + n; i += 4) {   /* four columns to a number */
        const uint64_t u = rng_mix(key ^ ((uint64_t)i << 32));

        for (uint32_t k = i < from ? from : i; k < from + n && k < i + 4; k++)
            y[k - from] = (u >> 16 * (k - i) & 0xFFFF) < below ? 0.0f : y[k - from] * scale;
    }
}

#endif
