/* attention_body.h: attention over the paged cache, written once in the operations of
 * the simd.h that the including file chose; the arithmetic is stated in attention.h.
 *
 * Scores: a tile of KV_LANES keys lies in the lanes, so several queries reuse each load
 * of K and nothing is summed across lanes. Values: the head's columns lie in the lanes
 * and keys follow each other. */
#include <math.h>
#include <string.h>

#include "chips/cpu/attention.h"
#include "chips/cpu/kernels.h"
#include "chips/cpu/vmath_body.h"
#include "chips/relative.h"

#define NV (KV_LANES / VN)      /* vectors per tile of keys */
#define QB 4                    /* queries that share a load */
#define DB (VN == 16 ? 4 : 2)   /* vectors of a value row held in registers */

#define INLINE static inline __attribute__((always_inline))

/* What one call works in; all in the task's scratch. */
struct attn_work {
    float *q;           /* [ATTN_MAX_QUERIES][k_pad] packed, zero-padded */
    float *score;       /* [ATTN_MAX_QUERIES][KV_CHUNK_TOKENS] */
    float *o_chunk, *o_segment, *o_all;     /* [ATTN_MAX_QUERIES][v_pad] */
    float  m_chunk[ATTN_MAX_QUERIES], l_chunk[ATTN_MAX_QUERIES];
    float  m_segment[ATTN_MAX_QUERIES], l_segment[ATTN_MAX_QUERIES];
    float  m_all[ATTN_MAX_QUERIES], l_all[ATTN_MAX_QUERIES];
    uint32_t lo[ATTN_MAX_QUERIES], hi[ATTN_MAX_QUERIES];
};

static inline const uint8_t *page_at(const struct attn_task *t, uint32_t pos)
{
    return (const uint8_t *)t->kv_pages +
           (size_t)t->pages[pos / KV_PAGE_TOKENS] * t->layout->page_bytes;
}

/* Tiles of keys that nq queries take at once, so that there are eight independent sums. */
#define TILES_OF(nq) (8 / ((nq) * (int)NV) >= 4 ? 4 : 8 / ((nq) * (int)NV) >= 2 ? 2 : 1)

/* Asks for what will be read a page later; the parts of a head in successive pages lie far apart,
 * which no hardware foresees. */
INLINE void fetch_line(const uint8_t *ahead, size_t at)
{
    __builtin_prefetch(ahead + at, 0, 3);
}

/* Scores of nq queries against the keys of nt tiles; k: the first of them, ahead: where the
 * same tile of the next page begins. out[i]: nt * KV_LANES floats. */
INLINE void tile_scores(float *const *out, const float *const *q, int nq, int nt,
                        const uint8_t *head, const uint8_t *ahead, uint32_t tile, uint32_t dim,
                        enum dtype dtype)
{
    const uint32_t pad = kv_pad(dtype, dim);
    const size_t step = (size_t)pad * KV_LANES, first = tile * step;
    const unsigned n = NV * (unsigned)nt;       /* vectors: NV of each tile */
    vf acc[QB][4 * NV];

    for (int i = 0; i < nq; i++)
        for (unsigned v = 0; v < n; v++)
            acc[i][v] = v_zero();
    if (dtype == DTYPE_F32) {
        const float *k = (const float *)(const void *)head + first;

        for (uint32_t d = 0; d < dim; d++)
            for (unsigned v = 0; v < n; v++) {
                vf kv = v_load(k + v / NV * step + d * KV_LANES + v % NV * VN);

                if (v % NV == 0)
                    fetch_line(ahead, (first + v / NV * step + d * KV_LANES) * sizeof *k);
                for (int i = 0; i < nq; i++)
                    acc[i][v] = v_fma(v_set1(q[i][d]), kv, acc[i][v]);
            }
    } else if (dtype == DTYPE_F16) {
        const uint16_t *k = (const uint16_t *)(const void *)head + first;

        for (uint32_t d = 0; d < dim; d++)
            for (unsigned v = 0; v < n; v++) {
                vf kv = v_load_f16(k + v / NV * step + d * KV_LANES + v % NV * VN);

                if (v % NV == 0 && (d & 1) == 0)
                    fetch_line(ahead, (first + v / NV * step + d * KV_LANES) * sizeof *k);
                for (int i = 0; i < nq; i++)
                    acc[i][v] = v_fma(v_set1(q[i][d]), kv, acc[i][v]);
            }
    } else if (dtype == DTYPE_BF16) {
        const uint16_t *k = (const uint16_t *)(const void *)head + first;

        for (uint32_t d = 0; d < pad; d += 2)
            for (unsigned v = 0; v < n; v++) {
                vf even, odd;

                v_load_bf16_pairs(k + v / NV * step + d * KV_LANES + v % NV * VN * 2, &even, &odd);
                if (v % NV == 0)
                    fetch_line(ahead, (first + v / NV * step + d * KV_LANES) * sizeof *k);
                for (int i = 0; i < nq; i++) {
                    acc[i][v] = v_fma(v_set1(q[i][d]), even, acc[i][v]);
                    acc[i][v] = v_fma(v_set1(q[i][d + 1]), odd, acc[i][v]);
                }
            }
    } else {
        const int8_t *k = (const int8_t *)head + first;
        const float *scale = (const float *)(const void *)(head + kv_scales_at(dim)) +
                             (size_t)tile * (pad / 32) * KV_LANES;

        for (uint32_t b = 0; b < pad; b += 32)
            for (unsigned v = 0; v < n; v++) {
                vf block[QB], s = v_load(scale + (v / NV * (pad / 32) + b / 32) * KV_LANES +
                                         v % NV * VN);

                for (int i = 0; i < nq; i++)
                    block[i] = v_zero();
                for (uint32_t d = b; d < b + 32; d += 4) {
                    if (v % NV == 0)
                        fetch_line(ahead, first + v / NV * step + d * KV_LANES);
                    for (int w = 0; w < 4; w++) {
                        vf kv = v_load_i8_of4(k + v / NV * step + d * KV_LANES + v % NV * VN * 4,
                                              w);

                        for (int i = 0; i < nq; i++)
                            block[i] = v_fma(v_set1(q[i][d + (uint32_t)w]), kv, block[i]);
                    }
                }
                for (int i = 0; i < nq; i++)
                    acc[i][v] = v_fma(block[i], s, acc[i][v]);
            }
    }
    for (int i = 0; i < nq; i++)
        for (unsigned v = 0; v < n; v++)
            v_store(out[i] + v * VN, acc[i][v]);
}

/* The same for n tiles, as many at once as pay. */
INLINE void tiles_scores(float *const *out, const float *const *q, int nq, uint32_t n,
                         const uint8_t *head, const uint8_t *ahead, uint32_t tile, uint32_t dim,
                         enum dtype dtype)
{
    const int nt = TILES_OF(nq);

    for (uint32_t at = 0; at < n;) {
        float *to[QB];
        const bool whole = n - at >= (uint32_t)nt;

        for (int i = 0; i < nq; i++)
            to[i] = out[i] + at * KV_LANES;
        if (whole)
            tile_scores(to, q, nq, nt, head, ahead, tile + at, dim, dtype);
        else
            tile_scores(to, q, nq, 1, head, ahead, tile + at, dim, dtype);
        at += whole ? (uint32_t)nt : 1;
    }
}

/* Scale, cap, bias and mask of one query's tile that begins at key `base`; head is the
 * model's. */
static inline void tile_finish(const struct attn_task *t, float *s, uint32_t base, uint32_t pos,
                               uint32_t lo, uint32_t hi, uint32_t head)
{
    const struct attn_args *a = t->args;
    const vf scale = v_set1(a->scale);
    const float slope = t->slopes ? t->slopes[head] : 0.0f;

    for (unsigned v = 0; v < NV; v++) {
        vf x = v_mul(v_load(s + v * VN), scale);

        if (a->softcap != 0.0f) {
            const vf cap = v_set1(a->softcap);

            x = v_mul(cap, v_tanh(v_div(x, cap)));
        }
        v_store(s + v * VN, x);
    }
    if (slope != 0.0f)
        for (uint32_t j = 0; j < KV_LANES; j++) {
            const float distance = base + j > pos ? (float)(base + j - pos) : (float)(pos - base - j);

            s[j] -= slope * distance;
        }
    if (t->relative) {
        const float *bias = relative_biases(t->relative, head, a->max_distance,
                                            (int64_t)base - pos);

        for (unsigned v = 0; v < NV; v++)
            v_store(s + v * VN, v_add(v_load(s + v * VN), v_load(bias + v * VN)));
    }
    if (base < lo || base + KV_LANES > hi)
        for (uint32_t j = 0; j < KV_LANES; j++)
            if (base + j < lo || base + j >= hi)
                s[j] = -INFINITY;
}

INLINE vf value_vector(const uint8_t *head, uint32_t token, uint32_t dim, uint32_t pad,
                       uint32_t d, enum dtype dtype)
{
    const size_t at = (size_t)token * pad + d;

    if (dtype == DTYPE_F32)
        return v_load((const float *)(const void *)head + at);
    if (dtype == DTYPE_F16)
        return v_load_f16((const uint16_t *)(const void *)head + at);
    if (dtype == DTYPE_BF16)
        return v_load_bf16((const uint16_t *)(const void *)head + at);
    return v_mul(v_load_i8((const int8_t *)head + at),
                 v_set1(((const float *)(const void *)(head + kv_scales_at(dim)))
                            [(size_t)token * (pad / 32) + d / 32]));
}

/* o[i][d .. d+nd*VN) += sum over keys [first, last) of p[i][key - base] * v[key], for nq
 * queries; whole vectors only. */
INLINE void value_sums(const struct attn_task *t, float *const *o, const float *const *p, int nq,
                       int nd, uint32_t d, uint32_t base, uint32_t first, uint32_t last,
                       enum dtype dtype)
{
    const struct kv_part *part = &t->layout->parts[t->state - 1];
    const uint32_t dim = part->v_dim, pad = kv_pad(dtype, dim);
    const size_t width = dtype == DTYPE_F32 ? 4 : dtype == DTYPE_Q8_0 ? 1 : 2;
    const size_t bytes = (size_t)nd * VN * width;       /* of a token's columns */
    vf acc[QB][DB];

    for (int i = 0; i < nq; i++)
        for (int c = 0; c < nd; c++)
            acc[i][c] = v_zero();
    for (uint32_t j = first; j < last;) {
        const uint8_t *head = page_at(t, j) + part->v_offset + t->kv_head * part->v_head_bytes;
        uint32_t end = (j / KV_PAGE_TOKENS + 1) * KV_PAGE_TOKENS;
        const uint8_t *ahead = end < last ? page_at(t, end) + part->v_offset +
                                            t->kv_head * part->v_head_bytes : head;

        if (end > last)
            end = last;
        for (; j < end; j++) {
            for (size_t at = 0; at < bytes; at += 64)
                fetch_line(ahead, ((size_t)(j % KV_PAGE_TOKENS) * pad + d) * width + at);
            for (int c = 0; c < nd; c++) {
                vf v = value_vector(head, j % KV_PAGE_TOKENS, dim, pad, d + (uint32_t)c * VN, dtype);

                for (int i = 0; i < nq; i++)
                    acc[i][c] = v_fma(v_set1(p[i][j - base]), v, acc[i][c]);
            }
        }
    }
    for (int i = 0; i < nq; i++)
        for (int c = 0; c < nd; c++)
            v_store(o[i] + d + c * VN, acc[i][c]);
}

/* The columns that fill no whole vector (odd head sizes), one by one in the same order. */
static void value_tail(const struct attn_task *t, float *o, const float *p, uint32_t d,
                       uint32_t base, uint32_t first, uint32_t last)
{
    const struct kv_part *part = &t->layout->parts[t->state - 1];
    float row[ATTN_MAX_DIM];

    for (uint32_t c = d; c < part->v_dim; c++)
        o[c] = 0.0f;
    for (uint32_t j = first; j < last; j++) {
        kv_read_v(t->layout, page_at(t, j), t->state, t->kv_head, j % KV_PAGE_TOKENS, row);
        for (uint32_t c = d; c < part->v_dim; c++)
            o[c] = fmaf(p[j - base], row[c], o[c]);
    }
}

INLINE void chunk_values(const struct attn_task *t, struct attn_work *w, uint32_t nq,
                         uint32_t base, uint32_t first, uint32_t last, enum dtype dtype)
{
    const struct kv_part *part = &t->layout->parts[t->state - 1];
    const uint32_t v_pad = (part->v_dim + 15) & ~15u;
    const uint32_t whole = part->v_dim / VN * VN;

    for (uint32_t i = 0; i < nq; i += QB) {
        const int n = nq - i < QB ? (int)(nq - i) : QB;
        float *o[QB];
        const float *p[QB];

        for (int k = 0; k < n; k++) {
            o[k] = w->o_chunk + (size_t)(i + (uint32_t)k) * v_pad;
            p[k] = w->score + (size_t)(i + (uint32_t)k) * KV_CHUNK_TOKENS;
        }
        for (uint32_t d = 0; d < whole;) {
            const int nd = whole - d >= DB * VN ? DB : 1;

            if (nd != DB)
                value_sums(t, o, p, n, 1, d, base, first, last, dtype);
            else if (n == QB)
                value_sums(t, o, p, QB, DB, d, base, first, last, dtype);
            else if (n == 3)
                value_sums(t, o, p, 3, DB, d, base, first, last, dtype);
            else if (n == 2)
                value_sums(t, o, p, 2, DB, d, base, first, last, dtype);
            else
                value_sums(t, o, p, 1, DB, d, base, first, last, dtype);
            d += (uint32_t)nd * VN;
        }
        if (whole < part->v_dim)
            for (int k = 0; k < n; k++)
                value_tail(t, o[k], p[k], whole, base, first, last);
    }
}

INLINE void chunk_scores(const struct attn_task *t, struct attn_work *w, uint32_t nq,
                         uint32_t base, uint32_t first, uint32_t last, enum dtype dtype)
{
    const struct kv_part *part = &t->layout->parts[t->state - 1];
    const uint32_t k_pad = (part->k_dim + 31) & ~31u;

    for (uint32_t at = first; at < last;) {         /* what is wanted of a page */
        const uint8_t *head = page_at(t, at) + part->k_offset + t->kv_head * part->k_head_bytes;
        const uint32_t tile = at % KV_PAGE_TOKENS / KV_LANES;
        const uint32_t next = (at / KV_PAGE_TOKENS + 1) * KV_PAGE_TOKENS;
        const uint32_t end = next < last ? next : last;
        const uint32_t n_tiles = (end - at + KV_LANES - 1) / KV_LANES;
        const uint8_t *ahead = next < last ? page_at(t, next) + part->k_offset +
                                             t->kv_head * part->k_head_bytes
                                           : page_at(t, first) + part->v_offset +
                                             t->kv_head * part->v_head_bytes;

        for (uint32_t i = 0; i < nq; i += QB) {
            const int n = nq - i < QB ? (int)(nq - i) : QB;
            float *s[QB];
            const float *q[QB];

            for (int k = 0; k < n; k++) {
                s[k] = w->score + (size_t)(i + (uint32_t)k) * KV_CHUNK_TOKENS + (at - base);
                q[k] = w->q + (size_t)(i + (uint32_t)k) * k_pad;
            }
            switch (n) {
            case 1:  tiles_scores(s, q, 1, n_tiles, head, ahead, tile, part->k_dim, dtype); break;
            case 2:  tiles_scores(s, q, 2, n_tiles, head, ahead, tile, part->k_dim, dtype); break;
            case 3:  tiles_scores(s, q, 3, n_tiles, head, ahead, tile, part->k_dim, dtype); break;
            default: tiles_scores(s, q, QB, n_tiles, head, ahead, tile, part->k_dim, dtype); break;
            }
            ahead = head;               /* asked for once */
        }
        at = end;
    }
}

/* (M, L, O) += (m, l, o); v_pad floats. An empty side leaves the other as it is. */
static void merge(float *M, float *L, float *O, float m, float l, const float *o, uint32_t n)
{
    float top, a, b;
    vf va, vb;

    if (m == -INFINITY)
        return;
    if (*M == -INFINITY) {
        *M = m;
        *L = l;
        memcpy(O, o, n * sizeof *O);
        return;
    }
    top = m > *M ? m : *M;
    {
        float tmp[VN] = { *M - top, m - top };

        v_store(tmp, v_exp(v_load(tmp)));
        a = tmp[0];
        b = tmp[1];
    }
    *M = top;
    *L = fmaf(l, b, *L * a);
    va = v_set1(a);
    vb = v_set1(b);
    for (uint32_t d = 0; d < n; d += VN)
        v_store(O + d, v_fma(v_load(o + d), vb, v_mul(v_load(O + d), va)));
}

/* Maximum, exponentials and sum of one query's chunk; tiles [first, last) of it. */
static void chunk_softmax(float *s, uint32_t first, uint32_t last, float *m, float *l)
{
    vf top = v_set1(-INFINITY), sum[NV], x;

    for (uint32_t j = first; j < last; j += VN)
        top = v_max(top, v_load(s + j));
    *m = v_hmax(top);
    if (*m == -INFINITY) {
        memset(s + first, 0, (last - first) * sizeof *s);
        *l = 0.0f;
        return;
    }
    top = v_set1(*m);
    for (unsigned v = 0; v < NV; v++)
        sum[v] = v_zero();
    for (uint32_t j = first; j < last; j += KV_LANES)
        for (unsigned v = 0; v < NV; v++) {
            x = v_exp(v_sub(v_load(s + j + v * VN), top));
            v_store(s + j + v * VN, x);
            sum[v] = v_add(sum[v], x);
        }
    x = sum[0];
    for (unsigned v = 1; v < NV; v++)
        x = v_add(x, sum[v]);
    *l = v_sum(x);
}

static void run_chunk(const struct attn_task *t, struct attn_work *w, uint32_t nq, uint32_t chunk)
{
    const struct attn_args *a = t->args;
    const uint32_t group_first = t->kv_head * (a->n_heads / a->n_kv_heads) + t->first_head;
    const uint32_t base = chunk * KV_CHUNK_TOKENS;
    uint32_t first = UINT32_MAX, last = 0;

    for (uint32_t i = 0; i < nq; i++) {         /* the union of what the queries see here */
        uint32_t lo = w->lo[i] > base ? w->lo[i] : base;
        uint32_t hi = w->hi[i] < base + KV_CHUNK_TOKENS ? w->hi[i] : base + KV_CHUNK_TOKENS;

        if (lo >= hi)
            continue;
        first = lo < first ? lo : first;
        last = hi > last ? hi : last;
    }
    if (first >= last)
        return;
    first &= ~(KV_LANES - 1);
    switch (t->layout->k_dtype) {
    case DTYPE_F32:  chunk_scores(t, w, nq, base, first, last, DTYPE_F32); break;
    case DTYPE_F16:  chunk_scores(t, w, nq, base, first, last, DTYPE_F16); break;
    case DTYPE_BF16: chunk_scores(t, w, nq, base, first, last, DTYPE_BF16); break;
    default:         chunk_scores(t, w, nq, base, first, last, DTYPE_Q8_0); break;
    }
    const uint32_t tiles_end = (last + KV_LANES - 1) & ~(KV_LANES - 1);
    for (uint32_t i = 0; i < nq; i++) {
        float *s = w->score + (size_t)i * KV_CHUNK_TOKENS;
        const uint32_t pos = t->first_pos + i / t->n_heads;
        const uint32_t head = group_first + i % t->n_heads;

        for (uint32_t at = first; at < tiles_end; at += KV_LANES)
            tile_finish(t, s + (at - base), at, pos, w->lo[i], w->hi[i], head);
        chunk_softmax(s, first - base, tiles_end - base, &w->m_chunk[i], &w->l_chunk[i]);
    }
    switch (t->layout->v_dtype) {
    case DTYPE_F32:  chunk_values(t, w, nq, base, first, last, DTYPE_F32); break;
    case DTYPE_F16:  chunk_values(t, w, nq, base, first, last, DTYPE_F16); break;
    case DTYPE_BF16: chunk_values(t, w, nq, base, first, last, DTYPE_BF16); break;
    default:         chunk_values(t, w, nq, base, first, last, DTYPE_Q8_0); break;
    }
    const uint32_t v_pad = (t->args->v_dim + 15) & ~15u;
    for (uint32_t i = 0; i < nq; i++)
        merge(&w->m_segment[i], &w->l_segment[i], w->o_segment + (size_t)i * v_pad,
              w->m_chunk[i], w->l_chunk[i], w->o_chunk + (size_t)i * v_pad, v_pad);
}

static void work_init(const struct attn_task *t, struct attn_work *w, uint32_t nq)
{
    const struct attn_args *a = t->args;
    const uint32_t k_pad = (a->k_dim + 31) & ~31u, v_pad = (a->v_dim + 15) & ~15u;
    const uint32_t head = t->kv_head * (a->n_heads / a->n_kv_heads) + t->first_head;
    float *f = (float *)t->scratch;

    w->q = f;
    w->score = w->q + (size_t)ATTN_MAX_QUERIES * k_pad;
    w->o_chunk = w->score + (size_t)ATTN_MAX_QUERIES * KV_CHUNK_TOKENS;
    w->o_segment = w->o_chunk + (size_t)ATTN_MAX_QUERIES * v_pad;
    w->o_all = w->o_segment + (size_t)ATTN_MAX_QUERIES * v_pad;
    /* columns beyond v_dim are merged with the rest and must be numbers */
    memset(w->o_chunk, 0, 3 * (size_t)ATTN_MAX_QUERIES * v_pad * sizeof *f);
    for (uint32_t i = 0; i < nq; i++) {
        const float *q = t->q + (i / t->n_heads) * t->q_stride +
                         (size_t)(head + i % t->n_heads) * a->k_dim;

        memcpy(w->q + (size_t)i * k_pad, q, a->k_dim * sizeof *f);
        memset(w->q + (size_t)i * k_pad + a->k_dim, 0, (k_pad - a->k_dim) * sizeof *f);
        attn_span(a, t->first_pos + i / t->n_heads, t->n_keys, &w->lo[i], &w->hi[i]);
        w->m_all[i] = -INFINITY;
        w->l_all[i] = 0.0f;
    }
}

static void write_out(const struct attn_task *t, uint32_t i, float m, float l, const float *o)
{
    const struct attn_args *a = t->args;
    const uint32_t head = t->kv_head * (a->n_heads / a->n_kv_heads) + t->first_head +
                          i % t->n_heads;
    float *out = t->out + (i / t->n_heads) * t->out_stride + (size_t)head * a->v_dim;
    float scale = 1.0f, total = l;

    if (t->sinks) {             /* one more term of the denominator that has no value */
        const float sink = t->sinks[head];

        if (sink > m) {
            scale = m == -INFINITY ? 0.0f : expf(m - sink);
            total = fmaf(total, scale, 1.0f);
        } else {
            total += expf(sink - m);
        }
    }
    scale = total == 0.0f ? 0.0f : scale / total;   /* no visible key at all: zeros */
    for (uint32_t d = 0; d < a->v_dim; d++)
        out[d] = o[d] * scale;
}

static void attention(const struct attn_task *t)
{
    const uint32_t nq = t->n_rows * t->n_heads;
    const uint32_t v_pad = (t->args->v_dim + 15) & ~15u;
    struct attn_work w;
    uint32_t first = UINT32_MAX, last = 0;

    work_init(t, &w, nq);
    for (uint32_t i = 0; i < nq; i++) {
        first = w.lo[i] < first ? w.lo[i] : first;
        last = w.hi[i] > last ? w.hi[i] : last;
    }
    if (t->partial) {
        const uint32_t from = t->segment * ATTN_SEGMENT_TOKENS;

        first = from > first ? from : first;
        last = from + ATTN_SEGMENT_TOKENS < last ? from + ATTN_SEGMENT_TOKENS : last;
    }
    for (uint32_t seg = first / ATTN_SEGMENT_TOKENS; seg * ATTN_SEGMENT_TOKENS < last; seg++) {
        uint32_t chunk = seg * ATTN_SEGMENT_CHUNKS;
        const uint32_t end = chunk + ATTN_SEGMENT_CHUNKS;

        for (uint32_t i = 0; i < nq; i++) {
            w.m_segment[i] = -INFINITY;
            w.l_segment[i] = 0.0f;
        }
        if (chunk < first / KV_CHUNK_TOKENS)
            chunk = first / KV_CHUNK_TOKENS;
        for (; chunk < end && chunk * KV_CHUNK_TOKENS < last; chunk++)
            run_chunk(t, &w, nq, chunk);
        for (uint32_t i = 0; i < nq; i++)
            merge(&w.m_all[i], &w.l_all[i], w.o_all + (size_t)i * v_pad, w.m_segment[i],
                  w.l_segment[i], w.o_segment + (size_t)i * v_pad, v_pad);
    }
    for (uint32_t i = 0; i < nq; i++) {
        const float *o = w.o_all + (size_t)i * v_pad;

        if (t->partial) {
            float *p = t->partial + i * t->partial_stride;

            p[0] = w.m_all[i];
            p[1] = w.l_all[i];
            memcpy(p + 2, o, t->args->v_dim * sizeof *p);
        } else {
            write_out(t, i, w.m_all[i], w.l_all[i], o);
        }
    }
}

/* Merges the partials of n_segments segments per query, segment s of query i at
 * t->partial + i * t->partial_stride + s * segment_stride, and writes out. */
static void attention_merge(const struct attn_task *t, uint32_t n_segments, size_t segment_stride)
{
    const uint32_t nq = t->n_rows * t->n_heads;
    const uint32_t v_pad = (t->args->v_dim + 15) & ~15u;
    struct attn_work w;

    work_init(t, &w, nq);
    for (uint32_t i = 0; i < nq; i++) {
        float *o = w.o_all + (size_t)i * v_pad;

        for (uint32_t s = 0; s < n_segments; s++) {
            const float *p = t->partial + i * t->partial_stride + s * segment_stride;

            memcpy(w.o_segment, p + 2, t->args->v_dim * sizeof *p);
            merge(&w.m_all[i], &w.l_all[i], o, p[0], p[1], w.o_segment, v_pad);
        }
        write_out(t, i, w.m_all[i], w.l_all[i], o);
    }
}

/* One row's keys and values, all KV heads, to their place in the cache. */
static void kv_store(const struct kv_layout *l, void *page, sid state, uint32_t token,
                     const float *k, const float *v)
{
    const struct kv_part *part = &l->parts[state - 1];
    const uint32_t pad = kv_pad(l->k_dtype, part->k_dim);
    const size_t at = (size_t)(token / KV_LANES) * pad * KV_LANES;

    for (uint32_t h = 0; h < part->n_kv_heads; h++, k += part->k_dim, v += part->v_dim) {
        if (l->k_dtype == DTYPE_F16 && part->k_dim % VN == 0) {
            uint16_t *out = (uint16_t *)(void *)((uint8_t *)page + part->k_offset +
                                                 h * part->k_head_bytes) + at + token % KV_LANES;
            uint16_t half[VN];

            for (uint32_t d = 0; d < part->k_dim; d += VN) {
                v_store_f16(half, v_load(k + d));
                for (uint32_t i = 0; i < VN; i++)
                    out[(size_t)(d + i) * KV_LANES] = half[i];
            }
        } else {
            kv_write_k(l, page, state, h, token, k);
        }
        if (l->v_dtype == DTYPE_F16 && part->v_dim % VN == 0) {
            uint16_t *out = (uint16_t *)(void *)((uint8_t *)page + part->v_offset +
                                                 h * part->v_head_bytes) +
                            (size_t)token * part->v_dim;

            for (uint32_t d = 0; d < part->v_dim; d += VN)
                v_store_f16(out + d, v_load(v + d));
        } else {
            kv_write_v(l, page, state, h, token, v);
        }
    }
}

/* Fills the attention kernels of a table; the including file's init calls it. */
static void attention_install(struct kernels *k)
{
    k->attention = attention;
    k->attention_merge = attention_merge;
    k->kv_store = kv_store;
}
