/* peaks.c: the busiest loops of NEON; see peaks.h. */
#include <arm_neon.h>

#include "chips/cpu/peaks.h"

#define CHAINS 16
#define KEEP(x) __asm__ volatile("" : "+w"(x))

uint64_t peak_f32_neon(uint64_t n)
{
    float32x4_t a[CHAINS], x = vdupq_n_f32(0.5f), y = vdupq_n_f32(0.25f);

#pragma GCC unroll 16
    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = vdupq_n_f32((float)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(x);
#pragma GCC unroll 16
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = vfmaq_f32(a[i], x, y);
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 4 * 2;
}

/* Without the dot product the least that a product of bytes into 32 bits takes is a multiply
 * to 16 bits per eight; now and then a widening, left out here. */
uint64_t peak_int8_neon(uint64_t n)
{
    int16x8_t a[CHAINS];
    int8x8_t x = vdup_n_s8(1), y = vdup_n_s8(2);

#pragma GCC unroll 16
    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = vdupq_n_s16((short)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(x);
#pragma GCC unroll 16
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = vmlal_s8(a[i], x, y);
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 8 * 2;
}

uint64_t peak_read_neon(const void *p, size_t n)
{
    const uint64_t *x = p;
    uint64x2_t a[8];

    for (unsigned k = 0; k < 8; k++)
        a[k] = vdupq_n_u64(0);
    for (size_t i = 0; i + 8 <= n / 16; i += 8)
#pragma GCC unroll 8
        for (unsigned k = 0; k < 8; k++)
            a[k] = veorq_u64(a[k], vld1q_u64(x + 2 * (i + k)));
    for (unsigned k = 1; k < 8; k++)
        a[0] = veorq_u64(a[0], a[k]);
    return vgetq_lane_u64(a[0], 0) + vgetq_lane_u64(a[0], 1);
}
