/* train_scan.c: backward of what runs over the rows of each stream: short convolutions and
 * selective state spaces; cells are in train_cell.c, other recurrences in train_recurrent.c. Tasks are streams times columns or groups of
 * heads, gradients of weights are kept per stream. States are made again, not kept: a column's
 * history fits in the cache. */
#include <math.h>
#include <string.h>

#include "chips/cpu/train_internal.h"

#define CONV_COLS 32u

struct scan {
    struct train *t;
    const struct train_item *it;
    const struct instr *in;
    const struct stream *s;
    uint32_t stream;
    float   *scratch;
};

static const float *src_row(const struct scan *c, int s, uint32_t row)
{
    return train_row(train_value(c->t, c->in->src[s]), (uint64_t)c->s->first_row + row);
}

static float *dst_row(const struct scan *c, int s, uint32_t row)
{
    return c->it->dst[s].p ? train_row(c->it->dst[s], (uint64_t)c->s->first_row + row) : NULL;
}

static const float *dy_row(const struct scan *c, uint32_t row)
{
    return train_row(c->it->dy, (uint64_t)c->s->first_row + row);
}

/* ---- short convolution ---- */

static void conv_column(const struct scan *c, uint32_t col)
{
    const uint32_t taps = c->in->a.conv.n_taps, n = c->s->n_rows;
    const float *kernel = c->t->x->vector[c->in->w[0]] + (size_t)col * taps;
    float *dkernel = train_part_of(c->t, c->it, 0, c->stream);
    float *dbias = train_part_of(c->t, c->it, 1, c->stream);

    for (uint32_t row = 0; row < n && c->it->dst[0].p; row++) {
        float sum = 0;

        for (uint32_t back = 0; back < taps && row + back < n; back++)
            sum += kernel[taps - 1 - back] * dy_row(c, row + back)[col];
        dst_row(c, 0, row)[col] = sum;
    }
    for (uint32_t j = 0; j < taps && dkernel; j++) {
        const uint32_t back = taps - 1 - j;
        float sum = 0;

        for (uint32_t row = back; row < n; row++)
            sum += dy_row(c, row)[col] * src_row(c, 0, row - back)[col];
        dkernel[(size_t)col * taps + j] = sum;
    }
    if (dbias) {
        float sum = 0;

        for (uint32_t row = 0; row < n; row++)
            sum += dy_row(c, row)[col];
        dbias[col] = sum;
    }
}

/* ---- selective state space ---- */

/* Work of one head; arrays over the rows of the stream. */
struct ssm {
    uint32_t n, d_state, n_keep;    /* n_keep: decays per row, 1 or d_state */
    float *step, *dstep;            /* [n] softplus(dt) and its gradient */
    float *keep;                    /* [n][n_keep] exp(step A) */
    float *state;                   /* [n][d_state] of the column at hand */
    float *carry;                   /* [d_state] */
    const float *a;
    float *da;
};

static uint32_t decays_per_head(const struct train *t, const struct instr *in)
{
    return tensor_elems(&prog_weight_at(t->own, in->w[0])->t) == (int64_t)in->a.ssm.n_heads
               ? 1 : in->a.ssm.d_state;
}

static void ssm_decays(const struct scan *c, const struct ssm *m, uint32_t head)
{
    for (uint32_t r = 0; r < m->n; r++) {
        const float dt = src_row(c, 1, r)[head];

        m->step[r] = dt > 20 ? dt : log1pf(expf(dt));
        m->dstep[r] = 0;
        for (uint32_t s = 0; s < m->n_keep; s++)
            m->keep[(size_t)r * m->n_keep + s] = expf(m->step[r] * m->a[s]);
    }
}

static void ssm_history(const struct scan *c, const struct ssm *m, uint32_t col, size_t group)
{
    const uint32_t d = m->d_state, each = m->n_keep > 1;

    for (uint32_t r = 0; r < m->n; r++) {
        const float *b = src_row(c, 2, r) + group, *keep = m->keep + (size_t)r * m->n_keep;
        const float *before = r ? m->state + (size_t)(r - 1) * d : m->carry;
        const float v = m->step[r] * src_row(c, 0, r)[col];
        float *s = m->state + (size_t)r * d;

        for (uint32_t i = 0; i < d; i++)
            s[i] = keep[each * i] * before[i] + v * b[i];
    }
}

/* The carry holds the gradient of the state after row r, then of the state in front of it. */
static void ssm_row(const struct scan *c, const struct ssm *m, uint32_t r, uint32_t col,
                    size_t group, float skip)
{
    const uint32_t d = m->d_state, each = m->n_keep > 1;
    const float *b = src_row(c, 2, r) + group, *q = src_row(c, 3, r) + group;
    const float *s = m->state + (size_t)r * d, *keep = m->keep + (size_t)r * m->n_keep;
    const float dy = dy_row(c, r)[col], x = src_row(c, 0, r)[col], v = m->step[r] * x;
    float *db = dst_row(c, 2, r), *dq = dst_row(c, 3, r), *dx = dst_row(c, 0, r);
    float into = 0, decay = 0;

    for (uint32_t i = 0; i < d; i++) {
        if (dq)
            dq[group + i] += s[i] * dy;
        m->carry[i] += q[i] * dy;
        into += m->carry[i] * b[i];
        if (db)
            db[group + i] += m->carry[i] * v;
    }
    for (uint32_t i = 0; i < d; i++) {
        const float k = keep[each * i];
        const float dk = r ? m->carry[i] * (s - d)[i] * k : 0.0f;

        decay += dk * m->a[each * i];
        if (m->da)
            m->da[each * i] += dk * m->step[r];
        m->carry[i] *= k;
    }
    m->dstep[r] += into * x + decay;
    if (dx)
        dx[col] = into * m->step[r] + skip * dy;
}

static void ssm_head(const struct scan *c, uint32_t head)
{
    const struct ssm_args *a = &c->in->a.ssm;
    const float *skips = c->t->x->vector[c->in->w[1]];
    float *da = train_part_of(c->t, c->it, 0, c->stream);
    float *dskip = train_part_of(c->t, c->it, 1, c->stream);
    const size_t group = (size_t)(head / (a->n_heads / a->n_groups)) * a->d_state;
    struct ssm m = { .n = c->s->n_rows, .d_state = a->d_state, .n_keep = decays_per_head(c->t, c->in) };

    m.step = c->scratch;
    m.dstep = m.step + m.n;
    m.keep = m.dstep + m.n;
    m.state = m.keep + (size_t)m.n * m.n_keep;
    m.carry = m.state + (size_t)m.n * m.d_state;
    m.a = c->t->x->vector[c->in->w[0]] + (size_t)head * m.n_keep;
    m.da = da ? da + (size_t)head * m.n_keep : NULL;
    if (da)
        memset(m.da, 0, m.n_keep * sizeof *m.da);
    if (dskip)
        dskip[head] = 0;
    ssm_decays(c, &m, head);
    for (uint32_t col = head * a->head_dim; col < (head + 1) * a->head_dim; col++) {
        memset(m.carry, 0, m.d_state * sizeof *m.carry);
        ssm_history(c, &m, col, group);
        for (uint32_t r = m.n; r-- > 0;) {
            ssm_row(c, &m, r, col, group, skips ? skips[head] : 0.0f);
            if (dskip)
                dskip[head] += dy_row(c, r)[col] * src_row(c, 0, r)[col];
        }
    }
    for (uint32_t r = 0; r < m.n && c->it->dst[1].p; r++)
        dst_row(c, 1, r)[head] = m.dstep[r] / (1 + expf(-src_row(c, 1, r)[head]));
}

/* The heads of a group share B and C: their gradients are summed head after head. */
static void ssm_group(const struct scan *c, uint32_t group)
{
    const struct ssm_args *a = &c->in->a.ssm;
    const uint32_t heads = a->n_heads / a->n_groups;

    for (int s = 2; s < 4; s++)
        for (uint32_t r = 0; r < c->s->n_rows && c->it->dst[s].p; r++)
            memset(dst_row(c, s, r) + (size_t)group * a->d_state, 0, a->d_state * sizeof(float));
    for (uint32_t h = 0; h < heads; h++)
        ssm_head(c, group * heads + h);
}

/* ---- tasks ---- */

uint64_t train_scan_scratch(const struct train *t, const struct instr *in)
{
    if (in->op == OP_CELL)
        return train_cell_scratch(t, in);
    if (in->op == OP_SHORT_CONV)
        return 0;
    if (in->op != OP_SSM_SCAN)
        return train_recurrent_scratch(t, in);
    return ((uint64_t)t->limits.max_rows * (2 + decays_per_head(t, in) + in->a.ssm.d_state) +
            in->a.ssm.d_state) * sizeof(float);
}

static uint32_t cuts_of(const struct train *t, const struct instr *in)
{
    if (in->op == OP_SHORT_CONV)
        return (train_width(t, in->dst[0]) + CONV_COLS - 1) / CONV_COLS;
    return in->op == OP_SSM_SCAN ? in->a.ssm.n_groups
         : in->op == OP_CELL     ? 1 : train_recurrent_cuts(in);
}

void train_scan(struct train *t, const struct train_phase *ph, void *scratch)
{
    const struct train_item *it = &t->items[ph->first];
    const uint32_t cuts = cuts_of(t, it->in), width = train_width(t, it->in->dst[0]);

    for (size_t task; (task = team_next(t->team)) < (size_t)cuts * t->batch.n_streams;) {
        const uint32_t stream = (uint32_t)(task / cuts), cut = (uint32_t)(task % cuts);
        const struct scan c = { .t = t, .it = it, .in = it->in, .s = &t->streams[stream],
                                .stream = stream, .scratch = scratch };

        if (it->in->op == OP_CELL)
            train_cell(t, it, stream, scratch);
        else if (it->in->op == OP_SSM_SCAN)
            ssm_group(&c, cut);
        else if (it->in->op != OP_SHORT_CONV)
            train_recurrent(t, it, stream, cut, scratch);
        else
            for (uint32_t col = cut * CONV_COLS; col < width && col < (cut + 1) * CONV_COLS; col++)
                conv_column(&c, col);
    }
}
