/* simd.h (AVX-512): the few vector operations that rows_body.h and attention_body.h
 * are written in. Tails are masked, so nothing beyond n is touched. */
#ifndef CHIPS_CPU_AVX512_SIMD_H
#define CHIPS_CPU_AVX512_SIMD_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VN 16
typedef __m512 vf;

static inline __mmask16 tail_mask(size_t n) { return (__mmask16)((1u << n) - 1u); }

static inline vf v_zero(void) { return _mm512_setzero_ps(); }
static inline vf v_set1(float x) { return _mm512_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline vf v_loadn(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(tail_mask(n), p);
}
static inline void v_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline void v_storen(float *p, vf v, size_t n)
{
    _mm512_mask_storeu_ps(p, tail_mask(n), v);
}
static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf v_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* x * 2^n for integral n */
static inline vf v_scale2(vf x, vf n) { return _mm512_scalef_ps(x, n); }
/* a where a > b, else c */
static inline vf v_if_gt(vf a, vf b, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), no, yes);
}
static inline vf v_if_nan(vf a, vf yes, vf no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), no, yes);
}
static inline float v_sum(vf v) { return _mm512_reduce_add_ps(v); }
static inline float v_hmax(vf v) { return _mm512_reduce_max_ps(v); }
static inline vf v_abs(vf v) { return _mm512_abs_ps(v); }

/* VN halves, VN bfloat16, VN int8 to floats and back */
static inline vf v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline void v_store_f16(uint16_t *p, vf v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf v_load_bf16(const uint16_t *p)
{
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));

    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
static inline vf v_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
/* Even and odd of VN pairs of bfloat16 */
static inline void v_load_bf16_pairs(const uint16_t *p, vf *even, vf *odd)
{
    __m512i w = _mm512_loadu_si512(p);

    *even = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32((int)0xFFFF0000u)));
}
/* Byte `which` of each of VN groups of four int8 */
static inline vf v_load_i8_of4(const int8_t *p, int which)
{
    __m512i w = _mm512_loadu_si512(p);

    w = _mm512_sra_epi32(_mm512_sll_epi32(w, _mm_cvtsi32_si128(24 - 8 * which)),
                         _mm_cvtsi32_si128(24));
    return _mm512_cvtepi32_ps(w);
}

#endif
