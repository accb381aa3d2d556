/* rope.h: frequencies of rotary position embedding, shared by every executor.
 *
 * RoFormer (Su et al. 2021, arXiv 2104.09864); linear scaling by freq_scale; YaRN
 * (Peng et al. 2023, arXiv 2309.00071); per-pair factors as Llama 3 and LongRoPE files
 * carry them; sections of Qwen2-VL's multi-dimensional form (arXiv 2409.12191).
 * An angle is position times frequency in all of them, so a table of n_rot/2
 * frequencies and one magnitude says everything. Angles are in double: at position
 * 100,000 an f32 angle has lost the third decimal. Pure functions. */
#ifndef CHIPS_ROPE_H
#define CHIPS_ROPE_H

#include <stdint.h>

#include "chips/program.h"

/* freq: [n_rot/2]. factors: [n_rot/2] divisors of the frequencies, or NULL.
 * *magnitude multiplies both cosine and sine. */
void rope_frequencies(const struct rope_args *a, const float *factors, double *freq,
                      double *magnitude);

/* cos_sin: [n_rot/2][2]. pos4: positions of the four sections (all equal for text). */
void rope_cos_sin(const struct rope_args *a, const double *freq, double magnitude,
                  const int32_t pos4[4], float *cos_sin);

#endif
