/* roofline.h: how fast a step could be on this machine: the bytes and operations that the
 * program's cost model counts, over the measured peaks (Williams et al. 2009). */
#ifndef APPLICATIONS_ROOFLINE_H
#define APPLICATIONS_ROOFLINE_H

#include "chips/cpu/peaks.h"
#include "models/session.h"

/* A step of n_rows token rows in n_streams equal streams with n_past positions each, n_out
 * results. */
struct roofline_load { uint32_t n_rows, n_streams, n_past, n_out; };

struct roofline {
    double ops, weight_bytes, kv_bytes;
    double ops_s;           /* time the operations take, each at the peak of its weight's type */
    double read_s;          /* time that weights and cache take at the read bandwidth */
    double limit_s;         /* the larger of the two */
};

enum roofline_peak { ROOF_F32, ROOF_INT8, ROOF_BF16, ROOF_MEMORY };

/* Which peak bounds an instruction's operations: products by quantised weights the 8-bit one,
 * BF16 its own, others F32's; a peak that is 0 falls back to F32's. */
enum roofline_peak roofline_peak_of(const struct program *p, const struct instr *in,
                                    const struct peaks *k);
double roofline_ops_s(const struct peaks *k, enum roofline_peak peak);
const char *roofline_peak_name(enum roofline_peak peak);    /* "int8", …, "memory" */

/* Cost of every instruction into per[prog_n_instr], caches counted in the type in use. */
void roofline_costs(struct prog_cost *per, const struct model *m,
                    const struct session_memory *mem, const struct roofline_load *load);

/* peaks NULL: not measured, the times are 0. */
int roofline_step(struct roofline *r, const struct model *m, const struct session_memory *mem,
                  const struct peaks *peaks, const struct roofline_load *load,
                  struct err *e) MUST_CHECK;

#endif
