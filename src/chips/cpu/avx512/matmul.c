/* matmul.c: which matrix products AVX-512 brings. */
#include "chips/cpu/avx512/matmul.h"
#include "chips/cpu/layout.h"

void kernels_init_avx512_matmul(struct kernels *k, uint32_t mask)
{
    k->act_prepare[ACTF_Q8] = act_q8_avx512;
    k->act_prepare[ACTF_BF16] = act_bf16_avx512;
    for (uint32_t i = 0; i < DTYPE_COUNT; i++)
        if (k->matmul[i] && !layout_of((enum dtype)i))
            k->matmul[i] = matmul_raw_avx512;
    k->matmul[DTYPE_F32] = matmul_f32_avx512;
    k->matmul[DTYPE_F16] = matmul_f16_avx512;
    k->matmul[DTYPE_BF16] = mask & CPU_AVX512_BF16 ? matmul_bf16_dot_avx512 : matmul_bf16_avx512;
    if (mask & CPU_AVX512_VNNI) {
        k->matmul[DTYPE_Q4_0] = matmul_q4_0_avx512;
        k->matmul[DTYPE_Q8_0] = matmul_q8_0_avx512;
        k->matmul[DTYPE_Q4_K] = matmul_q4_k_avx512;
        k->matmul[DTYPE_Q5_K] = matmul_q5_k_avx512;
        k->matmul[DTYPE_Q6_K] = matmul_q6_k_avx512;
    }
}
