/* act_body.h: a row of activations in 8 bits (act_row.h), written once for the instruction
 * sets that make a block at a time. Before it the including file has struct block { float d; int32_t
 * sum[2]; } and block_q8(q, x), which makes the block of ACT_BLOCK floats at x; behind it act_row_q8(). */
#include "chips/cpu/act_row.h"

static inline void act_row_q8(void *out, const float *x, uint32_t n_in)
{
    const struct act_beside beside = act_beside(out, n_in);
    int8_t *q = out;

    for (size_t b = 0; b < act_blocks(n_in); b++, q += ACT_BLOCK, x += ACT_BLOCK) {
        const size_t left = n_in - b * ACT_BLOCK;
        struct block r;

        if (left >= ACT_BLOCK) {
            r = block_q8(q, x);
        } else {
            float tail[ACT_BLOCK] = { 0 };

            memcpy(tail, x, left * sizeof *x);
            r = block_q8(q, tail);
        }
        act_put(&beside, b, r.d, r.sum[0], r.sum[1]);
    }
    act_zero_gaps(out, n_in);
}
