/* interp_conv.c: reference of sums over groups of columns and of convolutions over the rows of a
 * unit; see program.h. */
#include "chips/interp_internal.h"

void ref_group_sum(struct interp *x, const struct instr *in)
{
    const uint32_t group = in->a.group;

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++)
        for (uint32_t g = 0; g < width_of(x, in->dst[0]); g++) {
            const float *from = row_of(x, in->src[0], r) + (size_t)g * group;
            double sum = 0;

            for (uint32_t i = 0; i < group; i++)
                sum += from[i];
            row_of(x, in->dst[0], r)[g] = (float)sum;
        }
}

/* One number of the result: channel o at place (y, x) of unit u. */
static double conv_at(struct interp *x, const struct instr *in, uint32_t u, uint32_t o, uint32_t py,
                      uint32_t px)
{
    const struct conv2d_args *a = &in->a.conv2d;
    const uint32_t n_in = width_of(x, in->src[0]) / a->groups;
    const uint32_t first = o / (a->n_out / a->groups) * n_in;
    const float *kernel = vector_of(x, in->w[0]) + (size_t)o * n_in * a->k_height * a->k_width;
    double sum = in->w[1] ? vector_of(x, in->w[1])[o] : 0;

    for (uint32_t ky = 0; ky < a->k_height; ky++)
        for (uint32_t kx = 0; kx < a->k_width; kx++) {
            const int64_t sy = (int64_t)py * a->stride_y - a->pad_y + (int64_t)ky * a->dilation_y;
            const int64_t sx = (int64_t)px * a->stride_x - a->pad_x + (int64_t)kx * a->dilation_x;
            const float *from;

            if (sy < 0 || sy >= a->height || sx < 0 || sx >= a->width)
                continue;
            from = row_of(x, in->src[0], u * a->height * a->width + (uint32_t)sy * a->width +
                                             (uint32_t)sx) + first;
            for (uint32_t i = 0; i < n_in; i++)
                sum += (double)kernel[((size_t)i * a->k_height + ky) * a->k_width + kx] * from[i];
        }
    return sum;
}

void ref_conv(struct interp *x, const struct instr *in)
{
    const struct conv2d_args *a = &in->a.conv2d;
    const uint32_t w = prog_conv_extent(a->width, a->k_width, a->stride_x, a->pad_x, a->dilation_x);
    const uint32_t per = prog_value(x->p, in->dst[0])->per;

    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++)
        for (uint32_t o = 0; o < a->n_out; o++)
            row_of(x, in->dst[0], r)[o] =
                (float)conv_at(x, in, r / per, o, r % per / w, r % per % w);
}
