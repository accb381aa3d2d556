/* update.c: kernels of optimisers, scalar, and their table; see update.h. */
#include "chips/cpu/update.h"

#include <math.h>

#include "chips/cpu/features.h"

static void adamw_ref(float *w, float *m, float *v, const float *g, size_t n,
                      const struct adamw_args *a)
{
    const float new1 = 1.0f - a->beta1, new2 = 1.0f - a->beta2;

    for (size_t i = 0; i < n; i++) {
        const float s = g[i] * a->g_scale;

        m[i] = a->beta1 * m[i] + new1 * s;
        v[i] = a->beta2 * v[i] + new2 * (s * s);
        w[i] = a->keep * w[i] - a->rate * m[i] / (sqrtf(v[i]) * a->root + a->eps);
    }
}

static void blend_ref(float *y, const float *x, float a, float b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a * y[i] + b * x[i];
}

void update_kernels_init(struct update_kernels *k, uint32_t mask)
{
    mask &= cpu_features();
    k->adamw = adamw_ref;
    k->blend = blend_ref;
#if defined(__x86_64__)
    if (mask & CPU_AVX2)
        update_install_avx2(k);
    if ((mask & CPU_AVX2) && (mask & CPU_AVX512))
        update_install_avx512(k);
#endif
}
