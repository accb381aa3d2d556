/* act_body.h: a row of activations in 8 bits (layout.h says how it lies), written once for the instruction
 * sets that make a block at a time. Before it the including file has struct block { float d; int32_t
 * sum[2]; } and block_q8(q, x), which makes the block of ACT_BLOCK floats at x; behind it act_row_q8(). */
#include <string.h>

#include "chips/cpu/layout.h"

static inline void act_row_q8(void *out, const float *x, uint32_t n_in)
{
    const struct act_parts at = act_parts(n_in);
    const size_t n_blocks = act_blocks(n_in);
    uint8_t *row = out;
    int8_t *q = out;
    float *d = (void *)(row + at.d), *ds = (void *)(row + at.ds);
    int32_t *b32 = (void *)(row + at.b32), *b16 = (void *)(row + at.b16);

    memset(row + ACT_BLOCK * n_blocks, 0, at.d - ACT_BLOCK * n_blocks);
    for (size_t b = 0; b < n_blocks; b++, q += ACT_BLOCK, x += ACT_BLOCK) {
        const size_t left = n_in - b * ACT_BLOCK;
        struct block r;

        if (left >= ACT_BLOCK) {
            r = block_q8(q, x);
        } else {
            float tail[ACT_BLOCK] = { 0 };

            memcpy(tail, x, left * sizeof *x);
            r = block_q8(q, tail);
        }
        d[b] = r.d;
        ds[b] = r.d * (float)(r.sum[0] + r.sum[1]);
        b32[b] = -128 * (r.sum[0] + r.sum[1]);
        b16[2 * b] = -128 * r.sum[0];
        b16[2 * b + 1] = -128 * r.sum[1];
    }
    memset(d + n_blocks, 0, at.ds - at.d - 4 * n_blocks);
    memset(ds + n_blocks, 0, at.b32 - at.ds - 4 * n_blocks);
    memset(b32 + n_blocks, 0, at.b16 - at.b32 - 4 * n_blocks);
    memset(b16 + 2 * n_blocks, 0, at.size - at.b16 - 8 * n_blocks);
}
