/* matmul.h: the AVX-512 products that matmul.c puts into the table. */
#ifndef CHIPS_CPU_AVX512_MATMUL_H
#define CHIPS_CPU_AVX512_MATMUL_H

#include "chips/cpu/kernels.h"

act_prepare_fn act_q8_avx512;
/* VNNI */
matmul_fn matmul_q4_0_avx512, matmul_q8_0_avx512;

#endif
