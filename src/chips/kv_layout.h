/* kv_layout.h: how keys and values lie in the pages of the cache.
 *
 * A page holds KV_PAGE_TOKENS consecutive positions of one stream for all KV
 * states of a program. Within a page each state has a K part and a V part, each
 * [n_kv_heads] of:
 *   K, F32/F16/BF16: [page_tokens/16][dim][16 tokens]   (BF16: [dim/2][16][2])
 *   K, Q8_0:         [page_tokens/16][dim/4][16][4] int8, then scales
 *                    [page_tokens/16][dim/32][16] f32
 *   V:               [page_tokens][dim] (Q8_0: int8 then f32 scales [page_tokens][dim/32])
 * so that sixteen scores come out of one register without a horizontal sum, for
 * one query row as for many, in the same order of additions: score(q, k) adds
 * over dim ascending. dim, of K and of V, is padded up to a multiple of 4 (BF16: 2,
 * Q8_0: 32); padding is written as zeros.
 *
 * Rounding. F16 and BF16: to nearest even, NaN stays NaN. Q8_0, per 32 columns of one
 * token's head (missing columns count as zeros): amax = max |x|, d = amax / 127 in f32,
 * q = x / d (an f32 division) rounded half to even and clamped to -127..127; all zeros
 * when d is 0. A block with a NaN or an infinity gets d = NaN and q = 0, so that the
 * result shows it. Read back: q * d in f32. Scales stay f32.
 *
 * The layout is the same for every instruction set. Pages belong to
 * infrastructure/kv; this file knows only addresses. Thread-safe. */
#ifndef CHIPS_KV_LAYOUT_H
#define CHIPS_KV_LAYOUT_H

#include <stdint.h>

#include "base/err.h"
#include "chips/dtype.h"
#include "chips/program.h"

#define KV_PAGE_TOKENS 64u      /* a multiple of KV_LANES, a power of two */
#define KV_LANES 16u
/* Attention works through keys in chunks of this many absolute positions and merges
 * the chunks in ascending order: the reason why bits do not depend on batching. */
#define KV_CHUNK_TOKENS 512u

struct kv_part {                /* one state's place in a page */
    uint64_t k_offset, v_offset;            /* bytes from the page's start */
    uint64_t k_head_bytes, v_head_bytes;    /* from one head to the next */
    uint32_t n_kv_heads, k_dim, v_dim;
    uint32_t k_pad, v_pad;                  /* k_dim, v_dim with padding */
};

struct kv_layout {
    enum dtype k_dtype, v_dtype;    /* F32, F16, BF16 or Q8_0 */
    uint64_t   page_bytes;          /* a multiple of 64 */
    uint32_t   n_parts;             /* prog_n_states; STATE_FIXED ones have n_kv_heads 0 */
    struct kv_part *parts;          /* [n_parts], index sid - 1; owned */
};

/* Columns of a head as stored, K and V alike; the added ones are zeros. */
static inline uint32_t kv_pad(enum dtype dtype, uint32_t dim)
{
    const uint32_t m = dtype == DTYPE_Q8_0 ? 32 : dtype == DTYPE_BF16 ? 2 : 4;

    return (dim + m - 1) / m * m;
}
/* Where the f32 scales of a head's K or V part begin, counted from the part's start for
 * that head (Q8_0 only): after KV_PAGE_TOKENS * kv_pad int8. */
static inline uint64_t kv_scales_at(uint32_t dim)
{
    return (uint64_t)KV_PAGE_TOKENS * kv_pad(DTYPE_Q8_0, dim);
}

/* WATT_EINVAL for a dtype that is not one of the four, WATT_ENOMEM. */
int  kv_layout_init(struct kv_layout *l, const struct program *p, enum dtype k_dtype,
                    enum dtype v_dtype, struct err *e) MUST_CHECK;
void kv_layout_deinit(struct kv_layout *l);
/* Bytes that one position takes over all KV states. */
uint64_t kv_layout_token_bytes(const struct kv_layout *l);

/* Scalar access, for the interpreter and tests: one token's vector of one head.
 * Writing rounds to the dtype exactly as the fast kernels do. token in
 * 0..KV_PAGE_TOKENS-1. */
void kv_write_k(const struct kv_layout *l, void *page, sid s, uint32_t head, uint32_t token,
                const float *k);
void kv_write_v(const struct kv_layout *l, void *page, sid s, uint32_t head, uint32_t token,
                const float *v);
void kv_read_k(const struct kv_layout *l, const void *page, sid s, uint32_t head, uint32_t token,
               float *k);
void kv_read_v(const struct kv_layout *l, const void *page, sid s, uint32_t head, uint32_t token,
               float *v);

#endif
