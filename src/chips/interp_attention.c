/* interp_attention.c: reference of rotary positions and of attention over the cache. */
#include <math.h>
#include <string.h>

#include "chips/interp_internal.h"
#include "chips/relative.h"
#include "chips/route.h"
#include "chips/rope.h"

/* Doubles for the frequencies, then floats for the sines. */
static size_t rope_scratch(const struct instr *in)
{
    return in->a.rope.n_rot;
}

/* Per query head of one KV head: the running maximum, sum, and v_dim weighted values. */
static size_t attention_scratch(const struct instr *in)
{
    const struct attn_args *a = &in->a.attn;

    return (size_t)(a->n_heads / a->n_kv_heads) * (2 + (size_t)a->v_dim);
}

size_t interp_scratch(const struct program *p, const struct instr *in)
{
    (void)p;
    switch (in->op) {
    case OP_ROPE:      return rope_scratch(in);
    case OP_ATTENTION: return attention_scratch(in);
    case OP_ROUTE:     return route_scratch(&in->a.route);
    default:           return 0;
    }
}

static void turn_head(float *y, const float *x, const struct rope_args *a, const float *cos_sin)
{
    const uint32_t half = a->n_rot / 2;

    for (uint32_t i = 0; i < half; i++) {
        const uint32_t i0 = a->pairing == ROPE_NEOX ? i : 2 * i;
        const uint32_t i1 = a->pairing == ROPE_NEOX ? i + half : 2 * i + 1;
        const double c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
        const double x0 = x[i0], x1 = x[i1];

        y[i0] = (float)(x0 * c - x1 * s);
        y[i1] = (float)(x0 * s + x1 * c);
    }
    if (a->head_dim > a->n_rot)
        memmove(y + a->n_rot, x + a->n_rot, (a->head_dim - a->n_rot) * sizeof *y);
}

void ref_rope(struct interp *x, const struct instr *in)
{
    const struct rope_args *a = &in->a.rope;
    double *freq = x->scratch, magnitude;
    float *cos_sin = (float *)(void *)(x->scratch + a->n_rot / 2);

    rope_frequencies(a, vector_of(x, in->w[0]), freq, &magnitude);
    for (uint32_t r = 0; r < rows_in(x, in->dst[0]); r++) {
        const int32_t p = (int32_t)batch_pos(x->b, r);
        const int32_t text[4] = { p, p, p, p };

        rope_cos_sin(a, freq, magnitude, x->b->pos4 ? x->b->pos4 + 4 * (size_t)r : text, cos_sin);
        for (uint32_t h = 0; h < a->n_heads; h++)
            turn_head(row_of(x, in->dst[0], r) + h * a->head_dim,
                      row_of(x, in->src[0], r) + h * a->head_dim, a, cos_sin);
    }
}

/* ---- attention ---- */

static uint8_t *page_of(const struct interp *x, const struct stream *s, uint32_t pos)
{
    return x->kv_pages + (uint64_t)s->pages[pos / KV_PAGE_TOKENS] * x->layout->page_bytes;
}

static void write_kv(struct interp *x, const struct instr *in)
{
    const struct attn_args *a = &in->a.attn;

    for (uint32_t r = 0; r < x->b->n_rows; r++) {
        const struct stream *s = &x->b->streams[x->b->row_stream[r]];
        const uint32_t pos = batch_pos(x->b, r), token = pos % KV_PAGE_TOKENS;

        for (uint32_t h = 0; h < a->n_kv_heads; h++) {
            kv_write_k(x->layout, page_of(x, s, pos), in->state, h, token,
                       row_of(x, in->src[1], r) + (size_t)h * a->k_dim);
            kv_write_v(x->layout, page_of(x, s, pos), in->state, h, token,
                       row_of(x, in->src[2], r) + (size_t)h * a->v_dim);
        }
    }
}

/* Positions [*first, *end) that the query at pos sees, of n in the stream. */
static void visible(const struct attn_args *a, uint32_t pos, uint32_t n, uint32_t *first,
                    uint32_t *end)
{
    const uint32_t half = a->window / 2;

    *first = 0;
    *end = pos + 1;
    switch (a->mask) {
    case MASK_CAUSAL:
        if (a->window && pos + 1 > a->window)
            *first = pos + 1 - a->window;
        break;
    case MASK_NONE:
        *end = n;
        break;
    case MASK_CHUNKED:
        *first = pos / a->window * a->window;
        break;
    case MASK_SYMMETRIC:
        *first = pos > half ? pos - half : 0;
        *end = n - pos > half ? pos + half + 1 : n;
        break;
    }
}

/* Press et al., "Train Short, Test Long" (arXiv 2108.12409), with the usual
 * continuation for head counts that are no power of two. */
static double alibi_slope(const struct attn_args *a, uint32_t head)
{
    uint32_t n = 1;

    if (a->alibi_max_bias == 0)
        return 0;
    while (n * 2 <= a->n_heads)
        n *= 2;
    if (head < n)
        return pow(2, -(double)a->alibi_max_bias / n * (head + 1));
    return pow(2, -(double)a->alibi_max_bias / 2 / n * (2 * (head - n) + 1));
}

/* One query row against one KV head; the group's query heads go through the keys
 * together, each with a running softmax. */
struct running { double *max, *sum, *acc; };

static void add_key(const struct interp *x, const struct instr *in, uint32_t r, uint32_t head,
                    uint32_t j, const float *k, double *score)
{
    const struct attn_args *a = &in->a.attn;
    const float *q = row_of(x, in->src[0], r) + (size_t)head * a->k_dim;
    double s = dot(q, k, a->k_dim) * a->scale;

    if (a->softcap > 0)
        s = a->softcap * tanh(s / a->softcap);
    *score = s - alibi_slope(a, head) * fabs((double)batch_pos(x->b, r) - j);
    if (in->w[1])
        *score += vector_of(x, in->w[1])[(size_t)relative_bucket((int64_t)j - batch_pos(x->b, r),
                                                                 a->n_buckets, a->max_distance) *
                                             a->n_heads + head];
}

static void add_value(struct running *w, uint32_t g, uint32_t v_dim, double score, const float *v)
{
    double *acc = w->acc + (size_t)g * v_dim, weight;

    if (score > w->max[g]) {
        const double shrink = exp(w->max[g] - score);

        for (uint32_t d = 0; d < v_dim; d++)
            acc[d] *= shrink;
        w->sum[g] *= shrink;
        w->max[g] = score;
    }
    weight = exp(score - w->max[g]);
    w->sum[g] += weight;
    for (uint32_t d = 0; d < v_dim; d++)
        acc[d] += weight * v[d];
}

static void attend(struct interp *x, const struct instr *in, uint32_t r, uint32_t kv_head)
{
    const struct attn_args *a = &in->a.attn;
    const struct stream *s = &x->b->streams[x->b->row_stream[r]];
    const uint32_t group = a->n_heads / a->n_kv_heads, head0 = kv_head * group;
    const float *sinks = vector_of(x, in->w[0]);
    struct running w = { x->scratch, x->scratch + group, x->scratch + 2 * (size_t)group };
    uint32_t first, end;

    for (uint32_t g = 0; g < group; g++) {
        w.max[g] = sinks ? sinks[head0 + g] : -INFINITY;
        w.sum[g] = sinks ? 1 : 0;
    }
    memset(w.acc, 0, (size_t)group * a->v_dim * sizeof *w.acc);
    visible(a, batch_pos(x->b, r), s->n_past + s->n_rows, &first, &end);
    for (uint32_t j = first; j < end; j++) {
        const uint8_t *page = page_of(x, s, j);
        const uint32_t token = j % KV_PAGE_TOKENS;

        for (uint32_t g = 0; g < group; g++) {
            double score;

            kv_read_k(x->layout, page, in->state, kv_head, token, x->kv_buf);
            add_key(x, in, r, head0 + g, j, x->kv_buf, &score);
            kv_read_v(x->layout, page, in->state, kv_head, token, x->kv_buf);
            add_value(&w, g, a->v_dim, score, x->kv_buf);
        }
    }
    for (uint32_t g = 0; g < group; g++) {
        float *y = row_of(x, in->dst[0], r) + (size_t)(head0 + g) * a->v_dim;

        for (uint32_t d = 0; d < a->v_dim; d++)
            y[d] = (float)(w.acc[(size_t)g * a->v_dim + d] / w.sum[g]);
    }
}

void ref_attention(struct interp *x, const struct instr *in)
{
    const struct attn_args *a = &in->a.attn;

    if (a->write)
        write_kv(x, in);
    for (uint32_t r = 0; r < x->b->n_rows; r++)
        for (uint32_t h = 0; h < a->n_kv_heads; h++)
            attend(x, in, r, h);
}
