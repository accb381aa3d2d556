/* interp_recurrent.c: reference of the operations that walk a sequence and keep a state:
 * short convolutions, selective state spaces, the gated delta rule; see program.h.
 *
 * The state is rounded to f32 after every row, so that the cut of a sequence into steps
 * changes no bit. */
#include <math.h>
#include <string.h>

#include "chips/interp_internal.h"

static float *state_of(const struct interp *x, const struct instr *in, const struct stream *s)
{
    return s->fixed + prog_state_at(x->p, in->state)->first;
}

/* ---- short convolution ---- */

/* Row t of the stream as the convolution sees it; rows in front of the batch are negative. */
static const float *conv_row(const struct interp *x, const struct instr *in,
                             const struct stream *s, const float *state, int64_t t)
{
    const int64_t tail = in->a.conv.n_taps - 1;

    return t < 0 ? state + (t + tail) * width_of(x, in->dst[0])
                 : row_of(x, in->src[0], s->first_row + (uint32_t)t);
}

static void conv_stream(struct interp *x, const struct instr *in, const struct stream *s)
{
    const uint32_t width = width_of(x, in->dst[0]), taps = in->a.conv.n_taps;
    const float *kernel = vector_of(x, in->w[0]), *bias = vector_of(x, in->w[1]);
    float *state = state_of(x, in, s);

    for (uint32_t t = 0; t < s->n_rows; t++)
        for (uint32_t c = 0; c < width; c++) {
            double sum = bias ? bias[c] : 0;

            for (uint32_t j = 0; j < taps; j++)
                sum += (double)kernel[(size_t)c * taps + j] *
                       conv_row(x, in, s, state, (int64_t)t + j - (taps - 1))[c];
            row_of(x, in->dst[0], s->first_row + t)[c] = (float)sum;
        }
    for (uint32_t j = 0; j + 1 < taps; j++)
        memmove(state + (size_t)j * width,
                conv_row(x, in, s, state, (int64_t)s->n_rows + j - (taps - 1)),
                width * sizeof *state);
}

void ref_short_conv(struct interp *x, const struct instr *in)
{
    for (uint32_t i = 0; i < x->b->n_streams; i++)
        conv_stream(x, in, &x->b->streams[i]);
}

/* ---- selective state space ---- */

static double softplus(double x)
{
    return x > 20 ? x : log1p(exp(x));
}

static void ssm_row(struct interp *x, const struct instr *in, float *state, uint32_t row)
{
    const struct ssm_args *a = &in->a.ssm;
    const float *decay = vector_of(x, in->w[0]), *skip = vector_of(x, in->w[1]);
    const bool per_state = vector_len(x, in->w[0]) != a->n_heads;
    const float *u = row_of(x, in->src[0], row), *dt = row_of(x, in->src[1], row);
    float *y = row_of(x, in->dst[0], row);

    for (uint32_t h = 0; h < a->n_heads; h++) {
        const size_t group = (size_t)(h / (a->n_heads / a->n_groups)) * a->d_state;
        const float *b = row_of(x, in->src[2], row) + group, *c = row_of(x, in->src[3], row) + group;
        const double d = softplus(dt[h]);

        for (uint32_t i = h * a->head_dim; i < (h + 1) * a->head_dim; i++) {
            float *s = state + (size_t)i * a->d_state;
            double sum = 0;

            for (uint32_t k = 0; k < a->d_state; k++) {
                const double log_keep = d * decay[per_state ? (size_t)h * a->d_state + k : h];

                s[k] = (float)(s[k] * exp(log_keep) + b[k] * d * u[i]);
                sum += (double)s[k] * c[k];
            }
            y[i] = (float)(sum + (skip ? (double)skip[h] * u[i] : 0));
        }
    }
}

void ref_ssm_scan(struct interp *x, const struct instr *in)
{
    for (uint32_t i = 0; i < x->b->n_streams; i++) {
        const struct stream *s = &x->b->streams[i];

        for (uint32_t r = 0; r < s->n_rows; r++)
            ssm_row(x, in, state_of(x, in, s), s->first_row + r);
    }
}

/* ---- gated delta rule ---- */

static void delta_row(struct interp *x, const struct instr *in, float *state, uint32_t row)
{
    const struct delta_args *a = &in->a.delta;
    const bool per_key = width_of(x, in->src[3]) != a->n_heads;

    for (uint32_t h = 0; h < a->n_heads; h++) {
        const uint32_t kh = a->tiled ? h % a->n_k_heads : h / (a->n_heads / a->n_k_heads);
        const float *q = row_of(x, in->src[0], row) + (size_t)kh * a->k_dim;
        const float *k = row_of(x, in->src[1], row) + (size_t)kh * a->k_dim;
        const float *decay = row_of(x, in->src[3], row) + (per_key ? (size_t)h * a->k_dim : h);
        const double beta = row_of(x, in->src[4], row)[h];

        for (uint32_t i = h * a->v_dim; i < (h + 1) * a->v_dim; i++) {
            float *s = state + (size_t)i * a->k_dim;
            double held = 0, sum = 0, change;

            for (uint32_t j = 0; j < a->k_dim; j++)
                held += s[j] * exp(decay[per_key ? j : 0]) * k[j];
            change = beta * (row_of(x, in->src[2], row)[i] - held);
            for (uint32_t j = 0; j < a->k_dim; j++) {
                s[j] = (float)(s[j] * exp(decay[per_key ? j : 0]) + k[j] * change);
                sum += (double)s[j] * q[j];
            }
            row_of(x, in->dst[0], row)[i] = (float)(sum * a->scale);
        }
    }
}

void ref_delta_rule(struct interp *x, const struct instr *in)
{
    for (uint32_t i = 0; i < x->b->n_streams; i++) {
        const struct stream *s = &x->b->streams[i];

        for (uint32_t r = 0; r < s->n_rows; r++)
            delta_row(x, in, state_of(x, in, s), s->first_row + r);
    }
}
