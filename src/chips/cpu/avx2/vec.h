/* vec.h: what the AVX2 kernels share. A panel's sixteen lanes are two registers. */
#ifndef CHIPS_CPU_AVX2_VEC_H
#define CHIPS_CPU_AVX2_VEC_H

#include <immintrin.h>
#include <string.h>

#include "chips/cpu/blocking.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Loops over rows are unrolled, so that arrays of R vectors live in registers. */
#define EACH_ROW(R) _Pragma("GCC unroll 8") for (unsigned r = 0; r < (R); r++)

/* The files of quantised types are compiled for AVX2 and again for AVX-VNNI. */
#ifdef __AVXVNNI__
#define ISA(name) name##_avxvnni
#else
#define ISA(name) name##_avx2
#endif

ALWAYS_INLINE __m256i load256(const void *p) { return _mm256_load_si256(p); }
ALWAYS_INLINE __m256i bcast32(const void *p)
{
    int32_t v;

    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}
ALWAYS_INLINE __m256 half_scale(const void *p)      /* eight f16 */
{
    return _mm256_cvtph_ps(_mm_load_si128(p));
}
ALWAYS_INLINE __m256 bytes_scale(const void *p)     /* eight u8 */
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)));
}
ALWAYS_INLINE __m256 signed_scale(const void *p)    /* eight i8 */
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}

#endif
