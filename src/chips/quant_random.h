/* quant_random.h: valid random blocks of any type, without quantising: for synthetic
 * models of any size. */
#ifndef CHIPS_QUANT_RANDOM_H
#define CHIPS_QUANT_RANDOM_H

#include <stddef.h>

#include "base/rng.h"
#include "chips/dtype.h"

/* Fills the blocks of n_elems elements (a multiple of block_elems) so that the
 * dequantised values are about normal with mean 0 and deviation sigma: the levels
 * are uniform and the scales vary so that the mixture is. Integer types get rounded
 * normal values. A sigma beyond what the type's scale can hold (F16: 6e-8 to 65504)
 * gives the nearest. The same r gives the same bytes on every machine. dtype must name
 * a type (CHECK). */
void quant_random_blocks(enum dtype dtype, void *blocks, size_t n_elems, float sigma,
                         struct rng *r);

#endif
