/* drop.h: masks of dropout. Numbers come from a counter: whether a column falls depends on the seed of the
 * batch, the instruction, the operand, the row and the column alone, so forward, backward and a layer run
 * again agree, whichever thread or kernel asks. */
#ifndef CHIPS_CPU_DROP_H
#define CHIPS_CPU_DROP_H

#include <stdint.h>

#include "base/rng.h"

/* A kernel, to the bit. Some columns of one row. Column c falls when the 16 bits from 16 * (c % 4) on of
 * rng_mix(key ^ (c rounded down to a multiple of 4) << 32) are less than `below`. */
struct drop_row {
    uint64_t key;
    uint32_t from, n;           /* y[0] is column `from`; from + n < 2^32 - 64 */
    uint32_t below;             /* of 65536 */
    float    scale;             /* of those that stay */
};
typedef void drop_fn(float *y, const struct drop_row *r);

/* Of one operand in one batch; share 0: nothing is dropped. */
struct drop {
    drop_fn *run;
    uint64_t seed;
    float    share;             /* below 1; survivors are scaled by 1 / (1 - share) */
};

static inline struct drop drop_of(drop_fn *run, uint64_t batch_seed, uint32_t instr,
                                  uint32_t operand, float share)
{
    return (struct drop){ run, rng_mix(batch_seed ^ rng_mix((uint64_t)instr * 8 + operand)), share };
}

/* y[0..n) holds the columns of the row from `from` on. */
static inline void drop_cols(const struct drop *d, float *y, uint64_t row, uint32_t from, uint32_t n)
{
    const struct drop_row r = { .key = d->seed + row * 0x9E3779B97F4A7C15u, .from = from, .n = n,
                                .below = (uint32_t)((double)d->share * 65536.0 + 0.5),
                                .scale = 1.0f / (1.0f - d->share) };

    d->run(y, &r);
}

#endif
