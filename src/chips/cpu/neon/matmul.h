/* matmul.h: the NEON products that matmul.c puts into the table. */
#ifndef CHIPS_CPU_NEON_MATMUL_H
#define CHIPS_CPU_NEON_MATMUL_H

#include "chips/cpu/kernels.h"

act_prepare_fn act_q8_neon, act_bf16_neon;
matmul_fn matmul_f32_neon, matmul_f16_neon, matmul_bf16_neon, matmul_raw_neon;
matmul_fn matmul_bf16_dot_neon;         /* BF16 */

/* Quantised types: X(name in functions, name in enum dtype). */
#define NEON_TYPES(X)                                                            \
    X(q4_0, Q4_0) X(q8_0, Q8_0) X(q4_k, Q4_K) X(q5_k, Q5_K) X(q6_k, Q6_K)        \
    X(q4_1, Q4_1) X(q5_0, Q5_0) X(q5_1, Q5_1) X(iq4_nl, IQ4_NL) X(iq4_xs, IQ4_XS) \
    X(mxfp4, MXFP4) X(nvfp4, NVFP4) X(q2_k, Q2_K) X(q3_k, Q3_K) X(tq2_0, TQ2_0)

#define NEON_DECLARE(name, dtype) \
    matmul_fn matmul_##name##_neon, matmul_##name##_neondot, matmul_##name##_neoni8mm;
NEON_TYPES(NEON_DECLARE)

#endif
