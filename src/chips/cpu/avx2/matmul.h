/* matmul.h: the AVX2 and AVX-VNNI products that matmul.c puts into the table. */
#ifndef CHIPS_CPU_AVX2_MATMUL_H
#define CHIPS_CPU_AVX2_MATMUL_H

#include "chips/cpu/kernels.h"

act_prepare_fn act_q8_avx2, act_bf16_avx2;
matmul_fn matmul_f32_avx2, matmul_f16_avx2, matmul_bf16_avx2, matmul_raw_avx2;
matmul_fn matmul_q4_0_avx2, matmul_q8_0_avx2, matmul_q4_k_avx2, matmul_q5_k_avx2,
          matmul_q6_k_avx2,
          matmul_q4_1_avx2, matmul_q5_0_avx2, matmul_q5_1_avx2, matmul_iq4_nl_avx2,
          matmul_iq4_xs_avx2, matmul_mxfp4_avx2, matmul_nvfp4_avx2, matmul_q2_k_avx2,
          matmul_q3_k_avx2, matmul_tq2_0_avx2;
matmul_fn matmul_q4_0_avxvnni, matmul_q8_0_avxvnni, matmul_q4_k_avxvnni, matmul_q5_k_avxvnni,
          matmul_q6_k_avxvnni,
          matmul_q4_1_avxvnni, matmul_q5_0_avxvnni, matmul_q5_1_avxvnni, matmul_iq4_nl_avxvnni,
          matmul_iq4_xs_avxvnni, matmul_mxfp4_avxvnni, matmul_nvfp4_avxvnni, matmul_q2_k_avxvnni,
          matmul_q3_k_avxvnni, matmul_tq2_0_avxvnni;
/* Many rows of types that have kernels of their own for few. */
struct blocking;
extern const struct blocking q5_k_wide_avx2, q6_k_wide_avx2, q5_k_wide_avxvnni,
                             q6_k_wide_avxvnni;

#endif
