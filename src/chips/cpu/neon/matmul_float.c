/* matmul_float.c: F32, F16 and BF16 weights, NEON, and the general path of types
 * without a layout. Per output one chain of fused multiply-adds in ascending
 * order of inputs: the bits of AVX2. */
#include "chips/cpu/neon/float_tile.h"
#include "chips/cpu/neon/matmul.h"

ALWAYS_INLINE float float_at(const uint8_t *x)
{
    float v;

    memcpy(&v, x, sizeof v);
    return v;
}

ALWAYS_INLINE void f32(float32x4_t *acc, const uint8_t *panel, const uint8_t *x, size_t i,
                       const unsigned R)
{
    const float *p = (const void *)(panel + 64 * i);
    const float32x4_t w[QUADS] = { vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8),
                                   vld1q_f32(p + 12) };

    EACH_ROW(R) EACH_QUAD
        acc[QUADS * r + j] = vfmaq_n_f32(acc[QUADS * r + j], w[j], float_at(x + 4 * r));
}

ALWAYS_INLINE void f16(float32x4_t *acc, const uint8_t *panel, const uint8_t *x, size_t i,
                       const unsigned R)
{
    float32x4_t w[QUADS];

    EACH_QUAD
        w[j] = half_scale(panel + 32 * i + 8 * j);
    EACH_ROW(R) EACH_QUAD
        acc[QUADS * r + j] = vfmaq_n_f32(acc[QUADS * r + j], w[j], float_at(x + 4 * r));
}

/* A pair as two f32, the even input first. */
ALWAYS_INLINE void bf16(float32x4_t *acc, const uint8_t *panel, const uint8_t *x, size_t i,
                        const unsigned R)
{
    const uint32x4_t upper = vdupq_n_u32(0xFFFF0000u);
    float32x4_t even[QUADS], odd[QUADS];

    EACH_QUAD {
        const uint32x4_t w = vreinterpretq_u32_u8(vld1q_u8(panel + 64 * i + 16 * j));

        even[j] = vreinterpretq_f32_u32(vshlq_n_u32(w, 16));
        odd[j] = vreinterpretq_f32_u32(vandq_u32(w, upper));
    }
    EACH_ROW(R) {
        uint32_t pair;
        float32x4_t x0, x1;

        memcpy(&pair, x + 4 * r, sizeof pair);
        x0 = vreinterpretq_f32_u32(vdupq_n_u32(pair << 16));
        x1 = vreinterpretq_f32_u32(vdupq_n_u32(pair & 0xFFFF0000u));
        EACH_QUAD
            acc[QUADS * r + j] = vfmaq_f32(acc[QUADS * r + j], even[j], x0);
        EACH_QUAD
            acc[QUADS * r + j] = vfmaq_f32(acc[QUADS * r + j], odd[j], x1);
    }
}

FLOAT_KERNELS(f32)
FLOAT_KERNELS(f16)
FLOAT_KERNELS(bf16)

void matmul_f32_neon(const struct matmul_args *a) { matmul_blocked(a, &f32_blocking); }
void matmul_f16_neon(const struct matmul_args *a) { matmul_blocked(a, &f16_blocking); }
void matmul_bf16_neon(const struct matmul_args *a) { matmul_blocked(a, &bf16_blocking); }
void matmul_raw_neon(const struct matmul_args *a) { matmul_raw(a, &f32_blocking); }
