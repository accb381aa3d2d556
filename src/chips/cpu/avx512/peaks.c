/* peaks.c: the busiest loops of AVX-512; see peaks.h. */
#include <immintrin.h>

#include "chips/cpu/peaks.h"

/* Sixteen chains hide the latency of every known processor. The empty asm keeps the compiler
 * from seeing through them. */
#define CHAINS 16
#define KEEP(x) __asm__ volatile("" : "+v"(x))

uint64_t peak_f32_avx512(uint64_t n)
{
    __m512 a[CHAINS], x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);

    for (unsigned i = 0; i < CHAINS; i++)
        a[i] = _mm512_set1_ps((float)i);
    for (uint64_t k = 0; k < n; k++) {
        KEEP(x);
#pragma GCC unroll 16
        for (unsigned i = 0; i < CHAINS; i++)
            a[i] = _mm512_fmadd_ps(a[i], x, y);
    }
    for (unsigned i = 0; i < CHAINS; i++)
        KEEP(a[i]);
    return n * CHAINS * 16 * 2;
}

uint64_t peak_read_avx512(const void *p, size_t n)
{
    const __m512i *x = p;
    __m512i a[8];

    for (unsigned k = 0; k < 8; k++)
        a[k] = _mm512_setzero_si512();
    for (size_t i = 0; i + 8 <= n / 64; i += 8)
#pragma GCC unroll 8
        for (unsigned k = 0; k < 8; k++)
            a[k] = _mm512_xor_si512(a[k], _mm512_load_si512(x + i + k));
    for (unsigned k = 1; k < 8; k++)
        a[0] = _mm512_xor_si512(a[0], a[k]);
    return (uint64_t)_mm512_reduce_add_epi64(a[0]);
}
