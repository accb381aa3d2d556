/* vec.h: what the NEON kernels share. A panel's sixteen lanes are four registers. */
#ifndef CHIPS_CPU_NEON_VEC_H
#define CHIPS_CPU_NEON_VEC_H

#include <arm_neon.h>
#include <string.h>

#include "chips/cpu/blocking.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Loops over rows and over the panel's registers are unrolled, so that arrays of vectors
 * live in registers. */
#define EACH_ROW(R) _Pragma("GCC unroll 8") for (unsigned r = 0; r < (R); r++)
#define EACH_QUAD   _Pragma("GCC unroll 4") for (unsigned j = 0; j < QUADS; j++)

#define QUADS 4u        /* registers of four output rows in a panel */
#define R_MAX 4u        /* activation rows a kernel of quantised types takes */

/* The files of quantised types are compiled for plain NEON and again with the dot product. */
#ifdef __ARM_FEATURE_DOTPROD
#define ISA(name) name##_neondot
#else
#define ISA(name) name##_neon
#endif

ALWAYS_INLINE int8x16_t load_s8(const void *p) { return vld1q_s8(p); }
ALWAYS_INLINE float32x4_t load_f32(const void *p) { return vld1q_f32(p); }
ALWAYS_INLINE float32x4_t half_scale(const void *p)         /* four f16 */
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
ALWAYS_INLINE uint16x4_t four_bytes(const void *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return vget_low_u16(vmovl_u8(vcreate_u8(v)));
}
ALWAYS_INLINE float32x4_t bytes_scale(const void *p)        /* four u8 */
{
    return vcvtq_f32_u32(vmovl_u16(four_bytes(p)));
}
ALWAYS_INLINE float32x4_t signed_scale(const void *p)       /* four i8 */
{
    uint32_t v;

    memcpy(&v, p, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(v)))));
}

#endif
