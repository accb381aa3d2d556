/* act.c: activations prepared for the matrix products, NEON; the bits of ref/act.c. */
#include <math.h>

#include "chips/cpu/neon/matmul.h"
#include "chips/cpu/neon/vec.h"

struct block { float d; int32_t sum[2]; };

/* The scale of 32 floats; NaN when one of them is no number. Bits order as magnitudes do. */
static inline float scale_of(const float *x)
{
    uint32x4_t a = vdupq_n_u32(0);
    uint32_t bits;
    float amax;

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        a = vmaxq_u32(a, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + 4 * i))));
    bits = vmaxvq_u32(a);
    if (bits >= 0x7F800000u)
        return NAN;
    memcpy(&amax, &bits, sizeof amax);
    return amax / 127.0f;
}

static inline struct block block_q8(int8_t *q, const float *x)
{
    const int32x4_t lo = vdupq_n_s32(-127), hi = vdupq_n_s32(127);
    struct block b = { scale_of(x), { 0, 0 } };

    if (!(b.d > 0.0f)) {
        memset(q, 0, ACT_BLOCK);
        return b;
    }
#pragma GCC unroll 2
    for (unsigned h = 0; h < 2; h++) {
        int32x4_t v[4];

#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            v[i] = vcvtnq_s32_f32(vdivq_f32(vld1q_f32(x + 16 * h + 4 * i), vdupq_n_f32(b.d)));
            v[i] = vmaxq_s32(vminq_s32(v[i], hi), lo);
        }
        b.sum[h] = vaddvq_s32(vaddq_s32(vaddq_s32(v[0], v[1]), vaddq_s32(v[2], v[3])));
        vst1q_s8(q + 16 * h,
                 vcombine_s8(vmovn_s16(vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1]))),
                             vmovn_s16(vcombine_s16(vmovn_s32(v[2]), vmovn_s32(v[3])))));
    }
    return b;
}

#include "chips/cpu/act_body.h"

void act_q8_neon(void *out, const float *x, uint32_t n_in)
{
    act_row_q8(out, x, n_in);
}

/* Round to nearest even by integers, as f32_to_bf16() does. */
static inline uint16x4_t to_bf16(float32x4_t x)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));

    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), up, quiet), 16);
}

void act_bf16_neon(void *out, const float *x, uint32_t n_in)
{
    uint16_t *y = out;
    const size_t all = act_row_bytes(ACTF_BF16, n_in) / 2;
    size_t i = 0;

    for (; i + 8 <= n_in; i += 8)
        vst1q_u16(y + i, vcombine_u16(to_bf16(vld1q_f32(x + i)), to_bf16(vld1q_f32(x + i + 4))));
    for (; i < n_in; i++)
        y[i] = f32_to_bf16(x[i]);
    for (; i < all; i++)
        y[i] = 0;
}
