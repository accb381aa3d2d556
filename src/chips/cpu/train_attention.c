/* train_attention.c: backward of attention. A task is one key/value head of one stream and walks
 * its queries upward in blocks, so gradients of keys and values have one order of additions. The
 * scores of a query are computed again from the values that forward kept (keys and values rounded as the
 * cache rounds them); with p the weights, o the result:
 *   dV += p dO;  dP = dO V^T;  dS = p (dP - sum of p dP);  dQ = dS K;  dK += dS^T Q.
 * With dropout the same mask falls on p where it meets V, and on dP.
 * [Dao et al. 2022, arXiv 2205.14135, section 3.1] */
#include <math.h>
#include <string.h>

#include "chips/cpu/train_internal.h"
#include "chips/relative.h"

#define QUERIES 32u         /* of a block: rows of one head */

struct attn {
    struct train *t;
    const struct train_item *it;
    const struct attn_args *a;
    const struct stream *s;
    struct train_place q, k, v, dq, dk, dv;
    uint32_t padded;                /* rows of the stream, rounded up: columns of what follows */
    float   *keys, *values;         /* [n_rows][k_dim], [n_rows][v_dim] as the cache holds them */
    float   *keys_t, *values_t;     /* [k_dim][padded], times the scale; [v_dim][padded] */
    float   *dkeys, *dvalues;
    float   *p, *dp, *cap;          /* [QUERIES][padded]; cap: slopes of the soft cap */
    const float *slopes, *sinks;
    float   *dsinks;
    const float *relative;
    float   *drelative;             /* [n_buckets][n_heads] */
    struct drop drop;               /* of weights, as in forward */
};

static uint64_t padded_rows(uint64_t n)
{
    return (n + 15) & ~UINT64_C(15);
}

uint64_t train_attention_scratch(const struct train *t, const struct instr *in)
{
    const struct attn_args *a = &in->a.attn;

    return padded_rows(t->limits.max_rows) *
           (3 * ((uint64_t)a->k_dim + a->v_dim) + 3 * QUERIES) * sizeof(float);
}

static void as_cached(const struct train *t, float *x, uint32_t n)
{
    if (t->o.kv == DTYPE_F16)
        t->k.round_f16(x, n);
    for (uint32_t i = 0; t->o.kv == DTYPE_BF16 && i < n; i++)
        x[i] = bf16_to_f32(f32_to_bf16(x[i]));
}

/* One head's rows of keys or values, as they are and turned. */
static void load_part(const struct attn *w, struct train_place from, size_t head_at, uint32_t dim,
                      float scale, float *rows, float *turned)
{
    for (uint32_t j = 0; j < w->s->n_rows; j++) {
        const float *x = train_row(from, w->s->first_row + j) + head_at;
        float *y = rows + (size_t)j * dim;

        memcpy(y, x, dim * sizeof *y);
        as_cached(w->t, y, dim);
    }
    for (uint32_t d = 0; d < dim; d++)
        for (uint32_t j = 0; j < w->s->n_rows; j++)
            turned[(size_t)d * w->padded + j] = rows[(size_t)j * dim + d] * scale;
}

static void load(const struct attn *w, uint32_t kv_head)
{
    const struct attn_args *a = w->a;

    load_part(w, w->k, (size_t)kv_head * a->k_dim, a->k_dim, a->scale, w->keys, w->keys_t);
    load_part(w, w->v, (size_t)kv_head * a->v_dim, a->v_dim, 1.0f, w->values, w->values_t);
    memset(w->dkeys, 0, (size_t)w->s->n_rows * a->k_dim * sizeof(float));
    memset(w->dvalues, 0, (size_t)w->s->n_rows * a->v_dim * sizeof(float));
}

/* A block of queries of one head: rows [row, row + n), keys [lo, hi) for all of them together. */
struct block { uint32_t row, n, head, lo, hi; };

static struct block block_at(const struct attn *w, uint32_t row, uint32_t head)
{
    struct block b = { .row = row, .n = w->s->n_rows - row, .head = head, .lo = UINT32_MAX };

    b.n = b.n < QUERIES ? b.n : QUERIES;
    for (uint32_t r = row; r < row + b.n; r++) {
        uint32_t lo, hi;

        attn_span(w->a, r, w->s->n_rows, &lo, &hi);
        b.lo = lo < b.lo ? lo : b.lo;
        b.hi = hi > b.hi ? hi : b.hi;
    }
    return b;
}

/* Scores of a row to weights; zeros where the row doesn't look. */
static float row_weights(const struct attn *w, const struct block *b, uint32_t i)
{
    const struct attn_args *a = w->a;
    float *p = w->p + (size_t)i * w->padded, *cap = w->cap + (size_t)i * w->padded, left;
    uint32_t lo, hi;

    attn_span(a, b->row + i, w->s->n_rows, &lo, &hi);
    if (a->softcap > 0) {
        const struct act_args act = { .act = ACT_SOFTCAP, .param = a->softcap };

        w->t->x->k.unary(p + lo, p + lo, hi - lo, &act);
        for (uint32_t j = lo; j < hi; j++)
            cap[j] = 1 - p[j] / a->softcap * (p[j] / a->softcap);
    }
    for (uint32_t j = lo; w->slopes && j < hi; j++)
        p[j] -= w->slopes[b->head] * fabsf((float)(b->row + i) - (float)j);
    for (uint32_t j = lo; w->relative && j < hi; j++)
        p[j] += *relative_biases(w->relative, b->head, a->max_distance,
                                 (int64_t)j - (b->row + i));
    left = w->t->k.weights(p + lo, hi - lo, w->sinks ? w->sinks[b->head] : -INFINITY);
    memset(p + b->lo, 0, (lo - b->lo) * sizeof *p);
    memset(p + hi, 0, (b->hi - hi) * sizeof *p);
    return left;
}

static void row_scores(const struct attn *w, const struct block *b, uint32_t i, float sink)
{
    const size_t at = (size_t)i * w->padded;
    uint32_t lo, hi;
    float mean;

    attn_span(w->a, b->row + i, w->s->n_rows, &lo, &hi);
    mean = w->t->k.scores_back(w->dp + at + lo, w->p + at + lo, hi - lo, w->a->scale);
    for (uint32_t j = lo; w->drelative && j < hi; j++)      /* added behind scale and cap */
        w->drelative[relative_bucket((int64_t)j - (b->row + i), w->a->n_buckets, w->a->max_distance) *
                     w->a->n_heads + b->head] += w->dp[at + j] / w->a->scale;
    if (w->a->softcap > 0)
        w->t->x->k.mul(w->dp + at + lo, w->dp + at + lo, w->cap + at + lo, hi - lo);
    memset(w->dp + at + b->lo, 0, (lo - b->lo) * sizeof(float));
    memset(w->dp + at + hi, 0, (b->hi - hi) * sizeof(float));
    if (w->dsinks)
        w->dsinks[b->head] -= sink * mean;
}

/* The mask of a row on its weights or their gradients. */
static void mask_row(const struct attn *w, const struct block *b, uint32_t i, float *x)
{
    const uint64_t row = (uint64_t)w->s->first_row + b->row + i;

    drop_cols(&w->drop, x + (size_t)i * w->padded + b->lo, row * w->a->n_heads + b->head, b->lo,
              b->hi - b->lo);
}

static void run_block(const struct attn *w, const struct block *b)
{
    const struct attn_args *a = w->a;
    const uint64_t at = (uint64_t)w->s->first_row + b->row;
    const uint32_t n = b->hi - b->lo;
    const struct train_place dout = w->it->dy;
    const float *q = train_row(w->q, at) + (size_t)b->head * a->k_dim;
    const float *dy = train_row(dout, at) + (size_t)b->head * a->v_dim;
    const struct gemm_args scores = {
        .c = w->p + b->lo, .c_stride = w->padded, .a = q, .a_m = w->q.stride, .a_k = 1,
        .b = w->keys_t + b->lo, .b_stride = w->padded, .m = b->n, .n = n, .k = a->k_dim };
    const struct gemm_args dweights = {
        .c = w->dp + b->lo, .c_stride = w->padded, .a = dy, .a_m = dout.stride, .a_k = 1,
        .b = w->values_t + b->lo, .b_stride = w->padded, .m = b->n, .n = n, .k = a->v_dim };
    const struct gemm_args dvalues = {
        .c = w->dvalues + (size_t)b->lo * a->v_dim, .c_stride = a->v_dim, .a = w->p + b->lo,
        .a_m = 1, .a_k = w->padded, .b = dy, .b_stride = dout.stride, .m = n, .n = a->v_dim,
        .k = b->n, .add = true };
    const struct gemm_args dkeys = {
        .c = w->dkeys + (size_t)b->lo * a->k_dim, .c_stride = a->k_dim, .a = w->dp + b->lo,
        .a_m = 1, .a_k = w->padded, .b = q, .b_stride = w->q.stride, .m = n, .n = a->k_dim,
        .k = b->n, .add = true };
    float sink[QUERIES];

    w->t->k.gemm(&scores);
    for (uint32_t i = 0; i < b->n; i++)
        sink[i] = row_weights(w, b, i);
    w->t->k.gemm(&dweights);
    for (uint32_t i = 0; i < b->n; i++) {
        if (w->drop.share > 0.0f)
            mask_row(w, b, i, w->dp);
        row_scores(w, b, i, sink[i]);
        if (w->drop.share > 0.0f)
            mask_row(w, b, i, w->p);
    }
    w->t->k.gemm(&dvalues);
    w->t->k.gemm(&dkeys);
    if (w->dq.p) {
        const struct gemm_args dq = {
            .c = train_row(w->dq, at) + (size_t)b->head * a->k_dim, .c_stride = w->dq.stride,
            .a = w->dp + b->lo, .a_m = w->padded, .a_k = 1,
            .b = w->keys + (size_t)b->lo * a->k_dim, .b_stride = a->k_dim, .m = b->n,
            .n = a->k_dim, .k = n };

        w->t->k.gemm(&dq);
    }
}

static void store(const struct attn *w, uint32_t kv_head)
{
    const struct attn_args *a = w->a;

    for (uint32_t j = 0; j < w->s->n_rows; j++) {
        const uint64_t at = (uint64_t)w->s->first_row + j;

        if (w->dk.p)
            memcpy(train_row(w->dk, at) + (size_t)kv_head * a->k_dim,
                   w->dkeys + (size_t)j * a->k_dim, a->k_dim * sizeof(float));
        if (w->dv.p)
            memcpy(train_row(w->dv, at) + (size_t)kv_head * a->v_dim,
                   w->dvalues + (size_t)j * a->v_dim, a->v_dim * sizeof(float));
    }
}

static void run_head(struct attn *w, uint32_t kv_head, float *scratch)
{
    const struct attn_args *a = w->a;
    const uint32_t group = a->n_heads / a->n_kv_heads;
    const size_t n = (size_t)padded_rows(w->s->n_rows);

    w->padded = (uint32_t)n;
    w->keys = scratch;
    w->values = w->keys + n * a->k_dim;
    w->keys_t = w->values + n * a->v_dim;
    w->values_t = w->keys_t + n * a->k_dim;
    w->dkeys = w->values_t + n * a->v_dim;
    w->dvalues = w->dkeys + n * a->k_dim;
    w->p = w->dvalues + n * a->v_dim;
    w->dp = w->p + n * QUERIES;
    w->cap = w->dp + n * QUERIES;
    load(w, kv_head);
    for (uint32_t g = 0; g < group; g++)
        for (uint32_t row = 0; row < w->s->n_rows; row += QUERIES) {
            const struct block b = block_at(w, row, kv_head * group + g);

            run_block(w, &b);
        }
    store(w, kv_head);
}

void train_attention(struct train *t, const struct train_phase *ph, void *scratch)
{
    const struct train_item *it = &t->items[ph->first];
    const struct attn_args *a = &it->in->a.attn;
    const size_t n = (size_t)t->batch.n_streams * a->n_kv_heads;
    struct attn w = { .t = t, .it = it, .a = a, .q = train_value(t, it->in->src[0]),
                      .k = train_value(t, reverse_operand(t->own, it->in, 1)),
                      .v = train_value(t, reverse_operand(t->own, it->in, 2)),
                      .dq = it->dst[0], .dk = it->dst[1], .dv = it->dst[2],
                      .slopes = t->x->slopes[it->in - prog_instr(t->own, 0)],
                      .relative = t->x->relative[it->in - prog_instr(t->own, 0)],
                      .sinks = t->x->vector[it->in->w[0]],
                      .drop = drop_of(t->x->k.drop, t->x->drop_seed, (uint32_t)(it->in - prog_instr(t->own, 0)),
                                      ATTN_DROP_OPERAND, t->x->attn_dropout) };

    for (size_t task; (task = team_next(t->team)) < n;) {
        const uint32_t stream = (uint32_t)(task / a->n_kv_heads);
        const uint32_t kv_head = (uint32_t)(task % a->n_kv_heads);
        const uint32_t group = a->n_heads / a->n_kv_heads;

        w.s = &t->streams[stream];
        w.dsinks = train_part_of(t, it, 0, stream);
        if (w.dsinks)
            memset(w.dsinks + kv_head * group, 0, group * sizeof(float));
        w.drelative = train_part_of(t, it, 1, stream);
        for (uint32_t i = 0; w.drelative && i < a->n_buckets; i++)
            memset(w.drelative + (size_t)i * a->n_heads + kv_head * group, 0, group * sizeof(float));
        run_head(&w, kv_head, scratch);
    }
}
