/* matmul.h: the AVX-512 products that matmul.c puts into the table. */
#ifndef CHIPS_CPU_AVX512_MATMUL_H
#define CHIPS_CPU_AVX512_MATMUL_H

#include "chips/cpu/kernels.h"

act_prepare_fn act_q8_avx512, act_bf16_avx512;
matmul_fn matmul_f32_avx512, matmul_f16_avx512, matmul_bf16_avx512, matmul_raw_avx512;
/* BF16 */
matmul_fn matmul_bf16_dot_avx512;
/* VNNI */
matmul_fn matmul_q4_0_avx512, matmul_q8_0_avx512, matmul_q4_k_avx512, matmul_q5_k_avx512,
          matmul_q6_k_avx512, matmul_q4_1_avx512, matmul_q5_0_avx512, matmul_q5_1_avx512,
          matmul_iq4_nl_avx512, matmul_iq4_xs_avx512, matmul_mxfp4_avx512, matmul_nvfp4_avx512,
          matmul_q2_k_avx512, matmul_q3_k_avx512, matmul_tq2_0_avx512;
/* Many rows of types that have kernels of their own for few. */
struct blocking;
extern const struct blocking q5_k_wide_avx512, q6_k_wide_avx512;

#endif
