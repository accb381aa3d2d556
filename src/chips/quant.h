/* quant.h: the quantisers behind dtype_info(). Each is a quant_fn: n is a multiple of
 * the type's block_elems, in is f32 [n], importance f32 [n] or NULL, blocks may lie at
 * any address. Each minimises the squared error, weighted by importance, with the
 * searches of quant_fit.h.
 *
 * Defined for every input: NaN counts as 0, infinities and magnitudes beyond the
 * type's range as its largest value; NaN, infinite and negative importance counts
 * as 0, and a block without any above 0 as all 1. Zeros give zeros. */
#ifndef CHIPS_QUANT_H
#define CHIPS_QUANT_H

#include "chips/dtype.h"

quant_fn quant_q4_0, quant_q4_1, quant_q5_0, quant_q5_1, quant_q8_0;
quant_fn quant_iq4_nl, quant_mxfp4, quant_nvfp4;
quant_fn quant_q2_k, quant_q3_k, quant_q4_k, quant_q5_k, quant_q6_k;
quant_fn quant_iq4_xs, quant_tq1_0, quant_tq2_0;

#endif
