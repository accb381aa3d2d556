/* matmul.c: which matrix products AVX2 and AVX-VNNI bring. */
#include "chips/cpu/avx2/matmul.h"
#include "chips/cpu/layout.h"

static const struct { enum dtype dtype; matmul_fn *plain, *vnni; } quantised[] = {
    { DTYPE_Q4_0, matmul_q4_0_avx2, matmul_q4_0_avxvnni },
    { DTYPE_Q8_0, matmul_q8_0_avx2, matmul_q8_0_avxvnni },
    { DTYPE_Q4_K, matmul_q4_k_avx2, matmul_q4_k_avxvnni },
    { DTYPE_Q5_K, matmul_q5_k_avx2, matmul_q5_k_avxvnni },
    { DTYPE_Q6_K, matmul_q6_k_avx2, matmul_q6_k_avxvnni },
    { DTYPE_Q4_1, matmul_q4_1_avx2, matmul_q4_1_avxvnni },
    { DTYPE_Q5_0, matmul_q5_0_avx2, matmul_q5_0_avxvnni },
    { DTYPE_Q5_1, matmul_q5_1_avx2, matmul_q5_1_avxvnni },
    { DTYPE_IQ4_NL, matmul_iq4_nl_avx2, matmul_iq4_nl_avxvnni },
    { DTYPE_IQ4_XS, matmul_iq4_xs_avx2, matmul_iq4_xs_avxvnni },
    { DTYPE_MXFP4, matmul_mxfp4_avx2, matmul_mxfp4_avxvnni },
    { DTYPE_NVFP4, matmul_nvfp4_avx2, matmul_nvfp4_avxvnni },
    { DTYPE_Q2_K, matmul_q2_k_avx2, matmul_q2_k_avxvnni },
    { DTYPE_Q3_K, matmul_q3_k_avx2, matmul_q3_k_avxvnni },
    { DTYPE_TQ2_0, matmul_tq2_0_avx2, matmul_tq2_0_avxvnni },
};

void kernels_init_avx2_matmul(struct kernels *k, uint32_t mask)
{
    k->act_prepare[ACTF_Q8] = act_q8_avx2;
    k->act_prepare[ACTF_BF16] = act_bf16_avx2;
    for (uint32_t i = 0; i < DTYPE_COUNT; i++)
        if (k->matmul[i] && !layout_of((enum dtype)i))
            k->matmul[i] = matmul_raw_avx2;
    k->matmul[DTYPE_F32] = matmul_f32_avx2;
    k->matmul[DTYPE_F16] = matmul_f16_avx2;
    k->matmul[DTYPE_BF16] = matmul_bf16_avx2;
    for (size_t i = 0; i < sizeof quantised / sizeof quantised[0]; i++)
        k->matmul[quantised[i].dtype] = mask & CPU_AVX_VNNI ? quantised[i].vnni
                                                            : quantised[i].plain;
}
