/* peaks_bf16.c: the busiest loop of AVX-512 BF16; see peaks.h. */
#include <immintrin.h>

#include "chips/cpu/peaks.h"

#define CHAINS 16
#define KEEP(x) __asm__ volatile("" : "+v"(x))

uint64_t peak_bf16_avx512(uint64_t n)
{
    __m512 a[CHAINS];
    __m512i bits = _mm512_set1_epi16(0x3F80);

    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = _mm512_set1_ps((float)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(bits);
#pragma GCC unroll 16
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = _mm512_dpbf16_ps(a[i], (__m512bh)bits, (__m512bh)bits);
    }
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 32 * 2;
}
