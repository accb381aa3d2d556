/* attention.h: the attention kernels' task, and how the work is cut.
 *
 * A query is one head of one row; a task holds up to ATTN_MAX_QUERIES of them that
 * share a KV head and a stream: rows first_row … times some of the heads of the group.
 *
 * Arithmetic of one query, whatever the task around it: keys go in chunks of
 * KV_CHUNK_TOKENS absolute positions. A chunk's scores (dot products over the head's
 * columns in ascending order), their maximum m, the sum l of exp(s - m) and the weighted
 * sum o of the values in ascending order of keys make a partial (m, l, o). Partials merge
 * in ascending order within a segment of ATTN_SEGMENT_CHUNKS chunks, segments likewise.
 * A chunk without a visible key is left out. Long contexts are cut between threads at
 * segments only, so the result doesn't depend on the cut.
 * [FlashAttention: Dao et al. 2022, arXiv 2205.14135; split over keys: Flash-Decoding] */
#ifndef CHIPS_CPU_ATTENTION_H
#define CHIPS_CPU_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "chips/cpu/drop.h"
#include "chips/kv_layout.h"
#include "chips/program.h"

#define ATTN_MAX_QUERIES 32u
#define ATTN_SEGMENT_CHUNKS 4u
#define ATTN_SEGMENT_TOKENS (ATTN_SEGMENT_CHUNKS * KV_CHUNK_TOKENS)
#define ATTN_MAX_DIM 1024u      /* of k_dim and v_dim */

struct attn_task {
    const struct attn_args *args;
    const struct kv_layout *layout;
    sid             state;
    const void     *kv_pages;       /* base of the pool */
    const uint32_t *pages;          /* the stream's page table */
    uint32_t        n_keys;         /* positions in the stream's cache, this step's included */
    uint32_t        kv_head;
    uint32_t        first_head, n_heads;    /* of the group: 0 .. n_heads/n_kv_heads */
    uint32_t        first_pos, n_rows;      /* n_rows * n_heads <= ATTN_MAX_QUERIES */
    const float    *q;              /* row 0 of the task, head 0 of the model */
    size_t          q_stride;       /* floats from row to row */
    float          *out;            /* likewise */
    size_t          out_stride;
    const float    *sinks;          /* [n_heads of the model], or NULL */
    const float    *slopes;         /* ALiBi, [n_heads of the model], or NULL */
    const float    *relative;       /* relative buckets by distance: [n_heads of the model]
                                     * [relative_stride(max_distance)], or NULL */
    /* NULL: all segments here, result to out. Else: segment `segment` alone, its partial
     * of query i to partial + i * partial_stride: m, l, then v_dim floats. */
    float          *partial;
    size_t          partial_stride;
    uint32_t        segment;
    struct drop     drop;           /* of weights, in training only; columns are positions of keys */
    uint64_t        drop_row;       /* of query 0 of head 0 of the model; a row per head */
    void           *scratch;        /* attn_scratch_bytes(), 64-byte aligned */
};

#define ATTN_DROP_OPERAND 7u        /* what drop_of() takes for the weights */

/* A worker's scratch for tasks of these dimensions. */
size_t attn_scratch_bytes(uint32_t k_dim, uint32_t v_dim);

/* Keys that the query at pos may see: [*lo, *hi). */
static inline void attn_span(const struct attn_args *a, uint32_t pos, uint32_t n_keys,
                             uint32_t *lo, uint32_t *hi)
{
    const uint32_t w = a->window;

    *lo = 0;
    *hi = pos + 1 < n_keys ? pos + 1 : n_keys;
    switch (a->mask) {
    case MASK_CAUSAL:
        if (w > 0 && pos >= w)
            *lo = pos - w + 1;
        break;
    case MASK_CHUNKED:
        if (w > 0)
            *lo = pos / w * w;
        break;
    case MASK_SYMMETRIC:
        *lo = pos > w / 2 ? pos - w / 2 : 0;
        *hi = n_keys - pos > w / 2 + 1 ? pos + w / 2 + 1 : n_keys;
        break;
    case MASK_NONE:
        *hi = n_keys;
        break;
    }
}

/* ALiBi's slopes (Press et al. 2021, arXiv 2108.12409), for any number of heads. */
void attn_slopes(float *slopes, uint32_t n_heads, float max_bias);

#endif
