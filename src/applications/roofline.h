/* roofline.h: how fast a step could be on this machine: the bytes and operations that the
 * program's cost model counts, over the measured peaks (Williams et al. 2009). */
#ifndef APPLICATIONS_ROOFLINE_H
#define APPLICATIONS_ROOFLINE_H

#include "chips/cpu/peaks.h"
#include "models/session.h"

struct roofline {
    double ops, weight_bytes, kv_bytes;
    double ops_s;           /* time the operations take, each at the peak of its weight's type */
    double read_s;          /* time that weights and cache take at the read bandwidth */
    double limit_s;         /* the larger of the two */
};

/* A step of n_rows token rows in n_streams equal streams with n_past positions each, n_out
 * results. Products by quantised weights count at the 8-bit peak, BF16 at its own, others at
 * F32's; a peak that is 0 falls back to F32's. peaks NULL: not measured, the times are 0. */
int roofline_step(struct roofline *r, const struct model *m, const struct session_memory *mem,
                  const struct peaks *peaks, uint32_t n_rows, uint32_t n_streams,
                  uint32_t n_past, uint32_t n_out, struct err *e) MUST_CHECK;

#endif
