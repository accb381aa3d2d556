/* wide.h: panels of quantised types expanded into bytes and float scales.
 *
 * Types without fused kernels of their own, and those whose decoding is dear when
 * there are many rows, are expanded a chunk of a panel at a time into scratch, and
 * one kernel per shape of scales multiplies them. The copy stays in the first
 * cache level. Of each 32 inputs of sixteen rows: the signed weights as bytes
 * [8][16][4], one or two f32 scales [16] (per 32 or per 16 inputs), and as many
 * minima where the type has them.
 *
 * The expanders are vector expressions of sixteen words, in wide_body.h: each
 * instruction set compiles them with its own flags, and says how weights stand
 * (WIDE_FLIP 0: unsigned, plus 128; 0x80: signed), how to look up sixteen levels
 * and how to widen halves. */
#ifndef CHIPS_CPU_WIDE_H
#define CHIPS_CPU_WIDE_H

#include "chips/cpu/layout.h"

enum { WIDE_W = 512, WIDE_F = 64 };     /* bytes of the weights, of sixteen floats */

static inline size_t wide_block_bytes(unsigned n_scales, unsigned with_min)
{
    return WIDE_W + WIDE_F * (size_t)(n_scales << with_min);
}

#endif
