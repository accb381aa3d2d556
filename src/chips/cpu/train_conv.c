/* train_conv.c: backward of convolutions over the rows of a unit: the same walk over places and taps as
 * exec_conv.c, in which each product hands its gradient to both sides. */
#include <string.h>

#include "chips/cpu/train_internal.h"

/* One tap of one place: dy of all channels against the source's row x. dx, dkernel may be NULL. */
static void tap_back(const struct conv2d_args *a, const float *dy, const float *x, const float *kernel,
                     float *dx, float *dkernel, uint32_t n_in, size_t tap)
{
    const uint32_t per_group = a->n_out / a->groups;
    const size_t taps = (size_t)a->k_height * a->k_width;

    for (uint32_t o = 0; o < a->n_out; o++) {
        const size_t at = (size_t)o * n_in * taps + tap, from = (size_t)(o / per_group) * n_in;

        for (uint32_t i = 0; dx && i < n_in; i++)
            dx[from + i] += dy[o] * kernel[at + i * taps];
        for (uint32_t i = 0; dkernel && i < n_in; i++)
            dkernel[at + i * taps] += dy[o] * x[from + i];
    }
}

void train_conv(const struct train *t, const struct train_item *it, uint32_t unit, float *dkernel,
                float *dbias)
{
    const struct instr *in = it->in;
    const struct conv2d_args *a = &in->a.conv2d;
    const float *kernel = t->x->vector[in->w[0]];
    const struct train_place x = train_value(t, in->src[0]);
    const uint32_t w = prog_conv_extent(a->width, a->k_width, a->stride_x, a->pad_x, a->dilation_x);
    const uint32_t per = prog_value(t->own, in->dst[0])->per, places = a->height * a->width;
    const uint32_t width = train_width(t, in->src[0]);
    const uint64_t first = (uint64_t)unit * places;

    for (uint32_t i = 0; it->dst[0].p && !(it->step->add & 1) && i < places; i++)
        memset(train_row(it->dst[0], first + i), 0, width * sizeof(float));
    for (uint32_t r = 0; r < per; r++) {
        const float *dy = train_row(it->dy, (uint64_t)unit * per + r);

        if (dbias)
            t->x->k.add(dbias, dbias, dy, a->n_out);
        for (uint32_t tap = 0; tap < a->k_height * a->k_width; tap++) {
            const int64_t sy = (int64_t)(r / w) * a->stride_y - a->pad_y +
                               (int64_t)(tap / a->k_width) * a->dilation_y;
            const int64_t sx = (int64_t)(r % w) * a->stride_x - a->pad_x +
                               (int64_t)(tap % a->k_width) * a->dilation_x;
            const uint64_t row = first + (uint64_t)sy * a->width + (uint64_t)sx;

            if (sy >= 0 && sy < a->height && sx >= 0 && sx < a->width)
                tap_back(a, dy, train_row(x, row), kernel,
                         it->dst[0].p ? train_row(it->dst[0], row) : NULL, dkernel,
                         width / a->groups, tap);
        }
    }
}
