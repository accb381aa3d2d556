/* attention.c (reference): the arithmetic stated in attention.h, scalar; products and
 * sums in double, partials rounded to f32 where the contract stores them. */
#include <math.h>
#include <string.h>

#include "chips/cpu/attention.h"
#include "chips/cpu/kernels.h"
#include "chips/relative.h"

struct query {
    const float *q;
    float       *out;
    uint32_t     pos, lo, hi, head;
    double       slope;
};

static struct query query_of(const struct attn_task *t, uint32_t i)
{
    const struct attn_args *a = t->args;
    const uint32_t row = i / t->n_heads;
    struct query x;

    x.head = t->kv_head * (a->n_heads / a->n_kv_heads) + t->first_head + i % t->n_heads;
    x.q = t->q + row * t->q_stride + (size_t)x.head * a->k_dim;
    x.out = t->out + row * t->out_stride + (size_t)x.head * a->v_dim;
    x.pos = t->first_pos + row;
    x.slope = t->slopes ? t->slopes[x.head] : 0.0;
    attn_span(a, x.pos, t->n_keys, &x.lo, &x.hi);
    return x;
}

static const uint8_t *page_at(const struct attn_task *t, uint32_t pos)
{
    return (const uint8_t *)t->kv_pages +
           (size_t)t->pages[pos / KV_PAGE_TOKENS] * t->layout->page_bytes;
}

static double score(const struct attn_task *t, const struct query *x, uint32_t key)
{
    const struct attn_args *a = t->args;
    float k[ATTN_MAX_DIM];
    double s = 0;

    kv_read_k(t->layout, page_at(t, key), t->state, t->kv_head, key % KV_PAGE_TOKENS, k);
    for (uint32_t d = 0; d < a->k_dim; d++)
        s += (double)x->q[d] * k[d];
    s *= a->scale;
    if (a->softcap != 0.0f)
        s = a->softcap * tanh(s / a->softcap);
    s -= x->slope * fabs((double)x->pos - key);
    if (t->relative)
        s += relative_biases(t->relative, x->head, a->max_distance, (int64_t)key - x->pos)[0];
    return s;
}

/* (m, l, o) += another partial. */
static void merge(double *m, double *l, double *o, double m2, double l2, const double *o2,
                  uint32_t n)
{
    const double top = m2 > *m ? m2 : *m;
    double a, b;

    if (m2 == -INFINITY)
        return;
    a = *m == -INFINITY ? 0 : exp(*m - top);
    b = exp(m2 - top);
    *m = top;
    *l = *l * a + l2 * b;
    for (uint32_t d = 0; d < n; d++)
        o[d] = o[d] * a + o2[d] * b;
}

/* The partial over keys [first, last) of one chunk. */
static void chunk_partial(const struct attn_task *t, const struct query *x, uint32_t first,
                          uint32_t last, double *m, double *l, double *o)
{
    const uint32_t n = t->args->v_dim;
    double s[KV_CHUNK_TOKENS];
    float v[ATTN_MAX_DIM];

    *m = -INFINITY;
    *l = 0;
    memset(o, 0, n * sizeof *o);
    for (uint32_t j = first; j < last; j++) {
        s[j - first] = score(t, x, j);
        *m = s[j - first] > *m ? s[j - first] : *m;
    }
    for (uint32_t j = first; j < last; j++) {
        const double p = exp(s[j - first] - *m);

        *l += p;
        kv_read_v(t->layout, page_at(t, j), t->state, t->kv_head, j % KV_PAGE_TOKENS, v);
        for (uint32_t d = 0; d < n; d++)
            o[d] += p * v[d];
    }
}

static void finish(const struct attn_task *t, const struct query *x, double m, double l,
                   const double *o)
{
    double scale = 1, total = l;

    if (t->sinks) {
        const double sink = t->sinks[x->head], top = sink > m ? sink : m;

        scale = m == -INFINITY ? 0 : exp(m - top);
        total = l * scale + exp(sink - top);
    }
    for (uint32_t d = 0; d < t->args->v_dim; d++)
        x->out[d] = total == 0 ? 0.0f : (float)(o[d] * scale / total);
}

/* The partial of one segment, rounded to f32 as it is when a task of its own stores it. */
static void segment_partial(const struct attn_task *t, const struct query *x, uint32_t segment,
                            float *out)
{
    const uint32_t n = t->args->v_dim, from = segment * ATTN_SEGMENT_TOKENS;
    const uint32_t lo = from > x->lo ? from : x->lo;
    const uint32_t hi = from + ATTN_SEGMENT_TOKENS < x->hi ? from + ATTN_SEGMENT_TOKENS : x->hi;
    double o[ATTN_MAX_DIM] = { 0 }, part[ATTN_MAX_DIM], m = -INFINITY, l = 0, pm, pl;

    for (uint32_t j = lo; j < hi;) {
        uint32_t end = (j / KV_CHUNK_TOKENS + 1) * KV_CHUNK_TOKENS;

        end = end < hi ? end : hi;
        chunk_partial(t, x, j, end, &pm, &pl, part);
        merge(&m, &l, o, pm, pl, part, n);
        j = end;
    }
    out[0] = (float)m;
    out[1] = (float)l;
    for (uint32_t d = 0; d < n; d++)
        out[2 + d] = (float)o[d];
}

static void add_partial(const struct attn_task *t, double *m, double *l, double *o, const float *p)
{
    double part[ATTN_MAX_DIM];

    for (uint32_t d = 0; d < t->args->v_dim; d++)
        part[d] = p[2 + d];
    merge(m, l, o, p[0], p[1], part, t->args->v_dim);
}

static void attention_ref(const struct attn_task *t)
{
    for (uint32_t i = 0; i < t->n_rows * t->n_heads; i++) {
        const struct query x = query_of(t, i);
        double o[ATTN_MAX_DIM] = { 0 }, m = -INFINITY, l = 0;
        float p[ATTN_MAX_DIM + 2];

        if (t->partial) {
            segment_partial(t, &x, t->segment, t->partial + i * t->partial_stride);
            continue;
        }
        for (uint32_t s = 0; s * ATTN_SEGMENT_TOKENS < x.hi; s++) {
            segment_partial(t, &x, s, p);
            add_partial(t, &m, &l, o, p);
        }
        finish(t, &x, m, l, o);
    }
}

static void attention_merge_ref(const struct attn_task *t, uint32_t n_segments,
                                size_t segment_stride)
{
    for (uint32_t i = 0; i < t->n_rows * t->n_heads; i++) {
        const struct query x = query_of(t, i);
        double o[ATTN_MAX_DIM] = { 0 }, m = -INFINITY, l = 0;

        for (uint32_t s = 0; s < n_segments; s++)
            add_partial(t, &m, &l, o, t->partial + i * t->partial_stride + s * segment_stride);
        finish(t, &x, m, l, o);
    }
}

static void kv_store_ref(const struct kv_layout *l, void *page, sid state, uint32_t token,
                         const float *k, const float *v)
{
    const struct kv_part *part = &l->parts[state - 1];

    for (uint32_t h = 0; h < part->n_kv_heads; h++) {
        kv_write_k(l, page, state, h, token, k + (size_t)h * part->k_dim);
        kv_write_v(l, page, state, h, token, v + (size_t)h * part->v_dim);
    }
}

size_t attn_scratch_bytes(uint32_t k_dim, uint32_t v_dim)
{
    const size_t k_pad = (k_dim + 31) & ~31u, v_pad = (v_dim + 15) & ~15u;

    return ATTN_MAX_QUERIES * (k_pad + KV_CHUNK_TOKENS + 3 * v_pad) * sizeof(float);
}

void attn_slopes(float *slopes, uint32_t n_heads, float max_bias)
{
    uint32_t base = 1;

    while (base * 2 <= n_heads)
        base *= 2;
    for (uint32_t h = 0; h < n_heads; h++) {
        /* powers of the first ratio, then the odd powers of the ratio half as steep */
        const double e = h < base ? -(double)max_bias / base * (h + 1)
                                  : -(double)max_bias / 2 / base * (2 * (h - base) + 1);

        slopes[h] = (float)pow(2.0, e);
    }
}

void kernels_init_ref_attention(struct kernels *k)
{
    k->attention = attention_ref;
    k->attention_merge = attention_merge_ref;
    k->kv_store = kv_store_ref;
}
