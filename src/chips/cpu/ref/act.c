/* act.c: activations prepared for the matrix products, scalar. The fast ones give
 * the same bits. */
#include <math.h>
#include <string.h>

#include "chips/cpu/act_row.h"
#include "chips/cpu/ref/ref.h"

size_t act_row_bytes(enum act_format f, uint32_t n_in)
{
    switch (f) {
    case ACTF_F32:
        return act_align(4 * (size_t)n_in);
    case ACTF_BF16:
        return act_align(4 * (((size_t)n_in + 1) / 2));
    case ACTF_Q8:
        return act_parts(n_in).size;
    case ACTF_COUNT:
        break;
    }
    return 0;
}

void act_f32_ref(void *out, const float *x, uint32_t n_in)
{
    const size_t used = 4 * (size_t)n_in;

    memcpy(out, x, used);
    memset((uint8_t *)out + used, 0, act_align(used) - used);
}

void act_bf16_ref(void *out, const float *x, uint32_t n_in)
{
    uint16_t *y = out;
    const size_t all = act_row_bytes(ACTF_BF16, n_in) / 2;

    for (size_t i = 0; i < n_in; i++)
        y[i] = f32_to_bf16(x[i]);
    for (size_t i = n_in; i < all; i++)
        y[i] = 0;
}

/* One block: its scale; q holds n rounded values and zeros. */
static float block_q8(int8_t *q, const float *x, size_t n)
{
    float amax = 0.0f, d;

    memset(q, 0, ACT_BLOCK);
    for (size_t i = 0; i < n; i++) {
        const float a = fabsf(x[i]);

        if (!(a <= 3.402823466e38f))
            return NAN;
        amax = a > amax ? a : amax;
    }
    d = amax / 127.0f;
    if (d == 0.0f)
        return 0.0f;
    for (size_t i = 0; i < n; i++) {
        /* a denormal d is coarse, and x/d may then pass 127 */
        const float v = rintf(x[i] / d);

        q[i] = (int8_t)(v > 127.0f ? 127.0f : v < -127.0f ? -127.0f : v);
    }
    return d;
}

void act_q8_ref(void *out, const float *x, uint32_t n_in)
{
    const struct act_beside beside = act_beside(out, n_in);
    int8_t *q = out;

    for (size_t b = 0; b < act_blocks(n_in); b++, q += ACT_BLOCK) {
        const size_t left = n_in - b * ACT_BLOCK;
        const float d = block_q8(q, x + b * ACT_BLOCK, left < ACT_BLOCK ? left : ACT_BLOCK);
        int sum[2] = { 0, 0 };

        for (unsigned i = 0; i < ACT_BLOCK; i++)
            sum[i / 16] += q[i];
        act_put(&beside, b, d, sum[0], sum[1]);
    }
    act_zero_gaps(out, n_in);
}
