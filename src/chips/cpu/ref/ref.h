/* ref.h: the scalar reference kernels, which every other folder is compared with. */
#ifndef CHIPS_CPU_REF_REF_H
#define CHIPS_CPU_REF_REF_H

#include "chips/cpu/kernels.h"

act_prepare_fn act_f32_ref, act_bf16_ref, act_q8_ref;
matmul_fn      matmul_ref;

#endif
