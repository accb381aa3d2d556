/* matmul.c: which matrix products AVX-512 brings. */
#include "chips/cpu/avx512/matmul.h"
#include "chips/cpu/layout.h"

static const struct { enum dtype dtype; matmul_fn *fn; } vnni[] = {
    { DTYPE_Q4_0, matmul_q4_0_avx512 },
    { DTYPE_Q8_0, matmul_q8_0_avx512 },
    { DTYPE_Q4_K, matmul_q4_k_avx512 },
    { DTYPE_Q5_K, matmul_q5_k_avx512 },
    { DTYPE_Q6_K, matmul_q6_k_avx512 },
    { DTYPE_Q4_1, matmul_q4_1_avx512 },
    { DTYPE_Q5_0, matmul_q5_0_avx512 },
    { DTYPE_Q5_1, matmul_q5_1_avx512 },
    { DTYPE_IQ4_NL, matmul_iq4_nl_avx512 },
    { DTYPE_IQ4_XS, matmul_iq4_xs_avx512 },
    { DTYPE_MXFP4, matmul_mxfp4_avx512 },
    { DTYPE_NVFP4, matmul_nvfp4_avx512 },
    { DTYPE_Q2_K, matmul_q2_k_avx512 },
    { DTYPE_Q3_K, matmul_q3_k_avx512 },
    { DTYPE_TQ2_0, matmul_tq2_0_avx512 },
};

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
    for (size_t i = 0; (mask & CPU_AVX512_VNNI) && i < sizeof vnni / sizeof vnni[0]; i++)
        k->matmul[vnni[i].dtype] = vnni[i].fn;
}
