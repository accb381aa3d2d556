/* update.h: kernels of optimisers: element-wise steps over master weights and their moments.
 *
 * Only correctly rounded operations (+ - * / and square root, nothing contracted) in a fixed order
 * per element: every instruction set gives the same bits as the reference, wherever the arrays are
 * cut. ARM uses the reference. */
#ifndef CHIPS_CPU_UPDATE_H
#define CHIPS_CPU_UPDATE_H

#include <stddef.h>
#include <stdint.h>

/* AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on gradients times g_scale:
 *   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g g
 *   w = keep w - rate m / (sqrt(v) * root + eps)
 * with keep = 1 - lr * weight decay, rate = lr / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t). */
struct adamw_args { float g_scale, beta1, beta2, eps, keep, rate, root; };
typedef void adamw_fn(float *w, float *m, float *v, const float *g, size_t n,
                      const struct adamw_args *a);

/* y = a y + b x; y and x don't overlap. Momentum, averages of weights. */
typedef void blend_fn(float *y, const float *x, float a, float b, size_t n);

struct update_kernels {
    adamw_fn *adamw;
    blend_fn *blend;
};

/* mask is and-ed with what the machine has (chips/cpu/features.h). */
void update_kernels_init(struct update_kernels *k, uint32_t mask);

void update_install_avx2(struct update_kernels *k);
void update_install_avx512(struct update_kernels *k);

#endif
