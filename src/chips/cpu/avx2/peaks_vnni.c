/* peaks_vnni.c: the busiest loop of AVX-VNNI; see peaks.h. */
#include <immintrin.h>

#include "chips/cpu/peaks.h"

#define CHAINS 12
#define KEEP(x) __asm__ volatile("" : "+x"(x))

uint64_t peak_int8_avxvnni(uint64_t n)
{
    __m256i a[CHAINS], x = _mm256_set1_epi8(1), y = _mm256_set1_epi8(2);

    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = _mm256_set1_epi32((int)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(x);
#pragma GCC unroll 12
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = _mm256_dpbusd_avx_epi32(a[i], x, y);
    }
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 32 * 2;
}
