/* exec_conv.c: convolutions over the rows of a unit (a picture, or a line of samples): direct, one
 * place of the result after the other, channels of the source innermost; see program.h. */
#include <string.h>

#include "chips/cpu/exec_internal.h"

/* Adds one tap: y[o] += kernel[o][i][tap] x[i] over the channels of every group. */
static void add_tap(const struct conv2d_args *a, float *y, const float *x, const float *kernel,
                    uint32_t n_in, size_t taps, size_t tap)
{
    const uint32_t per_group = a->n_out / a->groups;

    for (uint32_t o = 0; o < a->n_out; o++) {
        const float *w = kernel + (size_t)o * n_in * taps + tap;
        const float *from = x + (size_t)(o / per_group) * n_in;
        float sum = 0;

        for (uint32_t i = 0; i < n_in; i++)
            sum += w[i * taps] * from[i];
        y[o] += sum;
    }
}

static void conv_place(const struct conv2d_args *a, const struct item *it, uint64_t first,
                       const float *kernel, float *y, uint32_t py, uint32_t px, uint32_t n_in)
{
    const size_t taps = (size_t)a->k_height * a->k_width;

    for (uint32_t ky = 0; ky < a->k_height; ky++) {
        const int64_t sy = (int64_t)py * a->stride_y - a->pad_y + (int64_t)ky * a->dilation_y;

        if (sy < 0 || sy >= a->height)
            continue;
        for (uint32_t kx = 0; kx < a->k_width; kx++) {
            const int64_t sx = (int64_t)px * a->stride_x - a->pad_x + (int64_t)kx * a->dilation_x;
            const uint64_t row = first + (uint64_t)sy * a->width + (uint64_t)sx;

            if (sx >= 0 && sx < a->width)
                add_tap(a, y, it->src[0] + row * it->src_stride[0], kernel, n_in, taps,
                        (size_t)ky * a->k_width + kx);
        }
    }
}

void exec_conv_unit(struct cpu_exec *x, const struct item *it, uint32_t unit)
{
    const struct instr *in = it->in;
    const struct conv2d_args *a = &in->a.conv2d;
    const float *kernel = x->vector[in->w[0]], *bias = x->vector[in->w[1]];
    const uint32_t w = prog_conv_extent(a->width, a->k_width, a->stride_x, a->pad_x, a->dilation_x);
    const uint32_t per = prog_value(x->p, in->dst[0])->per;
    const uint32_t n_in = prog_value(x->p, in->src[0])->width / a->groups;

    for (uint32_t r = 0; r < per; r++) {
        float *y = it->dst + ((uint64_t)unit * per + r) * it->dst_stride;

        if (bias)
            memcpy(y, bias, a->n_out * sizeof *y);
        else
            memset(y, 0, a->n_out * sizeof *y);
        conv_place(a, it, (uint64_t)unit * a->height * a->width, kernel, y, r / w, r % w, n_in);
    }
}
