/* vec.h: what the AVX-512 kernels share. */
#ifndef CHIPS_CPU_AVX512_VEC_H
#define CHIPS_CPU_AVX512_VEC_H

#include <immintrin.h>
#include <string.h>

#include "chips/cpu/blocking.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Loops over rows are unrolled, so that arrays of R vectors live in registers. */
#define EACH_ROW(R) _Pragma("GCC unroll 16") for (unsigned r = 0; r < (R); r++)

/* Rows that a kernel takes at most, and whose sums stay in registers beside the dots; those of
 * more rows wait in memory from block to block. */
#define R_MAX 16
#define R_REGS 12

ALWAYS_INLINE __m512i load512(const void *p) { return _mm512_load_si512(p); }
ALWAYS_INLINE __m512i bcast32(const void *p)
{
    int32_t v;

    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}
ALWAYS_INLINE __m512 half_scale(const void *p)      /* sixteen f16 */
{
    return _mm512_cvtph_ps(_mm256_load_si256(p));
}
#endif
