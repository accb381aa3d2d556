/* optim_internal.h: between optim.c and optim_muon.c. */
#ifndef MODELS_TRAIN_OPTIM_INTERNAL_H
#define MODELS_TRAIN_OPTIM_INTERNAL_H

#include "base/err.h"
#include "chips/cpu/kernels.h"

/* One worker's room for matrices of at most `rows` by `cols`. */
struct muon_room;

int  muon_room_open(struct muon_room **out, uint32_t rows, uint32_t cols, struct err *e) MUST_CHECK;
void muon_room_close(struct muon_room *r);      /* NULL is fine */

/* One matrix: momentum m is updated with scaled gradients, and w by the orthogonal direction:
 * w = keep w - rate * direction. */
struct muon_args { float g_scale, momentum, keep, lr; };
void muon_matrix(struct muon_room *r, const struct kernels *k, float *w, float *m, const float *g,
                 uint32_t rows, uint32_t cols, const struct muon_args *a);

#endif
