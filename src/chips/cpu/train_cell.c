/* train_cell.c: backward of LSTM and GRU cells through time, a stream at a time. Forward's gates
 * are made again from its results; the gradient of what the hidden state adds to the gates goes to
 * work space [rows][gates * n], from which products make the gradient of the cell's matrix. */
#include <string.h>

#include "chips/cpu/scan.h"
#include "chips/cpu/train_internal.h"

struct cell {
    struct train *t;
    const struct train_item *it;
    const struct stream *s;
    const float *w, *bias;
    struct train_place x, y, dhidden;
    uint32_t n, gates;
    float   *gate;          /* [n_rows][4 * n]: after their functions; GRU: fourth is W h of n */
    float   *c;             /* [n_rows][n] LSTM */
    float   *dh, *dc;       /* [n] what the later row hands back */
    float   *zero;          /* [n] */
};

uint64_t train_cell_scratch(const struct train *t, const struct instr *in)
{
    const uint64_t n = in->a.cell.n_hidden;

    return ((uint64_t)t->limits.max_rows * 5 * n + 3 * n) * sizeof(float);
}

static void activate(const struct cell *u, float *x, enum act act)
{
    u->t->x->k.unary(x, x, u->n, &(struct act_args){ .act = act });
}

static const float *hidden_before(const struct cell *u, uint32_t row)
{
    return row ? train_row(u->y, (uint64_t)u->s->first_row + row - 1) : u->zero;
}

static void forward_row(const struct cell *u, uint32_t row)
{
    const struct scan_kernels *k = scan_kernels_of(u->t->x->k.mask);
    const float *x = train_row(u->x, (uint64_t)u->s->first_row + row);
    const uint32_t n = u->n, direct = u->it->in->a.cell.kind == CELL_LSTM ? 4 : 2;
    float *g = u->gate + (size_t)row * 4 * n, *c = u->c + (size_t)row * n;

    k->dots(g, u->w, hidden_before(u, row), u->gates * n, n);
    for (uint32_t i = 0; u->bias && i < u->gates * n; i++)
        g[i] += u->bias[i];
    for (uint32_t i = 0; i < direct * n; i++)
        g[i] += x[i];
    activate(u, g, ACT_SIGMOID);
    activate(u, g + n, ACT_SIGMOID);
    if (direct == 2) {
        for (uint32_t i = 0; i < n; i++) {
            g[3 * n + i] = g[2 * n + i];
            g[2 * n + i] = x[2 * n + i] + g[i] * g[3 * n + i];
        }
        activate(u, g + 2 * n, ACT_TANH);
        return;
    }
    activate(u, g + 2 * n, ACT_TANH);
    activate(u, g + 3 * n, ACT_SIGMOID);
    for (uint32_t i = 0; i < n; i++)
        c[i] = g[n + i] * (row ? c[(ptrdiff_t)i - n] : 0.0f) + g[i] * g[2 * n + i];
}

/* dg: gradient of the four sums. */
static void lstm_row(const struct cell *u, uint32_t row, const float *dy, float *dg)
{
    const uint32_t n = u->n;
    const float *g = u->gate + (size_t)row * 4 * n, *c = u->c + (size_t)row * n;
    float *th = dg;                     /* tanh(c) stands where its gate's gradient will */

    memcpy(th, c, n * sizeof *th);
    activate(u, th, ACT_TANH);
    for (uint32_t i = 0; i < n; i++) {
        const float in = g[i], f = g[n + i], cand = g[2 * n + i], o = g[3 * n + i], tc = th[i];
        const float dh = dy[i] + u->dh[i], dc = u->dc[i] + dh * o * (1 - tc * tc);

        dg[3 * n + i] = dh * tc * o * (1 - o);
        dg[i] = dc * cand * in * (1 - in);
        dg[2 * n + i] = dc * in * (1 - cand * cand);
        dg[n + i] = dc * (row ? c[(ptrdiff_t)i - n] : 0.0f) * f * (1 - f);
        u->dc[i] = dc * f;
        u->dh[i] = 0;
    }
}

/* dx: gradient of the input's sums; dg: of the hidden state's. */
static void gru_row(const struct cell *u, uint32_t row, const float *dy, float *dx, float *dg)
{
    const uint32_t n = u->n;
    const float *g = u->gate + (size_t)row * 4 * n, *before = hidden_before(u, row);

    for (uint32_t i = 0; i < n; i++) {
        const float r = g[i], z = g[n + i], cand = g[2 * n + i], from_h = g[3 * n + i];
        const float dh = dy[i] + u->dh[i], dcand = dh * (1 - z) * (1 - cand * cand);

        dx[i] = dg[i] = dcand * from_h * r * (1 - r);
        dx[n + i] = dg[n + i] = dh * (before[i] - cand) * z * (1 - z);
        dx[2 * n + i] = dcand;
        dg[2 * n + i] = dcand * r;
        u->dh[i] = dh * z;
    }
}

static void backward_row(const struct cell *u, uint32_t row)
{
    const uint64_t at = (uint64_t)u->s->first_row + row;
    const size_t wide = (size_t)u->gates * u->n;
    float *dg = train_row(u->dhidden, at);
    float *dx = u->it->dst[0].p ? train_row(u->it->dst[0], at) : dg;

    if (u->it->in->a.cell.kind == CELL_LSTM) {
        lstm_row(u, row, train_row(u->it->dy, at), dg);
        if (dx != dg)
            memcpy(dx, dg, wide * sizeof *dx);
    } else if (dx == dg) {
        gru_row(u, row, train_row(u->it->dy, at), u->gate + (size_t)row * 4 * u->n, dg);
    } else {
        gru_row(u, row, train_row(u->it->dy, at), dx, dg);
    }
    for (size_t i = 0; row && i < wide; i++)
        u->t->x->k.axpy(u->dh, u->w + i * u->n, dg[i], u->n);
}

void train_cell(struct train *t, const struct train_item *it, uint32_t stream, float *scratch)
{
    const struct instr *in = it->in;
    const uint32_t n = in->a.cell.n_hidden;
    struct cell u = { .t = t, .it = it, .s = &t->streams[stream], .w = t->x->vector[in->w[0]],
                      .bias = t->x->vector[in->w[1]], .x = train_value(t, in->src[0]),
                      .y = train_value(t, in->dst[0]), .dhidden = train_extra(t, it), .n = n,
                      .gates = in->a.cell.kind == CELL_LSTM ? 4 : 3 };

    u.gate = scratch;
    u.c = u.gate + (size_t)t->limits.max_rows * 4 * n;
    u.dh = u.c + (size_t)t->limits.max_rows * n;
    u.dc = u.dh + n;
    u.zero = u.dc + n;
    memset(u.dh, 0, 3 * (size_t)n * sizeof *u.dh);
    for (uint32_t row = 0; row < u.s->n_rows; row++)
        forward_row(&u, row);
    for (uint32_t row = u.s->n_rows; row-- > 0;)
        backward_row(&u, row);
}
