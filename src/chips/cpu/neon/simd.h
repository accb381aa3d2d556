/* simd.h (NEON): the few vector operations that rows_body.h and attention_body.h are
 * written in. A vector is two registers, so that there are as many chains of additions as
 * the pipes need, and every operation means what it means on AVX2: the same bits. Tails
 * go through memory; nothing beyond n is touched. */
#ifndef CHIPS_CPU_NEON_SIMD_H
#define CHIPS_CPU_NEON_SIMD_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VN 8
typedef float32x4x2_t vf;

#define V_BOTH(a, b) ((vf){ { (a), (b) } })

static inline vf v_set1(float x) { return V_BOTH(vdupq_n_f32(x), vdupq_n_f32(x)); }
static inline vf v_zero(void) { return v_set1(0.0f); }
static inline vf v_load(const float *p) { return V_BOTH(vld1q_f32(p), vld1q_f32(p + 4)); }
static inline void v_store(float *p, vf v)
{
    vst1q_f32(p, v.val[0]);
    vst1q_f32(p + 4, v.val[1]);
}
static inline vf v_loadn(const float *p, size_t n)
{
    float all[VN] = { 0 };

    memcpy(all, p, n * sizeof *p);
    return v_load(all);
}
static inline void v_storen(float *p, vf v, size_t n)
{
    float all[VN];

    v_store(all, v);
    memcpy(p, all, n * sizeof *p);
}

#define V_EACH2(name, f)                                                        \
    static inline vf name(vf a, vf b)                                           \
    {                                                                           \
        return V_BOTH(f(a.val[0], b.val[0]), f(a.val[1], b.val[1]));            \
    }
V_EACH2(v_add, vaddq_f32)
V_EACH2(v_sub, vsubq_f32)
V_EACH2(v_mul, vmulq_f32)
V_EACH2(v_div, vdivq_f32)

/* The larger (smaller); the second where one is no number. */
static inline float32x4_t max4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline float32x4_t min4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
V_EACH2(v_max, max4)
V_EACH2(v_min, min4)

static inline vf v_fma(vf a, vf b, vf c)
{
    return V_BOTH(vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1]));
}
static inline vf v_round(vf a) { return V_BOTH(vrndnq_f32(a.val[0]), vrndnq_f32(a.val[1])); }
static inline vf v_abs(vf a) { return V_BOTH(vabsq_f32(a.val[0]), vabsq_f32(a.val[1])); }

/* x * 2^n for integral n in -252..252: in two steps, so that results below 2^-126 round
 * once into the denormals instead of vanishing */
static inline float32x4_t scale4(float32x4_t x, float32x4_t n)
{
    const int32x4_t bias = vdupq_n_s32(127);
    const int32x4_t i = vcvtnq_s32_f32(n), half = vshrq_n_s32(i, 1), rest = vsubq_s32(i, half);
    const float32x4_t a = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    const float32x4_t b = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));

    return vmulq_f32(vmulq_f32(x, a), b);
}
V_EACH2(v_scale2, scale4)

static inline vf v_if_gt(vf a, vf b, vf yes, vf no)
{
    return V_BOTH(vbslq_f32(vcgtq_f32(a.val[0], b.val[0]), yes.val[0], no.val[0]),
                  vbslq_f32(vcgtq_f32(a.val[1], b.val[1]), yes.val[1], no.val[1]));
}
static inline vf v_if_nan(vf a, vf yes, vf no)
{
    return V_BOTH(vbslq_f32(vceqq_f32(a.val[0], a.val[0]), no.val[0], yes.val[0]),
                  vbslq_f32(vceqq_f32(a.val[1], a.val[1]), no.val[1], yes.val[1]));
}
static inline float v_sum(vf v)
{
    const float32x4_t s = vaddq_f32(v.val[0], v.val[1]);
    const float32x2_t t = vadd_f32(vget_low_f32(s), vget_high_f32(s));

    return vget_lane_f32(t, 0) + vget_lane_f32(t, 1);
}
static inline float v_hmax(vf v)
{
    const float32x4_t s = max4(v.val[0], v.val[1]);
    const float32x2_t t = vmax_f32(vget_low_f32(s), vget_high_f32(s));
    const float a = vget_lane_f32(t, 0), b = vget_lane_f32(t, 1);

    return a > b ? a : b;
}

static inline float32x4_t half4(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline vf v_load_f16(const uint16_t *p) { return V_BOTH(half4(p), half4(p + 4)); }
static inline void v_store_f16(uint16_t *p, vf v)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v.val[0])));
    vst1_u16(p + 4, vreinterpret_u16_f16(vcvt_f16_f32(v.val[1])));
}
static inline vf v_load_bf16(const uint16_t *p)
{
    const uint16x8_t w = vld1q_u16(p);

    return V_BOTH(vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(w), 16)),
                  vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(w), 16)));
}
static inline vf v_load_i8(const int8_t *p)
{
    const int16x8_t w = vmovl_s8(vld1_s8(p));

    return V_BOTH(vcvtq_f32_s32(vmovl_s16(vget_low_s16(w))),
                  vcvtq_f32_s32(vmovl_s16(vget_high_s16(w))));
}
static inline void v_load_bf16_pairs(const uint16_t *p, vf *even, vf *odd)
{
    const uint32x4_t upper = vdupq_n_u32(0xFFFF0000u);

    for (int i = 0; i < 2; i++) {
        const uint32x4_t w = vreinterpretq_u32_u16(vld1q_u16(p + 8 * i));

        even->val[i] = vreinterpretq_f32_u32(vshlq_n_u32(w, 16));
        odd->val[i] = vreinterpretq_f32_u32(vandq_u32(w, upper));
    }
}
static inline vf v_load_i8_of4(const int8_t *p, int which)
{
    const int32x4_t up = vdupq_n_s32(24 - 8 * which);
    const int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(p)), b = vreinterpretq_s32_s8(vld1q_s8(p + 16));

    return V_BOTH(vcvtq_f32_s32(vshrq_n_s32(vshlq_s32(a, up), 24)),
                  vcvtq_f32_s32(vshrq_n_s32(vshlq_s32(b, up), 24)));
}

#endif
