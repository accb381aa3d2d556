/* exec_scan.c: recurrences of the CPU executor: short convolutions, selective state spaces, delta
 * rule, linear attention, RWKV-7, token shift, LSTM and GRU (see program.h). A task is a block of columns or heads of one stream
 * and walks its rows in order; the state is in f32 after every row and all sums are in LANES
 * partial sums, so neither the cut into steps nor the number of workers changes a bit. */
#include <math.h>
#include <string.h>

#include "chips/cpu/exec_internal.h"

#define LANES 16u
#define BLOCK_COLUMNS 64u   /* of a task: about as many columns of state */

_Static_assert(MATMUL_SCRATCH >= 65536 * sizeof(float), "decays of one head fit the scratch");

/* One task. */
struct scan {
    struct cpu_exec *x;
    const struct item *it;
    const struct stream *s;
    float   *state;         /* of the whole instruction */
    float   *scratch;
    uint32_t first, last;   /* columns or heads */
};

static const float *src_row(const struct scan *t, int i, uint32_t row)
{
    return t->it->src[i] + (size_t)(t->s->first_row + row) * t->it->src_stride[i];
}

static float *dst_row(const struct scan *t, uint32_t row)
{
    return t->it->dst + (size_t)(t->s->first_row + row) * t->it->dst_stride;
}

static float sum_lanes(const float acc[LANES])
{
    float a[LANES];

    memcpy(a, acc, sizeof a);
    for (uint32_t n = LANES / 2; n > 0; n /= 2)
        for (uint32_t l = 0; l < n; l++)
            a[l] += a[l + n];
    return a[0];
}

/* ---- short convolution ---- */

/* Row `row` as the kernel sees it; rows in front of the step lie in the state. */
static const float *conv_row(const struct scan *t, int64_t row, uint32_t width)
{
    const int64_t tail = t->it->in->a.conv.n_taps - 1;

    return row < 0 ? t->state + (row + tail) * width : src_row(t, 0, (uint32_t)row);
}

static void scan_conv(const struct scan *t)
{
    const struct instr *in = t->it->in;
    const uint32_t width = prog_value(t->x->p, in->dst[0])->width, taps = in->a.conv.n_taps;
    const float *kernel = t->x->vector[in->w[0]], *bias = t->x->vector[in->w[1]];
    const size_t bytes = (t->last - t->first) * sizeof(float);

    for (uint32_t row = 0; row < t->s->n_rows; row++) {
        float *y = dst_row(t, row);

        if (bias)
            memcpy(y + t->first, bias + t->first, bytes);
        else
            memset(y + t->first, 0, bytes);
        for (uint32_t j = 0; j < taps; j++) {
            const float *u = conv_row(t, (int64_t)row + j - (taps - 1), width);

            for (uint32_t c = t->first; c < t->last; c++)
                y[c] += kernel[(size_t)c * taps + j] * u[c];
        }
    }
    for (uint32_t j = 0; j + 1 < taps; j++)     /* ascending: reads stay ahead of writes */
        memmove(t->state + (size_t)j * width + t->first,
                conv_row(t, (int64_t)t->s->n_rows + j - (taps - 1), width) + t->first, bytes);
}

/* ---- selective state space ---- */

/* S = keep S + b u; the sum of c S. keep: one number, or one per state. */
static float ssm_column(float *s, const float *keep, bool per_state, const float *b, float u,
                        const float *c, uint32_t n)
{
    float acc[LANES] = { 0 };
    uint32_t k = 0;

    for (; k + LANES <= n; k += LANES)
        for (uint32_t l = 0; l < LANES; l++) {
            const float v = s[k + l] * keep[per_state ? k + l : 0] + b[k + l] * u;

            s[k + l] = v;
            acc[l] += v * c[k + l];
        }
    for (uint32_t l = 0; k < n; k++, l++) {
        s[k] = s[k] * keep[per_state ? k : 0] + b[k] * u;
        acc[l] += s[k] * c[k];
    }
    return sum_lanes(acc);
}

static void ssm_head(const struct scan *t, uint32_t row, uint32_t h)
{
    const struct instr *in = t->it->in;
    const struct ssm_args *a = &in->a.ssm;
    const float *decay = t->x->vector[in->w[0]], *skip = t->x->vector[in->w[1]];
    const bool per_state =
        tensor_elems(&prog_weight_at(t->x->p, in->w[0])->t) != (int64_t)a->n_heads;
    const size_t group = (size_t)(h / (a->n_heads / a->n_groups)) * a->d_state;
    const float *u = src_row(t, 0, row), dt = src_row(t, 1, row)[h];
    const float d = dt > 20 ? dt : log1pf(expf(dt));
    float *y = dst_row(t, row), *keep = t->scratch;

    if (per_state) {
        t->x->k.affine(keep, decay + (size_t)h * a->d_state, d, 0.0f, a->d_state);
        t->x->k.unary(keep, keep, a->d_state, &(struct act_args){ .act = ACT_EXP });
    } else {
        keep[0] = expf(d * decay[h]);
    }
    for (uint32_t i = h * a->head_dim; i < (h + 1) * a->head_dim; i++) {
        y[i] = ssm_column(t->state + (size_t)i * a->d_state, keep, per_state,
                          src_row(t, 2, row) + group, d * u[i], src_row(t, 3, row) + group,
                          a->d_state);
        if (skip)
            y[i] += skip[h] * u[i];
    }
}

/* ---- gated delta rule ---- */

/* S = keep S, and the sum of k S. */
static float delta_decay(float *s, const float *keep, bool per_key, const float *k, uint32_t n)
{
    float acc[LANES] = { 0 };
    uint32_t j = 0;

    for (; j + LANES <= n; j += LANES)
        for (uint32_t l = 0; l < LANES; l++) {
            s[j + l] *= keep[per_key ? j + l : 0];
            acc[l] += s[j + l] * k[j + l];
        }
    for (uint32_t l = 0; j < n; j++, l++) {
        s[j] *= keep[per_key ? j : 0];
        acc[l] += s[j] * k[j];
    }
    return sum_lanes(acc);
}

/* S += k change, and the sum of q S. */
static float delta_write(float *s, const float *k, float change, const float *q, uint32_t n)
{
    float acc[LANES] = { 0 };
    uint32_t j = 0;

    for (; j + LANES <= n; j += LANES)
        for (uint32_t l = 0; l < LANES; l++) {
            s[j + l] += k[j + l] * change;
            acc[l] += s[j + l] * q[j + l];
        }
    for (uint32_t l = 0; j < n; j++, l++) {
        s[j] += k[j] * change;
        acc[l] += s[j] * q[j];
    }
    return sum_lanes(acc);
}

static void delta_head(const struct scan *t, uint32_t row, uint32_t h)
{
    const struct instr *in = t->it->in;
    const struct delta_args *a = &in->a.delta;
    const bool per_key = prog_value(t->x->p, in->src[3])->width != a->n_heads;
    const size_t key = (size_t)(a->tiled ? h % a->n_k_heads : h / (a->n_heads / a->n_k_heads)) *
                       a->k_dim;
    const float *q = src_row(t, 0, row) + key, *k = src_row(t, 1, row) + key;
    const float *v = src_row(t, 2, row), beta = src_row(t, 4, row)[h];
    float *y = dst_row(t, row), *keep = t->scratch;

    for (uint32_t j = 0; j < (per_key ? a->k_dim : 1); j++)
        keep[j] = expf(src_row(t, 3, row)[(per_key ? (size_t)h * a->k_dim : h) + j]);
    for (uint32_t i = h * a->v_dim; i < (h + 1) * a->v_dim; i++) {
        float *s = t->state + (size_t)i * a->k_dim;
        const float change = beta * (v[i] - delta_decay(s, keep, per_key, k, a->k_dim));

        y[i] = a->scale * delta_write(s, k, change, q, a->k_dim);
    }
}

/* ---- linear attention, RWKV-7, token shift ---- */

static void linear_attention_head(const struct scan *t, uint32_t row, uint32_t h)
{
    const struct linear_attn_args *a = &t->it->in->a.linattn;
    const float keep = (float)exp(-a->decay * prog_linear_slope(h, a->n_heads));
    const float *q = src_row(t, 0, row) + (size_t)h * a->k_dim;
    const float *k = src_row(t, 1, row) + (size_t)h * a->k_dim, *v = src_row(t, 2, row);
    float *y = dst_row(t, row);

    for (uint32_t i = h * a->v_dim; i < (h + 1) * a->v_dim; i++)
        y[i] = a->scale * ssm_column(t->state + (size_t)i * a->k_dim, &keep, false, k, v[i], q,
                                     a->k_dim);
}

/* S = keep S + b held + k v; the sum of r S. */
static float wkv_column(float *s, const float *keep, const float *b, float held, const float *k,
                        float v, const float *r, uint32_t n)
{
    float acc[LANES] = { 0 };
    uint32_t j = 0;

    for (; j + LANES <= n; j += LANES)
        for (uint32_t l = 0; l < LANES; l++) {
            s[j + l] = s[j + l] * keep[j + l] + b[j + l] * held + k[j + l] * v;
            acc[l] += s[j + l] * r[j + l];
        }
    for (uint32_t l = 0; j < n; j++, l++) {
        s[j] = s[j] * keep[j] + b[j] * held + k[j] * v;
        acc[l] += s[j] * r[j];
    }
    return sum_lanes(acc);
}

static float dot_lanes(const float *x, const float *y, uint32_t n)
{
    float acc[LANES] = { 0 };
    uint32_t j = 0;

    for (; j + LANES <= n; j += LANES)
        for (uint32_t l = 0; l < LANES; l++)
            acc[l] += x[j + l] * y[j + l];
    for (uint32_t l = 0; j < n; j++, l++)
        acc[l] += x[j] * y[j];
    return sum_lanes(acc);
}

static void wkv_head(const struct scan *t, uint32_t row, uint32_t h)
{
    const uint32_t n = t->it->in->a.wkv.head_dim;
    const size_t at = (size_t)h * n;
    const float *r = src_row(t, 0, row) + at, *k = src_row(t, 2, row) + at;
    const float *v = src_row(t, 3, row) + at, *a = src_row(t, 4, row) + at;
    const float *b = src_row(t, 5, row) + at;
    float *y = dst_row(t, row) + at, *keep = t->scratch;

    t->x->k.unary(keep, src_row(t, 1, row) + at, n, &(struct act_args){ .act = ACT_EXP });
    for (uint32_t i = 0; i < n; i++) {
        float *s = t->state + (at + i) * n;

        y[i] = wkv_column(s, keep, b, dot_lanes(s, a, n), k, v[i], r, n);
    }
}

static void scan_shift(const struct scan *t)
{
    const size_t bytes = (t->last - t->first) * sizeof(float);

    for (uint32_t row = 0; row < t->s->n_rows; row++)
        memcpy(dst_row(t, row) + t->first,
               (row ? src_row(t, 0, row - 1) : t->state) + t->first, bytes);
    memcpy(t->state + t->first, src_row(t, 0, t->s->n_rows - 1) + t->first, bytes);
}

/* ---- cells: a task walks a whole stream, since every unit reads all of the row before ---- */

static void cell_gates(const struct scan *t, float *gate, const float *h)
{
    const struct instr *in = t->it->in;
    const uint32_t n = in->a.cell.n_hidden, gates = in->a.cell.kind == CELL_LSTM ? 4 : 3;
    const float *w = t->x->vector[in->w[0]], *bias = t->x->vector[in->w[1]];

    for (uint32_t i = 0; i < gates * n; i++)
        gate[i] = dot_lanes(w + (size_t)i * n, h, n) + (bias ? bias[i] : 0);
}

static void activate(const struct scan *t, float *x, uint32_t n, enum act act)
{
    t->x->k.unary(x, x, n, &(struct act_args){ .act = act });
}

/* gate: [4][n] sums of both parts; c: [n]. */
static void lstm_row(const struct scan *t, float *gate, float *h, float *c, uint32_t n)
{
    activate(t, gate, 2 * n, ACT_SIGMOID);
    activate(t, gate + 2 * n, n, ACT_TANH);
    activate(t, gate + 3 * n, n, ACT_SIGMOID);
    for (uint32_t i = 0; i < n; i++) {
        c[i] = gate[n + i] * c[i] + gate[i] * gate[2 * n + i];
        h[i] = c[i];
    }
    activate(t, h, n, ACT_TANH);
    for (uint32_t i = 0; i < n; i++)
        h[i] *= gate[3 * n + i];
}

/* gate: [3][n] from h; x: [3][n] from the input. */
static void gru_row(const struct scan *t, float *gate, const float *x, float *h, uint32_t n)
{
    float *candidate = gate + 2 * n;

    for (uint32_t i = 0; i < 2 * n; i++)
        gate[i] += x[i];
    activate(t, gate, 2 * n, ACT_SIGMOID);
    for (uint32_t i = 0; i < n; i++)
        candidate[i] = x[2 * n + i] + gate[i] * candidate[i];
    activate(t, candidate, n, ACT_TANH);
    for (uint32_t i = 0; i < n; i++)
        h[i] = (1 - gate[n + i]) * candidate[i] + gate[n + i] * h[i];
}

static void scan_cell(const struct scan *t)
{
    const struct cell_args *a = &t->it->in->a.cell;
    const uint32_t n = a->n_hidden;
    float *gate = t->scratch, *h = t->state;

    for (uint32_t row = 0; row < t->s->n_rows; row++) {
        const float *x = src_row(t, 0, row);

        cell_gates(t, gate, h);
        if (a->kind == CELL_LSTM) {
            for (uint32_t i = 0; i < 4 * n; i++)
                gate[i] += x[i];
            lstm_row(t, gate, h, h + n, n);
        } else {
            gru_row(t, gate, x, h, n);
        }
        memcpy(dst_row(t, row), h, n * sizeof *h);
    }
}

/* ---- tasks ---- */

/* What is cut into tasks (columns, or heads) and how much of it makes one. */
static uint32_t scan_units(const struct program *p, const struct instr *in, uint32_t *per_task)
{
    uint32_t columns = 1, units;

    switch (in->op) {
    case OP_SSM_SCAN:
        columns = in->a.ssm.head_dim;
        units = in->a.ssm.n_heads;
        break;
    case OP_DELTA_RULE:
        columns = in->a.delta.v_dim;
        units = in->a.delta.n_heads;
        break;
    case OP_LINEAR_ATTENTION:
        columns = in->a.linattn.v_dim;
        units = in->a.linattn.n_heads;
        break;
    case OP_WKV:
        columns = in->a.wkv.head_dim;
        units = in->a.wkv.n_heads;
        break;
    case OP_CELL:
        units = 1;
        break;
    default:
        units = prog_value(p, in->dst[0])->width;
    }
    *per_task = columns < BLOCK_COLUMNS ? BLOCK_COLUMNS / columns : 1;
    return units;
}

static void each_head(const struct scan *t, void (*fn)(const struct scan *, uint32_t, uint32_t))
{
    for (uint32_t row = 0; row < t->s->n_rows; row++)
        for (uint32_t h = t->first; h < t->last; h++)
            fn(t, row, h);
}

static void run_task(const struct scan *t)
{
    switch (t->it->in->op) {
    case OP_SHORT_CONV:       scan_conv(t); break;
    case OP_SSM_SCAN:         each_head(t, ssm_head); break;
    case OP_DELTA_RULE:       each_head(t, delta_head); break;
    case OP_LINEAR_ATTENTION: each_head(t, linear_attention_head); break;
    case OP_WKV:              each_head(t, wkv_head); break;
    case OP_SHIFT:            scan_shift(t); break;
    case OP_CELL:             scan_cell(t); break;
    default:                  CHECK(!"scan without a kernel");
    }
}

/* Bytes of a worker's scratch that a scan wants. */
uint64_t exec_scan_scratch(const struct instr *in)
{
    return in->op == OP_CELL ? 4 * (uint64_t)in->a.cell.n_hidden * sizeof(float) : 0;
}

void exec_scan(struct cpu_exec *x, const struct phase *ph, void *scratch)
{
    const struct item *it = &x->s.items[ph->first];
    const uint64_t first = prog_state_at(x->p, it->in->state)->first;
    uint32_t per_task;
    const uint32_t units = scan_units(x->p, it->in, &per_task);
    const size_t blocks = (units + per_task - 1) / per_task;
    size_t task;

    while ((task = team_next(x->team)) < blocks * x->b->n_streams) {
        const struct stream *s = &x->b->streams[task / blocks];
        const uint32_t at = (uint32_t)(task % blocks) * per_task;
        const struct scan t = {
            .x = x, .it = it, .s = s, .state = s->fixed + first, .scratch = scratch,
            .first = at, .last = units - at < per_task ? units : at + per_task,
        };

        run_task(&t);
    }
}
