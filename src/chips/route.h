/* route.h: which experts a row goes to, and with what weights; one definition for every
 * executor, in double: a router's choice must not depend on the kernels' rounding more
 * than its logits do.
 *
 * Shazeer et al. 2017 (arXiv 1701.06538); groups and selection bias as in DeepSeek-V3
 * (arXiv 2412.19437). Ties go to the lower index, NaN comes last. */
#ifndef CHIPS_ROUTE_H
#define CHIPS_ROUTE_H

#include <stddef.h>
#include <stdint.h>

#include "chips/program.h"

/* Doubles of scratch that a row needs. */
size_t route_scratch(const struct route_args *a);
/* logits: [n_experts]; bias: [n_experts] added for the choice alone, or NULL;
 * ids, weights: [n_used], best first. */
void   route_row(const struct route_args *a, const float *logits, const float *bias,
                 int32_t *ids, float *weights, double *scratch);

#endif
