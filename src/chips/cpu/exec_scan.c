/* exec_scan.c: recurrences of the CPU executor: short convolutions, selective state spaces, delta
 * rule, linear attention, RWKV-7, token shift, LSTM and GRU (see program.h). A task is a block of
 * columns or heads of one stream. It takes the stream's rows in runs: what all columns of a head
 * share (decays, exponentials) is made once per run, then each column of state goes over the rows
 * of the run in registers (scan.h). The state is f32 after every row and sums have a fixed
 * order, so neither the cut into steps and runs nor the number of workers changes a bit. */
#include <math.h>
#include <string.h>

#include "chips/cpu/exec_internal.h"
#include "chips/cpu/features.h"
#include "chips/cpu/scan.h"

#define BLOCK_COLUMNS 64u       /* of a task: about as many columns of state */
#define RUN 64u                 /* rows of a run, fewer where decays are wide */
#define KEEP_FLOATS 32768u      /* of a run's decays */

const struct scan_kernels *scan_kernels_of(uint32_t mask)
{
#if defined(__x86_64__)
    if (mask & CPU_AVX512)
        return &scan_avx512;
    if (mask & CPU_AVX2)
        return &scan_avx2;
#endif
    (void)mask;
    return &scan_ref;
}

/* One task. */
struct scan {
    struct cpu_exec *x;
    const struct scan_kernels *k;
    const struct item *it;
    const struct stream *s;
    float   *state;         /* of the whole instruction */
    float   *scratch;
    uint32_t first, last;   /* columns or heads */
};

/* Work space of a run, in the worker's scratch. */
struct run {
    float *v, *beta, *y;    /* [RUN] */
    float *keep;            /* [rows] or [rows][n] */
    uint32_t row, n;        /* its first row and how many */
};

static const float *src_row(const struct scan *t, int i, uint32_t row)
{
    return t->it->src[i] + (size_t)(t->s->first_row + row) * t->it->src_stride[i];
}

static float *dst_row(const struct scan *t, uint32_t row)
{
    return t->it->dst + (size_t)(t->s->first_row + row) * t->it->dst_stride;
}

/* The next run of at most RUN rows whose decays of `width` each fit; false after the last. */
static bool next_run(const struct scan *t, struct run *r, uint32_t width)
{
    const uint32_t fit = KEEP_FLOATS / width, most = fit < 1 ? 1 : fit < RUN ? fit : RUN;

    if (!r->v) {
        r->v = t->scratch;
        r->beta = r->v + RUN;
        r->y = r->beta + RUN;
        r->keep = r->y + RUN;
    } else {
        r->row += r->n;
    }
    r->n = t->s->n_rows - r->row < most ? t->s->n_rows - r->row : most;
    return r->n > 0;
}

static void activate(const struct scan *t, float *x, size_t n, enum act act)
{
    t->x->k.unary(x, x, n, &(struct act_args){ .act = act });
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
    const uint32_t n = t->last - t->first;
    const float *kernel = t->x->vector[in->w[0]], *bias = t->x->vector[in->w[1]], *u[256];

    for (uint32_t j = 0; j < taps; j++)         /* taps outermost, so that columns lie together */
        for (uint32_t c = 0; c < n; c++)
            t->scratch[(size_t)j * n + c] = kernel[(size_t)(t->first + c) * taps + j];
    for (uint32_t row = 0; row < t->s->n_rows; row++) {
        for (uint32_t j = 0; j < taps; j++)
            u[j] = conv_row(t, (int64_t)row + j - (taps - 1), width) + t->first;
        t->k->conv(dst_row(t, row) + t->first, bias ? bias + t->first : NULL, t->scratch, u, taps,
                   n);
    }
    for (uint32_t j = 0; j + 1 < taps; j++)     /* ascending: reads stay ahead of writes */
        memmove(t->state + (size_t)j * width + t->first,
                conv_row(t, (int64_t)t->s->n_rows + j - (taps - 1), width) + t->first,
                n * sizeof(float));
}

/* ---- selective state space ---- */

/* beta: softplus of dt; keep: exp(dt A), one number a row or one per state. */
static void ssm_decays(const struct scan *t, const struct run *r, uint32_t h, bool per_state)
{
    const uint32_t n = per_state ? t->it->in->a.ssm.d_state : 1;
    const float *a = t->x->vector[t->it->in->w[0]] + (size_t)h * n;

    for (uint32_t i = 0; i < r->n; i++) {
        const float dt = src_row(t, 1, r->row + i)[h];

        r->beta[i] = dt > 20 ? dt : log1pf(expf(dt));
        t->x->k.affine(r->keep + (size_t)i * n, a, r->beta[i], 0.0f, n);
    }
    activate(t, r->keep, (size_t)r->n * n, ACT_EXP);
}

/* A run of one row, which is all that decoding has: columns next to each other at once. */
static void ssm_columns(const struct scan *t, const struct run *r,
                        const struct scan_rows *rows, uint32_t h)
{
    const struct ssm_args *a = &t->it->in->a.ssm;
    const float *skip = t->x->vector[t->it->in->w[1]];
    const uint32_t end = (h + 1) * a->head_dim;
    const float *x = src_row(t, 0, r->row);
    float *y = dst_row(t, r->row);

    for (uint32_t i = h * a->head_dim, n; i < end; i += n) {
        n = end - i < RUN ? end - i : RUN;
        for (uint32_t c = 0; c < n; c++)
            r->v[c] = r->beta[0] * x[i + c];
        t->k->linear_cols(t->state + (size_t)i * a->d_state, rows, n);
        for (uint32_t c = 0; c < n; c++)
            y[i + c] = r->y[c] + (skip ? skip[h] * x[i + c] : 0.0f);
    }
}

static void ssm_head(const struct scan *t, uint32_t h)
{
    const struct instr *in = t->it->in;
    const struct ssm_args *a = &in->a.ssm;
    const float *skip = t->x->vector[in->w[1]];
    const bool per_state =
        tensor_elems(&prog_weight_at(t->x->p, in->w[0])->t) != (int64_t)a->n_heads;
    const size_t group = (size_t)(h / (a->n_heads / a->n_groups)) * a->d_state;
    struct run r = { 0 };

    while (next_run(t, &r, per_state ? a->d_state : 1)) {
        const struct scan_rows rows = {
            .n_rows = r.n, .n = a->d_state, .k = src_row(t, 2, r.row) + group,
            .q = src_row(t, 3, r.row) + group, .k_stride = t->it->src_stride[2],
            .q_stride = t->it->src_stride[3], .keep = r.keep,
            .keep_stride = per_state ? a->d_state : 1, .v = r.v, .y = r.y,
        };

        ssm_decays(t, &r, h, per_state);
        if (r.n == 1 && !per_state) {
            ssm_columns(t, &r, &rows, h);
            continue;
        }
        for (uint32_t i = h * a->head_dim; i < (h + 1) * a->head_dim; i++) {
            for (uint32_t k = 0; k < r.n; k++)
                r.v[k] = r.beta[k] * src_row(t, 0, r.row + k)[i];
            (per_state ? t->k->linear_each : t->k->linear)(t->state + (size_t)i * a->d_state, &rows);
            for (uint32_t k = 0; k < r.n; k++)
                dst_row(t, r.row + k)[i] =
                    r.y[k] + (skip ? skip[h] * src_row(t, 0, r.row + k)[i] : 0.0f);
        }
    }
}

/* ---- gated delta rule ---- */

static void delta_head(const struct scan *t, uint32_t h)
{
    const struct instr *in = t->it->in;
    const struct delta_args *a = &in->a.delta;
    const bool per_key = prog_value(t->x->p, in->src[3])->width != a->n_heads;
    const uint32_t n_keep = per_key ? a->k_dim : 1;
    const size_t key = (size_t)(a->tiled ? h % a->n_k_heads : h / (a->n_heads / a->n_k_heads)) *
                       a->k_dim;
    struct run r = { 0 };

    while (next_run(t, &r, n_keep)) {
        const struct scan_rows rows = {
            .n_rows = r.n, .n = a->k_dim, .k = src_row(t, 1, r.row) + key,
            .q = src_row(t, 0, r.row) + key, .k_stride = t->it->src_stride[1],
            .q_stride = t->it->src_stride[0], .keep = r.keep, .keep_stride = n_keep, .v = r.v,
            .beta = r.beta, .y = r.y,
        };

        for (uint32_t k = 0; k < r.n; k++) {
            r.beta[k] = src_row(t, 4, r.row + k)[h];
            memcpy(r.keep + (size_t)k * n_keep, src_row(t, 3, r.row + k) + (size_t)h * n_keep,
                   n_keep * sizeof *r.keep);
        }
        activate(t, r.keep, (size_t)r.n * n_keep, ACT_EXP);
        for (uint32_t i = h * a->v_dim; i < (h + 1) * a->v_dim; i++) {
            for (uint32_t k = 0; k < r.n; k++)
                r.v[k] = src_row(t, 2, r.row + k)[i];
            (per_key ? t->k->delta_each : t->k->delta)(t->state + (size_t)i * a->k_dim, &rows);
            for (uint32_t k = 0; k < r.n; k++)
                dst_row(t, r.row + k)[i] = a->scale * r.y[k];
        }
    }
}

/* ---- linear attention, RWKV-7, token shift ---- */

static void linear_attention_head(const struct scan *t, uint32_t h)
{
    const struct linear_attn_args *a = &t->it->in->a.linattn;
    const float keep = (float)exp(-a->decay * prog_linear_slope(h, a->n_heads));
    const size_t key = (size_t)h * a->k_dim;
    struct run r = { 0 };

    while (next_run(t, &r, 1)) {
        const struct scan_rows rows = {
            .n_rows = r.n, .n = a->k_dim, .k = src_row(t, 1, r.row) + key,
            .q = src_row(t, 0, r.row) + key, .k_stride = t->it->src_stride[1],
            .q_stride = t->it->src_stride[0], .keep = &keep, .v = r.v, .y = r.y,
        };

        for (uint32_t i = h * a->v_dim; i < (h + 1) * a->v_dim; i++) {
            for (uint32_t k = 0; k < r.n; k++)
                r.v[k] = src_row(t, 2, r.row + k)[i];
            t->k->linear(t->state + (size_t)i * a->k_dim, &rows);
            for (uint32_t k = 0; k < r.n; k++)
                dst_row(t, r.row + k)[i] = a->scale * r.y[k];
        }
    }
}

/* k, a and b of a row in one piece each, so that they share a stride. */
static void wkv_head(const struct scan *t, uint32_t h)
{
    const uint32_t n = t->it->in->a.wkv.head_dim;
    const size_t at = (size_t)h * n;
    struct run r = { 0 };

    while (next_run(t, &r, 4 * n)) {
        float *k = r.keep + (size_t)r.n * n, *a = k + (size_t)r.n * n, *b = a + (size_t)r.n * n;
        const struct scan_rows rows = {
            .n_rows = r.n, .n = n, .k = k, .a = a, .b = b, .k_stride = n,
            .q = src_row(t, 0, r.row) + at, .q_stride = t->it->src_stride[0], .keep = r.keep,
            .keep_stride = n, .v = r.v, .y = r.y,
        };

        for (uint32_t i = 0; i < r.n; i++) {
            memcpy(r.keep + (size_t)i * n, src_row(t, 1, r.row + i) + at, n * sizeof(float));
            memcpy(k + (size_t)i * n, src_row(t, 2, r.row + i) + at, n * sizeof(float));
            memcpy(a + (size_t)i * n, src_row(t, 4, r.row + i) + at, n * sizeof(float));
            memcpy(b + (size_t)i * n, src_row(t, 5, r.row + i) + at, n * sizeof(float));
        }
        activate(t, r.keep, (size_t)r.n * n, ACT_EXP);
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t m = 0; m < r.n; m++)
                r.v[m] = src_row(t, 3, r.row + m)[at + i];
            t->k->wkv(t->state + (at + i) * n, &rows);
            for (uint32_t m = 0; m < r.n; m++)
                dst_row(t, r.row + m)[at + i] = r.y[m];
        }
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

    t->k->dots(gate, w, h, gates * n, n);
    for (uint32_t i = 0; bias && i < gates * n; i++)
        gate[i] += bias[i];
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

static void each_head(const struct scan *t, void (*fn)(const struct scan *, uint32_t))
{
    for (uint32_t h = t->first; h < t->last; h++)
        fn(t, h);
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
    default:                  CHECK(false && "scan without a kernel");
    }
}

/* Bytes of a worker's scratch that a scan wants: a run's work space, a block's kernel, or gates. */
uint64_t exec_scan_scratch(const struct instr *in)
{
    uint64_t wide = KEEP_FLOATS;

    if (in->op == OP_CELL)
        return 4 * (uint64_t)in->a.cell.n_hidden * sizeof(float);
    if (in->op == OP_SHORT_CONV)
        return (uint64_t)in->a.conv.n_taps * BLOCK_COLUMNS * sizeof(float);
    if (in->op == OP_SSM_SCAN && in->a.ssm.d_state > wide)
        wide = in->a.ssm.d_state;
    return (wide + 3 * RUN) * sizeof(float);
}

/* Neighbouring blocks stay with one worker, step after step where none is late: their state is
 * one stream, and what is small (convolutions) stays in that worker's caches. */
void exec_scan(struct cpu_exec *x, const struct phase *ph, unsigned worker, void *scratch)
{
    const struct item *it = &x->s.items[ph->first];
    const uint64_t first = prog_state_at(x->p, it->in->state)->first;
    const struct scan_kernels *kernels = scan_kernels_of(x->k.mask);
    uint32_t per_task;
    const uint32_t units = scan_units(x->p, it->in, &per_task);
    const size_t blocks = (units + per_task - 1) / per_task;
    size_t task;

    while ((task = team_take(x->team, worker, blocks * x->b->n_streams)) != TEAM_NONE) {
        const struct stream *s = &x->b->streams[task / blocks];
        const uint32_t at = (uint32_t)(task % blocks) * per_task;
        const struct scan t = {
            .x = x, .k = kernels, .it = it, .s = s, .state = s->fixed + first, .scratch = scratch,
            .first = at, .last = units - at < per_task ? units : at + per_task,
        };

        run_task(&t);
    }
}
