/* peaks_vnni.c: the busiest loop of AVX-512 VNNI; see peaks.h. */
#include <immintrin.h>

#include "chips/cpu/peaks.h"

#define CHAINS 16
#define KEEP(x) __asm__ volatile("" : "+v"(x))

uint64_t peak_int8_avx512vnni(uint64_t n)
{
    __m512i a[CHAINS], x = _mm512_set1_epi8(1), y = _mm512_set1_epi8(2);

    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = _mm512_set1_epi32((int)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(x);
#pragma GCC unroll 16
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = _mm512_dpbusd_epi32(a[i], x, y);
    }
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 64 * 2;
}
