/* peaks_dot.c: the busiest loop of the dot product; see peaks.h. */
#include <arm_neon.h>

#include "chips/cpu/peaks.h"

#define CHAINS 16
#define KEEP(x) __asm__ volatile("" : "+w"(x))

uint64_t peak_int8_neondot(uint64_t n)
{
    int32x4_t a[CHAINS];
    int8x16_t x = vdupq_n_s8(1), y = vdupq_n_s8(2);

#pragma GCC unroll 16
    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = vdupq_n_s32((int)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(x);
#pragma GCC unroll 16
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = vdotq_s32(a[i], x, y);
    }
#pragma GCC unroll 16
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 16 * 2;
}
