/* matmul.c: which matrix products AVX-512 brings. */
#include "chips/cpu/avx512/matmul.h"

void kernels_init_avx512_matmul(struct kernels *k, uint32_t mask)
{
    k->act_prepare[ACTF_Q8] = act_q8_avx512;
    if (mask & CPU_AVX512_VNNI) {
        k->matmul[DTYPE_Q4_0] = matmul_q4_0_avx512;
        k->matmul[DTYPE_Q8_0] = matmul_q8_0_avx512;
    }
}
