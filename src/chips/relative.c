/* relative.c: see relative.h. */
#include "chips/relative.h"

#include <math.h>

/* In f32 as the models were trained: the logarithm decides which side of a bucket's edge a
 * distance is on. */
uint32_t relative_bucket(int64_t distance, uint32_t n_buckets, uint32_t max_distance)
{
    const uint32_t half = n_buckets / 2, exact = half / 2;
    const uint32_t side = distance > 0 ? half : 0;
    const int64_t far = distance < 0 ? -distance : distance;
    float ratio;
    uint32_t wide;

    if (far < exact)
        return side + (uint32_t)far;
    if (far >= max_distance)
        return side + half - 1;
    ratio = logf((float)far / (float)exact) / (float)log((double)max_distance / exact);
    wide = exact + (uint32_t)(ratio * (float)(half - exact));
    return side + (wide < half ? wide : half - 1);
}

void relative_table(float *out, const float *weights, const struct attn_args *a)
{
    const size_t stride = relative_stride(a->max_distance);
    const int64_t first = -(int64_t)a->max_distance - KV_LANES;

    for (uint32_t h = 0; h < a->n_heads; h++)
        for (size_t i = 0; i < stride; i++)
            out[h * stride + i] = weights[(size_t)relative_bucket(first + (int64_t)i, a->n_buckets,
                                                                  a->max_distance) *
                                              a->n_heads + h];
}
