/* peaks_bf16.c: the busiest loop of BF16's pairs' dot product; see peaks.h. */
#include <arm_neon.h>

#include "chips/cpu/peaks.h"

#define CHAINS 16
#define KEEP(x) __asm__ volatile("" : "+w"(x))

uint64_t peak_bf16_neon(uint64_t n)
{
    float32x4_t a[CHAINS];
    bfloat16x8_t x = vreinterpretq_bf16_u16(vdupq_n_u16(0x3F2B)), y = x;

#pragma GCC unroll 16
    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = vdupq_n_f32((float)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(x);
#pragma GCC unroll 16
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = vbfdotq_f32(a[i], x, y);
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 8 * 2;
}
