/* matmul_bf16.c: BF16 weights with the pairs' dot product of NEON's BF16 extension. */
#include "chips/cpu/neon/float_tile.h"
#include "chips/cpu/neon/matmul.h"

ALWAYS_INLINE void bf16_dot(float32x4_t *acc, const uint8_t *panel, const uint8_t *x, size_t i,
                            const unsigned R)
{
    bfloat16x8_t w[QUADS];

    EACH_QUAD
        w[j] = vreinterpretq_bf16_u8(vld1q_u8(panel + 64 * i + 16 * j));
    EACH_ROW(R) {
        uint32_t pair;

        memcpy(&pair, x + 4 * r, sizeof pair);
        EACH_QUAD
            acc[QUADS * r + j] = vbfdotq_f32(acc[QUADS * r + j], w[j],
                                             vreinterpretq_bf16_u32(vdupq_n_u32(pair)));
    }
}
FLOAT_KERNELS(bf16_dot)

void matmul_bf16_dot_neon(const struct matmul_args *a) { matmul_blocked(a, &bf16_dot_blocking); }
