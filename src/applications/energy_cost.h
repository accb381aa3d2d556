/* energy_cost.h: what rows of a request weigh by a program's cost model, cheaply enough to be asked
 * after every step.
 *
 * Operations and bytes of a share are taken to grow with its rows, with the positions they attend
 * to, and with the product of both; the four numbers of each come from prog_cost() at open. Weights
 * are read once per step: each row has its part of them. */
#ifndef APPLICATIONS_ENERGY_COST_H
#define APPLICATIONS_ENERGY_COST_H

#include <stdint.h>

#include "energy/meter.h"
#include "models/model.h"

/* What weighs energy where nobody gave coefficients: only their ratio matters then. Of the order
 * that is published for processors: a few pJ per operation, some tens per byte of memory. */
#define ENERGY_COST_PJ_OP   4.0
#define ENERGY_COST_PJ_BYTE 60.0

struct energy_plane { double one, rows, past, both; };     /* one + rows*n + past*p + both*n*p */

struct energy_cost {
    struct energy_plane ops, bytes;     /* bytes without weights */
    double weight_bytes;                /* of a step of one row, and */
    double more_weight_bytes;           /* of each further row, up to */
    double max_weight_bytes;            /* (experts) */
    double pj_op, pj_byte;
};

void energy_cost_init(struct energy_cost *c, const struct model *m,
                      const struct meter_coefficients *k);     /* k NULL: the ratio above */
/* Bytes of weights that a step of so many rows reads. */
double energy_cost_weights(const struct energy_cost *c, uint32_t n_rows);
/* Of n rows that found n_past positions, in a step of `total` rows that reads weight_bytes. */
void energy_cost_share(const struct energy_cost *c, uint32_t n, uint32_t n_past, uint32_t total,
                       double weight_bytes, double *ops, double *bytes);
static inline double energy_cost_pj(const struct energy_cost *c, double ops, double bytes)
{
    return ops * c->pj_op + bytes * c->pj_byte;
}

#endif
