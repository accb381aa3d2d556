/* dequant.h: the reference dequantisers behind dtype_info(). Each is a dequant_fn:
 * n is a multiple of the type's block_elems, blocks may lie at any address, out is
 * f32 [n]. Any bytes are valid input (a NaN scale gives NaN values). */
#ifndef CHIPS_DEQUANT_H
#define CHIPS_DEQUANT_H

#include "chips/dtype.h"

dequant_fn dequant_q4_0, dequant_q4_1, dequant_q5_0, dequant_q5_1, dequant_q8_0, dequant_q8_1;
dequant_fn dequant_iq4_nl, dequant_mxfp4, dequant_nvfp4;
dequant_fn dequant_q2_k, dequant_q3_k, dequant_q4_k, dequant_q5_k, dequant_q6_k, dequant_q8_k;
dequant_fn dequant_iq4_xs, dequant_tq1_0, dequant_tq2_0;
dequant_fn dequant_iq2_xxs, dequant_iq2_xs, dequant_iq2_s, dequant_iq3_xxs, dequant_iq3_s;
dequant_fn dequant_iq1_s, dequant_iq1_m;

#endif
