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

/* Keys of 8 bits are multiplied as integers where the including file has brought query8.h. */
#ifdef QUERY8
#define DOTS(dtype) ((dtype) == DTYPE_Q8_0)
#define QUERY8_PREPARE query8_prepare
#define SCORES_Q8(acc, q, ...) scores_query8(acc, (const uint8_t *)(const void *)(q), __VA_ARGS__)
#else
#define DOTS(dtype) false
#define QUERY8_PREPARE(to, q, dim, pad) ((void)(to), (void)(q))
#define SCORES_Q8 scores_q8
#endif

/* What one call works in; all in the task's scratch. */
struct attn_work {
    float *q;           /* [ATTN_MAX_QUERIES / QB][k_pad][QB] zero-padded */
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

/* Tiles of keys that nq queries take at once: so that the sums, which must be eight for their
 * latency, are as many as the registers hold beside keys and queries. */
#define N_SUMS (VN == 16 ? 16 : 8)
#define TILES_OF(nq) (N_SUMS / ((nq) * (int)NV) >= 4 ? 4 : N_SUMS / ((nq) * (int)NV) >= 2 ? 2 : 1)

/* Asks for what will be read a page later; the parts of a head in successive pages lie far apart,
 * which no hardware foresees. Into the second level: the first has few requests under way. */
INLINE void fetch_line(const uint8_t *p)
{
    __builtin_prefetch(p, 0, 2);
}

/* acc[i][v] += q[i] * kv[v] for nq queries, whose numbers lie side by side, and n vectors. */
INLINE void score_step(vf (*acc)[4 * NV], const float *q, int nq, const vf *kv, unsigned n)
{
    for (int i = 0; i < nq; i++) {
        const vf x = v_set1(q[i]);

        for (unsigned v = 0; v < n; v++)
            acc[i][v] = v_fma(x, kv[v], acc[i][v]);
    }
}

/* Column d of n / NV tiles, `step` numbers apart, of keys that are halves or floats. */
INLINE void key_vectors(vf *kv, const uint8_t *k, size_t step, unsigned n, enum dtype dtype)
{
    for (unsigned v = 0; v < n; v++) {
        const size_t at = v / NV * step + v % NV * VN;

        kv[v] = dtype == DTYPE_F32 ? v_load((const float *)(const void *)k + at)
                                   : v_load_f16((const uint16_t *)(const void *)k + at);
    }
}

INLINE void scores_plain(vf (*acc)[4 * NV], const float *q, int nq, const uint8_t *k, size_t step,
                         ptrdiff_t ahead, uint32_t dim, unsigned n, enum dtype dtype)
{
    const size_t width = dtype == DTYPE_F32 ? 4 : 2, column = KV_LANES * width;
    vf kv[4 * NV];
    uint32_t d = 0;

    for (; d + 2 <= dim; d += 2, k += 2 * column, q += 2 * QB) {
        for (unsigned v = 0; v < n; v += NV)
            for (size_t line = 0; line < 2 * column; line += 64)
                fetch_line(k + ahead + v / NV * step * width + line);
        key_vectors(kv, k, step, n, dtype);
        score_step(acc, q, nq, kv, n);
        key_vectors(kv, k + column, step, n, dtype);
        score_step(acc, q + QB, nq, kv, n);
    }
    if (d < dim) {
        key_vectors(kv, k, step, n, dtype);
        score_step(acc, q, nq, kv, n);
    }
}

INLINE void scores_bf16(vf (*acc)[4 * NV], const float *q, int nq, const uint16_t *k, size_t step,
                        ptrdiff_t ahead, uint32_t pad, unsigned n)
{
    for (uint32_t d = 0; d < pad; d += 2, k += 2 * KV_LANES, q += 2 * QB) {
        vf even[4 * NV], odd[4 * NV];

        for (unsigned v = 0; v < n; v++) {
            const uint16_t *at = k + v / NV * step + v % NV * VN * 2;

            if (v % NV == 0)
                fetch_line((const uint8_t *)at + ahead);
            v_load_bf16_pairs(at, &even[v], &odd[v]);
        }
        score_step(acc, q, nq, even, n);
        score_step(acc, q + QB, nq, odd, n);
    }
}

#ifndef QUERY8
INLINE void scores_q8(vf (*acc)[4 * NV], const float *q, int nq, const int8_t *k,
                      const float *scale, size_t step, ptrdiff_t ahead, uint32_t pad, unsigned n)
{
    for (uint32_t b = 0; b < pad; b += 32)
        for (unsigned v = 0; v < n; v++) {
            vf block[QB], s = v_load(scale + (v / NV * (pad / 32) + b / 32) * KV_LANES +
                                     v % NV * VN);

            if (v % NV == 0)
                fetch_line((const uint8_t *)(scale + (v / NV * (pad / 32) + b / 32) * KV_LANES) + ahead);
            for (int i = 0; i < nq; i++)
                block[i] = v_zero();
            for (uint32_t d = b; d < b + 32; d += 4) {
                const int8_t *at = k + v / NV * step + d * KV_LANES + v % NV * VN * 4;

                if (v % NV == 0)
                    fetch_line((const uint8_t *)at + ahead);
                for (unsigned w = 0; w < 4; w++) {
                    vf kv = v_load_i8_of4(at, (int)w);

                    for (int i = 0; i < nq; i++)
                        block[i] = v_fma(v_set1(q[(d + w) * QB + (unsigned)i]), kv, block[i]);
                }
            }
            for (int i = 0; i < nq; i++)
                acc[i][v] = v_fma(block[i], s, acc[i][v]);
        }
}
#endif

#ifdef QUERY8
/* The same from queries of 16 bits, query i's at q + i * 4 * pad: exact sums of 32 columns. */
INLINE void scores_query8(vf (*acc)[4 * NV], const uint8_t *q, int nq, const int8_t *k,
                          const float *scale, size_t step, ptrdiff_t ahead, uint32_t pad, unsigned n)
{
    const size_t stride = (size_t)pad * 4;
    const uint32_t n_blocks = pad / 32;

    for (uint32_t b = 0; b < n_blocks; b++, k += 32 * KV_LANES, scale += KV_LANES) {
        q8_sums high[QB][4], low[QB][4];

        for (int i = 0; i < nq; i++)
            for (unsigned v = 0; v < n; v++) {
                high[i][v] = q8_zero();
                low[i][v] = q8_word(q + (size_t)i * stride + query8_sums_at(pad) + b * 4);
            }
        for (unsigned d = 0; d < 8; d++)
            for (unsigned v = 0; v < n; v++) {
                const int8_t *at = k + v * step + d * 4 * KV_LANES;
                const q8_sums x = q8_keys(at);

                fetch_line((const uint8_t *)at + ahead);
                for (int i = 0; i < nq; i++) {
                    const uint8_t *word = q + (size_t)i * stride + b * 64 + d * 4;

                    high[i][v] = q8_dot(high[i][v], x, q8_word(word));
                    low[i][v] = q8_dot(low[i][v], x, q8_word(word + 32));
                }
            }
        for (unsigned v = 0; v < n; v++) {
            const float *s = scale + (size_t)v * n_blocks * KV_LANES;

            fetch_line((const uint8_t *)s + ahead);
            for (int i = 0; i < nq; i++)
                acc[i][v] = v_fma(q8_total(high[i][v], low[i][v]), v_load(s), acc[i][v]);
        }
    }
    for (int i = 0; i < nq; i++) {
        float d;

        memcpy(&d, q + (size_t)i * stride + query8_scale_at(pad), sizeof d);
        for (unsigned v = 0; v < n; v++)
            acc[i][v] = v_mul(acc[i][v], v_set1(d));
    }
}
#endif

/* Scores of nq queries against the keys of nt tiles; ahead: from the head's part of this page to
 * what is read next. q: [dim][QB]; query i's scores go to out + i * KV_CHUNK_TOKENS. */
INLINE void tile_scores(float *out, const float *q, int nq, int nt, const uint8_t *head,
                        ptrdiff_t ahead, uint32_t tile, uint32_t dim, enum dtype dtype)
{
    const uint32_t pad = kv_pad(dtype, dim);
    const size_t step = (size_t)pad * KV_LANES, first = tile * step;
    const unsigned n = NV * (unsigned)nt;       /* vectors: NV of each tile */
    vf acc[QB][4 * NV];

    for (int i = 0; i < nq; i++)
        for (unsigned v = 0; v < n; v++)
            acc[i][v] = v_zero();
    if (dtype == DTYPE_F32)
        scores_plain(acc, q, nq, head + 4 * first, step, ahead, dim, n, DTYPE_F32);
    else if (dtype == DTYPE_F16)
        scores_plain(acc, q, nq, head + 2 * first, step, ahead, dim, n, DTYPE_F16);
    else if (dtype == DTYPE_BF16)
        scores_bf16(acc, q, nq, (const uint16_t *)(const void *)head + first, step, ahead, pad, n);
    else
        SCORES_Q8(acc, q, nq, (const int8_t *)head + first,
                  (const float *)(const void *)(head + kv_scales_at(dim)) +
                      (size_t)tile * (pad / 32) * KV_LANES, step, ahead, pad, n);
    for (int i = 0; i < nq; i++)
        for (unsigned v = 0; v < n; v++)
            v_store(out + i * (int)KV_CHUNK_TOKENS + v * VN, acc[i][v]);
}

/* The same for n tiles, as many at once as pay. */
INLINE void tiles_scores(float *out, const float *q, int nq, uint32_t n, const uint8_t *head,
                         ptrdiff_t ahead, uint32_t tile, uint32_t dim, enum dtype dtype)
{
    const int nt = DOTS(dtype) && nq > 1 ? TILES_OF(nq) / 2 : TILES_OF(nq);

    for (uint32_t at = 0; at < n;) {
        const bool whole = n - at >= (uint32_t)nt;

        if (whole)
            tile_scores(out + at * KV_LANES, q, nq, nt, head, ahead, tile + at, dim, dtype);
        else
            tile_scores(out + at * KV_LANES, q, nq, 1, head, ahead, tile + at, dim, dtype);
        at += whole ? (uint32_t)nt : 1;
    }
}

/* Cap and biases of one query's tile that begins at key `base`; head is the model's. */
static void tile_bias(const struct attn_task *t, float *s, uint32_t base, uint32_t pos,
                      uint32_t head)
{
    const struct attn_args *a = t->args;
    const float slope = t->slopes ? t->slopes[head] : 0.0f;

    if (a->softcap != 0.0f)
        for (unsigned v = 0; v < NV; v++) {
            const vf cap = v_set1(a->softcap);

            v_store(s + v * VN, v_mul(cap, v_tanh(v_div(v_load(s + v * VN), cap))));
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
}

/* Scale, cap, biases and mask of one query's scores of keys [first, last), whole tiles; what it
 * sees are keys [lo, hi). Returns the largest score. */
static float scores_finish(const struct attn_task *t, float *s, uint32_t first, uint32_t last,
                           uint32_t pos, uint32_t lo, uint32_t hi, uint32_t head)
{
    const vf scale = v_set1(t->args->scale);
    vf top = v_set1(-INFINITY);

    for (uint32_t j = 0; j < last - first; j += VN) {
        const vf x = v_mul(v_load(s + j), scale);

        top = v_max(top, x);
        v_store(s + j, x);
    }
    if (t->args->softcap == 0.0f && !t->slopes && !t->relative && lo <= first && hi >= last)
        return v_hmax(top);
    if (t->args->softcap != 0.0f || t->slopes || t->relative)
        for (uint32_t at = first; at < last; at += KV_LANES)
            tile_bias(t, s + (at - first), at, pos, head);
    for (uint32_t at = first; at < last && at < lo; at++)
        s[at - first] = -INFINITY;
    for (uint32_t at = hi > first ? hi : first; at < last; at++)
        s[at - first] = -INFINITY;
    top = v_set1(-INFINITY);
    for (uint32_t j = 0; j < last - first; j += VN)
        top = v_max(top, v_load(s + j));
    return v_hmax(top);
}

/* Vector c of a token's columns from `row` on; scale: of the token's blocks (Q8_0). */
INLINE vf value_vector(const uint8_t *row, int c, const float *scale, uint32_t d, enum dtype dtype)
{
    if (dtype == DTYPE_F32)
        return v_load((const float *)(const void *)row + c * VN);
    if (dtype == DTYPE_F16)
        return v_load_f16((const uint16_t *)(const void *)row + c * VN);
    if (dtype == DTYPE_BF16)
        return v_load_bf16((const uint16_t *)(const void *)row + c * VN);
    return v_mul(v_load_i8((const int8_t *)row + c * VN), v_set1(scale[(d + (uint32_t)c * VN) / 32]));
}

/* o[i * o_stride + d .. d+nd*VN) = sum over keys [first, last) of p[i * KV_CHUNK_TOKENS + key - base]
 * * v[key], for nq queries; whole vectors only. */
INLINE void value_sums(const struct attn_task *t, float *o, size_t o_stride, const float *p, int nq,
                       int nd, uint32_t d, uint32_t base, uint32_t first, uint32_t last,
                       enum dtype dtype)
{
    const struct kv_part *part = &t->layout->parts[t->state - 1];
    const uint32_t dim = part->v_dim, pad = kv_pad(dtype, dim);
    const size_t width = dtype == DTYPE_F32 ? 4 : dtype == DTYPE_Q8_0 ? 1 : 2;
    const size_t bytes = (size_t)nd * VN * width, row_bytes = pad * width;
    vf acc[QB][DB];

    for (int i = 0; i < nq; i++)
        for (int c = 0; c < nd; c++)
            acc[i][c] = v_zero();
    for (uint32_t j = first; j < last;) {
        const uint8_t *head = page_at(t, j) + part->v_offset + t->kv_head * part->v_head_bytes;
        uint32_t end = (j / KV_PAGE_TOKENS + 1) * KV_PAGE_TOKENS;
        /* behind the last page of a chunk come the keys of the next */
        const uint8_t *next = end < last ? page_at(t, end) + part->v_offset +
                                           t->kv_head * part->v_head_bytes
                            : end < t->n_keys ? page_at(t, end) + part->k_offset +
                                                t->kv_head * part->k_head_bytes : head;
        const ptrdiff_t ahead = next - head;
        const uint8_t *row = head + (j % KV_PAGE_TOKENS * (size_t)pad + d) * width;
        const float *scale = dtype == DTYPE_Q8_0 ? (const float *)(const void *)(head + kv_scales_at(dim)) +
                                                   (size_t)(j % KV_PAGE_TOKENS) * (pad / 32) : NULL;
        const float *weight = p + (j - base);

        if (end > last)
            end = last;
        for (; j < end; j++, row += row_bytes, weight++) {
            vf x[QB];

            for (size_t at = 0; at < bytes; at += 64)
                fetch_line(row + ahead + at);
            for (int i = 0; i < nq; i++)
                x[i] = v_set1(weight[i * (int)KV_CHUNK_TOKENS]);
            for (int c = 0; c < nd; c++) {
                const vf v = value_vector(row, c, scale, d, dtype);

                for (int i = 0; i < nq; i++)
                    acc[i][c] = v_fma(x[i], v, acc[i][c]);
            }
            if (dtype == DTYPE_Q8_0) {
                if (d == 0 && (uintptr_t)scale % 64 < pad / 8)
                    fetch_line((const uint8_t *)scale + ahead);
                scale += pad / 32;
            }
        }
    }
    for (int i = 0; i < nq; i++)
        for (int c = 0; c < nd; c++)
            v_store(o + (size_t)i * o_stride + d + c * VN, acc[i][c]);
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
        const uint32_t n = nq - i < QB ? nq - i : QB;
        float *o = w->o_chunk + (size_t)i * v_pad;
        const float *p = w->score + (size_t)i * KV_CHUNK_TOKENS;

        for (uint32_t d = 0; d < whole;) {
            const int nd = whole - d >= DB * VN ? DB : 1;

            if (nd != DB)
                value_sums(t, o, v_pad, p, (int)n, 1, d, base, first, last, dtype);
            else if (n == QB)
                value_sums(t, o, v_pad, p, QB, DB, d, base, first, last, dtype);
            else if (n == 3)
                value_sums(t, o, v_pad, p, 3, DB, d, base, first, last, dtype);
            else if (n == 2)
                value_sums(t, o, v_pad, p, 2, DB, d, base, first, last, dtype);
            else
                value_sums(t, o, v_pad, p, 1, DB, d, base, first, last, dtype);
            d += (uint32_t)nd * VN;
        }
        if (whole < part->v_dim)
            for (uint32_t k = 0; k < n; k++)
                value_tail(t, o + (size_t)k * v_pad, p + (size_t)k * KV_CHUNK_TOKENS, whole, base,
                           first, last);
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
        const uint8_t *then = next < last ? page_at(t, next) + part->k_offset +
                                            t->kv_head * part->k_head_bytes
                                          : page_at(t, first) + part->v_offset +
                                            t->kv_head * part->v_head_bytes;
        ptrdiff_t ahead = then - head;

        for (uint32_t i = 0; i < nq; i += QB) {
            float *s = w->score + (size_t)i * KV_CHUNK_TOKENS + (at - base);
            const float *q = w->q + (size_t)i * k_pad;

            switch (nq - i) {
            case 1:  tiles_scores(s, q, 1, n_tiles, head, ahead, tile, part->k_dim, dtype); break;
            case 2:  tiles_scores(s, q, 2, n_tiles, head, ahead, tile, part->k_dim, dtype); break;
            case 3:  tiles_scores(s, q, 3, n_tiles, head, ahead, tile, part->k_dim, dtype); break;
            default: tiles_scores(s, q, QB, n_tiles, head, ahead, tile, part->k_dim, dtype); break;
            }
            ahead = 0;                  /* asked for once */
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

/* Exponentials and their sum of one query's chunk, whose largest score is m; tiles [first, last)
 * of it. */
static float chunk_softmax(float *s, uint32_t first, uint32_t last, float m)
{
    const vf top = v_set1(m);
    vf sum[NV], x;

    if (m == -INFINITY) {
        memset(s + first, 0, (last - first) * sizeof *s);
        return 0.0f;
    }
    for (unsigned v = 0; v < NV; v++)
        sum[v] = v_zero();
    for (uint32_t j = first; j < last; j += KV_LANES)
        for (unsigned v = 0; v < NV; v++) {
            x = v_exp_below(v_sub(v_load(s + j + v * VN), top));
            v_store(s + j + v * VN, x);
            sum[v] = v_add(sum[v], x);
        }
    x = sum[0];
    for (unsigned v = 1; v < NV; v++)
        x = v_add(x, sum[v]);
    return v_sum(x);
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

        w->m_chunk[i] = scores_finish(t, s + (first - base), first, tiles_end, pos, w->lo[i],
                                      w->hi[i], head);
        w->l_chunk[i] = chunk_softmax(s, first - base, tiles_end - base, w->m_chunk[i]);
        if (t->drop.share > 0.0f)       /* the sum stays that of all weights */
            drop_cols(&t->drop, s + (first - base),
                      t->drop_row + (uint64_t)(i / t->n_heads) * t->args->n_heads + head, first,
                      tiles_end - first);
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

        float *to = w->q + (size_t)(i - i % QB) * k_pad + i % QB;

        if (DOTS(t->layout->k_dtype))
            QUERY8_PREPARE((uint8_t *)(w->q + (size_t)i * k_pad), q, a->k_dim, k_pad);
        else
            for (uint32_t d = 0; d < k_pad; d++)
                to[(size_t)d * QB] = d < a->k_dim ? q[d] : 0.0f;
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
