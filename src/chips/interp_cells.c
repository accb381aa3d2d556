/* interp_cells.c: reference of linear attention, RWKV-7, token shift, LSTM and GRU; see program.h.
 * As in interp_recurrent.c the state is f32 after every row. */
#include <math.h>
#include <string.h>

#include "chips/interp_internal.h"

typedef void row_fn(struct interp *x, const struct instr *in, float *state, uint32_t row);

/* Every stream's rows in order. */
static void walk(struct interp *x, const struct instr *in, row_fn *fn)
{
    const uint64_t first = prog_state_at(x->p, in->state)->first;

    for (uint32_t i = 0; i < x->b->n_streams; i++) {
        const struct stream *s = &x->b->streams[i];

        for (uint32_t r = 0; r < s->n_rows; r++)
            fn(x, in, s->fixed + first, s->first_row + r);
    }
}

static void linear_attention_row(struct interp *x, const struct instr *in, float *state,
                                 uint32_t row)
{
    const struct linear_attn_args *a = &in->a.linattn;

    for (uint32_t h = 0; h < a->n_heads; h++) {
        const float *q = row_of(x, in->src[0], row) + (size_t)h * a->k_dim;
        const float *k = row_of(x, in->src[1], row) + (size_t)h * a->k_dim;
        const double keep = exp(-a->decay * prog_linear_slope(h, a->n_heads));

        for (uint32_t i = h * a->v_dim; i < (h + 1) * a->v_dim; i++) {
            float *s = state + (size_t)i * a->k_dim;
            const double v = row_of(x, in->src[2], row)[i];
            double sum = 0;

            for (uint32_t j = 0; j < a->k_dim; j++) {
                s[j] = (float)(s[j] * keep + k[j] * v);
                sum += (double)s[j] * q[j];
            }
            row_of(x, in->dst[0], row)[i] = (float)(sum * a->scale);
        }
    }
}

void ref_linear_attention(struct interp *x, const struct instr *in)
{
    walk(x, in, linear_attention_row);
}

static void wkv_row(struct interp *x, const struct instr *in, float *state, uint32_t row)
{
    const uint32_t n = in->a.wkv.head_dim;

    for (uint32_t h = 0; h < in->a.wkv.n_heads; h++) {
        const float *o[6];      /* r, decay, k, v, a, b of the head */

        for (int i = 0; i < 6; i++)
            o[i] = row_of(x, in->src[i], row) + (size_t)h * n;
        for (uint32_t i = 0; i < n; i++) {
            float *s = state + ((size_t)h * n + i) * n;
            double held = 0, sum = 0;

            for (uint32_t j = 0; j < n; j++)
                held += (double)s[j] * o[4][j];
            for (uint32_t j = 0; j < n; j++) {
                s[j] = (float)(s[j] * exp(o[1][j]) + held * o[5][j] + (double)o[3][i] * o[2][j]);
                sum += (double)s[j] * o[0][j];
            }
            row_of(x, in->dst[0], row)[(size_t)h * n + i] = (float)sum;
        }
    }
}

void ref_wkv(struct interp *x, const struct instr *in)
{
    walk(x, in, wkv_row);
}

static void shift_row(struct interp *x, const struct instr *in, float *state, uint32_t row)
{
    const size_t bytes = width_of(x, in->dst[0]) * sizeof(float);

    memcpy(row_of(x, in->dst[0], row), state, bytes);
    memcpy(state, row_of(x, in->src[0], row), bytes);
}

void ref_shift(struct interp *x, const struct instr *in)
{
    walk(x, in, shift_row);
}

/* ---- cells ---- */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* What the hidden state adds to gate g of unit i. */
static double from_hidden(const struct interp *x, const struct instr *in, const float *h,
                          uint32_t g, uint32_t i)
{
    const uint32_t n = in->a.cell.n_hidden;
    const size_t at = (size_t)g * n + i;
    const float *bias = vector_of(x, in->w[1]);

    return dot(vector_of(x, in->w[0]) + at * n, h, n) + (bias ? bias[at] : 0);
}

static void cell_row(struct interp *x, const struct instr *in, float *state, uint32_t row)
{
    const uint32_t n = in->a.cell.n_hidden;
    const float *gate = row_of(x, in->src[0], row);
    float *y = row_of(x, in->dst[0], row), *c = state + n;

    for (uint32_t i = 0; i < n; i++) {
        double g[4] = { 0 };

        if (in->a.cell.kind == CELL_LSTM) {
            for (uint32_t k = 0; k < 4; k++)
                g[k] = gate[(size_t)k * n + i] + from_hidden(x, in, state, k, i);
            c[i] = (float)(sigmoid(g[1]) * c[i] + sigmoid(g[0]) * tanh(g[2]));
            y[i] = (float)(sigmoid(g[3]) * tanh(c[i]));
        } else {
            for (uint32_t k = 0; k < 2; k++)
                g[k] = sigmoid(gate[(size_t)k * n + i] + from_hidden(x, in, state, k, i));
            g[2] = tanh(gate[(size_t)2 * n + i] + g[0] * from_hidden(x, in, state, 2, i));
            y[i] = (float)((1 - g[1]) * g[2] + g[1] * state[i]);
        }
    }
    memcpy(state, y, n * sizeof *y);
}

void ref_cell(struct interp *x, const struct instr *in)
{
    walk(x, in, cell_row);
}
