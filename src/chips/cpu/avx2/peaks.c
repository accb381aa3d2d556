/* peaks.c: the busiest loops of AVX2; see peaks.h. */
#include <immintrin.h>

#include "chips/cpu/peaks.h"

#define CHAINS 12
#define KEEP(x) __asm__ volatile("" : "+x"(x))

uint64_t peak_f32_avx2(uint64_t n)
{
    __m256 a[CHAINS], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);

#pragma GCC unroll 12
    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = _mm256_set1_ps((float)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(x);
#pragma GCC unroll 12
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = _mm256_fmadd_ps(a[i], x, y);
    }
#pragma GCC unroll 12
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 8 * 2;
}

/* Without VNNI the least that a product of bytes into 32 bits takes is one multiply to 16
 * bits, one addition there, and now and then a widening, left out here. */
uint64_t peak_int8_avx2(uint64_t n)
{
    __m256i a[CHAINS], x = _mm256_set1_epi8(1), y = _mm256_set1_epi8(2);

#pragma GCC unroll 12
    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = _mm256_set1_epi16((short)i);
    for (uint64_t k = 0; k < n; k++) {
#pragma GCC unroll 12
        for (unsigned i = 0; i < CHAINS; i++) {
            KEEP(x);
            a[i] = _mm256_add_epi16(a[i], _mm256_maddubs_epi16(x, y));
            KEEP(a[i]);     /* in this order, or products wait in memory for their turn */
        }
    }
#pragma GCC unroll 12
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 32 * 2;
}

uint64_t peak_read_avx2(const void *p, size_t n)
{
    const __m256i *x = p;
    __m256i a[8];

    for (unsigned k = 0; k < 8; k++)
        a[k] = _mm256_setzero_si256();
    for (size_t i = 0; i + 8 <= n / 32; i += 8)
#pragma GCC unroll 8
        for (unsigned k = 0; k < 8; k++)
            a[k] = _mm256_xor_si256(a[k], _mm256_load_si256(x + i + k));
    for (unsigned k = 1; k < 8; k++)
        a[0] = _mm256_xor_si256(a[0], a[k]);
    return (uint64_t)_mm256_extract_epi64(a[0], 0) + (uint64_t)_mm256_extract_epi64(a[0], 1) +
           (uint64_t)_mm256_extract_epi64(a[0], 2) + (uint64_t)_mm256_extract_epi64(a[0], 3);
}
