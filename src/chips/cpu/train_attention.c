/* train_attention.c: backward of attention. A task is one key/value head of one stream and walks
 * its queries upward, so gradients of keys and values have one order of additions. The scores of a
 * query are computed again from the values that forward kept (keys and values rounded as the
 * cache rounds them); with p the weights, o the result:
 *   dV += p dO;  dP = dO V^T;  dS = p (dP - sum of p dP);  dQ = dS K;  dK += dS^T Q.
 * [Dao et al. 2022, arXiv 2205.14135, section 3.1] */
#include <math.h>
#include <string.h>

#include "chips/cpu/train_internal.h"

struct attn {
    struct train *t;
    const struct train_item *it;
    const struct attn_args *a;
    const struct stream *s;
    struct train_place q, k, v, dq, dk, dv;
    float   *keys, *values;         /* [n_rows][k_dim], [n_rows][v_dim] as the cache holds them */
    float   *dkeys, *dvalues;
    float   *p, *dp;                /* [n_rows] */
    const float *slopes, *sinks;
    float   *dsinks;
};

uint64_t train_attention_scratch(const struct train *t, const struct instr *in)
{
    const struct attn_args *a = &in->a.attn;

    return (uint64_t)t->limits.max_rows * (2 * ((uint64_t)a->k_dim + a->v_dim) + 3) * 4;
}

static float as_cached(enum dtype dtype, float x)
{
    if (dtype == DTYPE_F16)
        return f16_to_f32(f32_to_f16(x));
    return dtype == DTYPE_BF16 ? bf16_to_f32(f32_to_bf16(x)) : x;
}

static void load(const struct attn *w, uint32_t kv_head)
{
    const struct attn_args *a = w->a;

    for (uint32_t j = 0; j < w->s->n_rows; j++) {
        const float *k = train_row(w->k, w->s->first_row + j) + (size_t)kv_head * a->k_dim;
        const float *v = train_row(w->v, w->s->first_row + j) + (size_t)kv_head * a->v_dim;

        for (uint32_t d = 0; d < a->k_dim; d++)
            w->keys[(size_t)j * a->k_dim + d] = as_cached(w->t->o.kv, k[d]);
        for (uint32_t d = 0; d < a->v_dim; d++)
            w->values[(size_t)j * a->v_dim + d] = as_cached(w->t->o.kv, v[d]);
    }
    memset(w->dkeys, 0, (size_t)w->s->n_rows * a->k_dim * sizeof(float));
    memset(w->dvalues, 0, (size_t)w->s->n_rows * a->v_dim * sizeof(float));
}

static float dot(const float *a, const float *b, uint32_t n)
{
    float s[8] = { 0 };
    uint32_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (uint32_t k = 0; k < 8; k++)
            s[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        s[0] += a[i] * b[i];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* One head of one query. */
static void query(const struct attn *w, uint32_t row, uint32_t head)
{
    const struct attn_args *a = w->a;
    const uint64_t at = (uint64_t)w->s->first_row + row;
    const float *q = train_row(w->q, at) + (size_t)head * a->k_dim;
    const float *dout = train_row(w->it->dy, at) + (size_t)head * a->v_dim;
    float top = w->sinks ? w->sinks[head] : -INFINITY;
    double sum = 0, mean = 0;
    uint32_t lo, hi;

    attn_span(a, row, w->s->n_rows, &lo, &hi);
    for (uint32_t j = lo; j < hi; j++) {
        float s = dot(q, w->keys + (size_t)j * a->k_dim, a->k_dim) * a->scale;

        if (a->softcap > 0)
            s = a->softcap * tanhf(s / a->softcap);
        w->dp[j] = s;
        if (w->slopes)
            s -= w->slopes[head] * fabsf((float)row - (float)j);
        w->p[j] = s;
        top = s > top ? s : top;
    }
    for (uint32_t j = lo; j < hi; j++)
        sum += w->p[j] = expf(w->p[j] - top);
    if (w->sinks)
        sum += expf(w->sinks[head] - top);
    for (uint32_t j = lo; j < hi; j++) {
        const float cap = a->softcap > 0 ? w->dp[j] / a->softcap : 0.0f;
        float *dv = w->dvalues + (size_t)j * a->v_dim;

        w->p[j] = (float)(w->p[j] / sum);
        w->dp[j] = dot(dout, w->values + (size_t)j * a->v_dim, a->v_dim);
        mean += (double)w->p[j] * w->dp[j];
        for (uint32_t d = 0; d < a->v_dim; d++)
            dv[d] += w->p[j] * dout[d];
        if (a->softcap > 0) {           /* through the cap: keep its slope beside p */
            w->keys[(size_t)w->s->n_rows * a->k_dim + j] = 1 - cap * cap;
        }
    }
    if (w->dsinks)
        w->dsinks[head] -= (float)(expf(w->sinks[head] - top) / sum * mean);
    if (w->dq.p)
        memset(train_row(w->dq, at) + (size_t)head * a->k_dim, 0, a->k_dim * sizeof(float));
    for (uint32_t j = lo; j < hi; j++) {
        float ds = w->p[j] * (w->dp[j] - (float)mean) * a->scale;
        const float *k = w->keys + (size_t)j * a->k_dim;
        float *dk = w->dkeys + (size_t)j * a->k_dim;

        if (a->softcap > 0)
            ds *= w->keys[(size_t)w->s->n_rows * a->k_dim + j];
        for (uint32_t d = 0; d < a->k_dim; d++)
            dk[d] += ds * q[d];
        if (w->dq.p) {
            float *dq = train_row(w->dq, at) + (size_t)head * a->k_dim;

            for (uint32_t d = 0; d < a->k_dim; d++)
                dq[d] += ds * k[d];
        }
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
    const size_t n = w->s->n_rows;

    w->keys = scratch;
    w->values = w->keys + n * a->k_dim + n;     /* the row behind keys: slopes of the cap */
    w->dkeys = w->values + n * a->v_dim;
    w->dvalues = w->dkeys + n * a->k_dim;
    w->p = w->dvalues + n * a->v_dim;
    w->dp = w->p + n;
    load(w, kv_head);
    for (uint32_t row = 0; row < n; row++)
        for (uint32_t g = 0; g < group; g++)
            query(w, row, kv_head * group + g);
    store(w, kv_head);
}

void train_attention(struct train *t, const struct train_phase *ph, void *scratch)
{
    const struct train_item *it = &t->items[ph->first];
    const struct attn_args *a = &it->in->a.attn;
    const size_t n = (size_t)t->batch.n_streams * a->n_kv_heads;
    struct attn w = { .t = t, .it = it, .a = a, .q = train_value(t, it->in->src[0]),
                      .k = train_value(t, it->in->src[1]), .v = train_value(t, it->in->src[2]),
                      .dq = it->dst[0], .dk = it->dst[1], .dv = it->dst[2],
                      .slopes = t->x->slopes[it->in - prog_instr(t->own, 0)],
                      .sinks = t->x->vector[it->in->w[0]] };

    for (size_t task; (task = team_next(t->team)) < n;) {
        const uint32_t stream = (uint32_t)(task / a->n_kv_heads);
        const uint32_t kv_head = (uint32_t)(task % a->n_kv_heads);
        const uint32_t group = a->n_heads / a->n_kv_heads;

        w.s = &t->streams[stream];
        w.dsinks = train_part_of(t, it, 0, stream);
        if (w.dsinks)
            memset(w.dsinks + kv_head * group, 0, group * sizeof(float));
        run_head(&w, kv_head, scratch);
    }
}
