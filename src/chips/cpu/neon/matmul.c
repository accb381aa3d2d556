/* matmul.c: which matrix products NEON and its extensions bring. */
#include "chips/cpu/neon/matmul.h"
#include "chips/cpu/layout.h"

#define ROW(name, dtype)                                                         \
    { DTYPE_##dtype, { matmul_##name##_neon, matmul_##name##_neondot,            \
                       matmul_##name##_neoni8mm } },
static const struct { enum dtype dtype; matmul_fn *fn[3]; } quantised[] = { NEON_TYPES(ROW) };

void kernels_init_neon_matmul(struct kernels *k, uint32_t mask)
{
    const unsigned level = !(mask & CPU_NEON_DOT) ? 0 : mask & CPU_NEON_I8MM ? 2 : 1;

    k->act_prepare[ACTF_Q8] = act_q8_neon;
    k->act_prepare[ACTF_BF16] = act_bf16_neon;
    for (uint32_t i = 0; i < DTYPE_COUNT; i++)
        if (k->matmul[i] && !layout_of((enum dtype)i))
            k->matmul[i] = matmul_raw_neon;
    k->matmul[DTYPE_F32] = matmul_f32_neon;
    k->matmul[DTYPE_F16] = matmul_f16_neon;
    k->matmul[DTYPE_BF16] = mask & CPU_NEON_BF16 ? matmul_bf16_dot_neon : matmul_bf16_neon;
    for (size_t i = 0; i < sizeof quantised / sizeof quantised[0]; i++)
        k->matmul[quantised[i].dtype] = quantised[i].fn[level];
}
